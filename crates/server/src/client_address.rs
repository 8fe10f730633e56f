//! Where a caller is: the other end of the connection, or what a proxy that is trusted says of it.

use cellar_model::header as ours;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use std::net::IpAddr;
use std::str::FromStr;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies and networks that a configuration may name.
const NETWORKS_MAX: usize = 256;

/// The other end of a connection, as the listener saw it. In every request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Whose `X-Forwarded-For` is believed: addresses and networks (`10.0.0.0/8`). None by default, since anybody can
/// send that header.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct TrustedProxies(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl TrustedProxies {
    /// The caller's address. None of a request that came over no connection.
    ///
    /// Each proxy adds whom it heard to the end of the header, so it is read from the end: as far as the proxies
    /// are trusted, and not one entry further. What stands before that, the caller may have made up.
    pub fn caller(&self, parts: &Parts) -> Option<IpAddr> {
        let mut caller = parts.extensions.get::<Peer>()?.0.to_canonical();
        let said: Vec<&str> =
            parts.headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        for entry in said.iter().rev().flat_map(|value| value.rsplit(',')) {
            if !self.trusts(caller) {
                break;
            }
            let Ok(heard) = entry.trim().parse::<IpAddr>() else { break };
            caller = heard.to_canonical();
        }
        Some(caller)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// Tells the cell where the caller is. Written after the headers were stripped of everything only we may write.
pub fn write_caller_address(headers: &mut HeaderMap, address: IpAddr) {
    // Digits, dots, colons and letters: always a header.
    if let Ok(value) = HeaderValue::from_str(&address.to_string()) {
        headers.insert(HeaderName::from_static(ours::CLIENT_ADDRESS), value);
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => same_start(network.octets(), address.octets(), self.bits),
            (IpAddr::V6(network), IpAddr::V6(address)) => same_start(network.octets(), address.octets(), self.bits),
            _ => false,
        }
    }
}

fn same_start<const N: usize>(a: [u8; N], b: [u8; N], bits: u8) -> bool {
    let (whole, rest) = (usize::from(bits / 8), bits % 8);
    let last = |octets: [u8; N]| octets.get(whole).map_or(0, |octet| octet >> (8 - rest));
    a[..whole] == b[..whole] && (rest == 0 || last(a) == last(b))
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let odd = || format!("{text:?} is no address and no network like 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| odd())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| odd())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(bits_max);
        if bits > bits_max { Err(odd()) } else { Ok(Self { address, bits }) }
    }
}

impl TryFrom<Vec<String>> for TrustedProxies {
    type Error = String;
    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        if texts.len() > NETWORKS_MAX {
            return Err(format!("at most {NETWORKS_MAX} trusted proxies"));
        }
        texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let mut request = http::Request::builder();
        for value in forwarded {
            request = request.header(FORWARDED_FOR, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.insert(Peer(peer.parse().unwrap()));
        let trusted: Vec<String> = trusted.iter().map(|text| (*text).to_owned()).collect();
        TrustedProxies::try_from(trusted).unwrap().caller(&parts).unwrap().to_string()
    }

    #[test]
    fn what_a_stranger_says_of_himself_is_not_believed() {
        assert_eq!(caller(&[], "203.0.113.7", &["10.0.0.1"]), "203.0.113.7");
        assert_eq!(caller(&["10.0.0.0/8"], "203.0.113.7", &["1.2.3.4"]), "203.0.113.7");
    }

    #[test]
    fn trusted_proxies_are_believed_and_nobody_before_them() {
        let trusted = ["10.0.0.0/8", "2001:db8::/33"];
        assert_eq!(caller(&trusted, "10.1.2.3", &["198.51.100.9"]), "198.51.100.9");
        // The caller has sent the first entry himself.
        assert_eq!(caller(&trusted, "10.1.2.3", &["6.6.6.6, 198.51.100.9"]), "198.51.100.9");
        assert_eq!(caller(&trusted, "10.1.2.3", &["6.6.6.6", "198.51.100.9, 10.9.9.9"]), "198.51.100.9");
        assert_eq!(caller(&trusted, "::ffff:10.1.2.3", &["198.51.100.9"]), "198.51.100.9");
        assert_eq!(caller(&trusted, "2001:db8:1::1", &["198.51.100.9"]), "198.51.100.9");
        assert_eq!(caller(&trusted, "2001:db8:8000::1", &["198.51.100.9"]), "2001:db8:8000::1");
        assert_eq!(caller(&trusted, "10.1.2.3", &["unknown"]), "10.1.2.3");
        assert_eq!(caller(&trusted, "10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn a_network_that_is_none_is_refused() {
        for text in ["10.0.0.0/33", "10.0.0", "", "::/129", "a/8", "10.0.0.0/x"] {
            assert!(TrustedProxies::try_from(vec![text.to_owned()]).is_err(), "{text}");
        }
    }
}
