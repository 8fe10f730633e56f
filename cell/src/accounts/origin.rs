//! Where a log-in came from, as the front door saw it: shown to its user, who should know it again.

use cellar_model::header;
use cellar_model::wire::{Device, SeenDevice};
use http::HeaderMap;
use std::net::IpAddr;

/// Browsers' are some 150 bytes.
const USER_AGENT_BYTES_MAX: usize = 256;

#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// None where no front door has written it.
    pub(super) address: Option<IpAddr>,
    user_agent: Option<String>,
}

impl Origin {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let address = headers.get(header::CLIENT_ADDRESS).and_then(|value| value.to_str().ok()?.parse().ok());
        let said = headers.get(http::header::USER_AGENT).map(|value| cleaned(value.as_bytes()));
        Self { address, user_agent: said.filter(|said| !said.is_empty()) }
    }

    pub(super) fn seen(&self, device: &Device) -> SeenDevice {
        SeenDevice {
            name: device.name.clone(),
            platform: device.platform.clone(),
            address: self.address.map(|address| address.to_string()),
            user_agent: self.user_agent.clone(),
        }
    }
}

/// As much of it as is kept, without what could do something to whoever prints it.
fn cleaned(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let mut kept = String::new();
    for character in said.chars().filter(|character| !character.is_control()) {
        if kept.len() + character.len_utf8() > USER_AGENT_BYTES_MAX {
            break;
        }
        kept.push(character);
    }
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_bounded_and_without_control_characters() {
        assert_eq!(cleaned(b" curl/8\t\x1b[2J "), "curl/8[2J");
        assert_eq!(cleaned("\u{85}é\u{9b}".as_bytes()), "é");
        assert_eq!(cleaned(&[0xff, b'a']), "\u{fffd}a");
        assert_eq!(cleaned("é".repeat(200).as_bytes()).len(), USER_AGENT_BYTES_MAX);
    }
}
