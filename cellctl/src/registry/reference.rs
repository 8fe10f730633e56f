//! The name of an image: `host/repository:tag`, or `host/repository@sha256:…`.

use cellar_model::Digest;
use std::fmt;

/// As the distribution protocol has it.
const TAG_BYTES_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 255;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// With its port, if one is said.
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) at: At,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    /// Without TLS nothing is said beyond this machine.
    pub(super) fn scheme(&self) -> &'static str {
        let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
        if is_loopback(name) { "http" } else { "https" }
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl std::str::FromStr for Reference {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let odd = || format!("{text:?} is no image: write oci://host/repository:tag, or …@sha256:<64 hex digits>");
        let (host, rest) = text.split_once('/').ok_or_else(odd)?;
        let (repository, at) = match rest.split_once('@') {
            Some((repository, digest)) => (repository, At::Digest(digest.parse().map_err(|_| odd())?)),
            None => {
                let (repository, tag) = rest.rsplit_once(':').ok_or_else(odd)?;
                (repository, At::Tag(tag.to_owned()))
            }
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_host = !host.is_empty() && host.bytes().all(|byte| plain(byte) || matches!(byte, b':' | b'[' | b']'));
        let is_part = |part: &str| {
            let lower = part.bytes().all(|byte| plain(byte) && !byte.is_ascii_uppercase());
            lower && part.starts_with(|first: char| first.is_ascii_alphanumeric())
        };
        let is_repository = repository.len() <= NAME_BYTES_MAX && repository.split('/').all(is_part);
        let is_at = match &at {
            At::Digest(_) => true,
            At::Tag(tag) => {
                let first = tag.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_');
                first && tag.len() <= TAG_BYTES_MAX && tag.bytes().all(plain)
            }
        };
        if !(is_host && is_repository && is_at) {
            return Err(odd());
        }
        Ok(Self { host: host.to_owned(), repository: repository.to_owned(), at })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Tag(tag) => f.write_str(tag),
            At::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if matches!(self.at, At::Tag(_)) { ':' } else { '@' };
        write!(f, "{}/{}{between}{}", self.host, self.repository, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_host_repository_and_tag_or_digest() {
        let digest = Digest::of(b"manifest");
        for good in
            ["registry.example.org/acme/policies/night:1.4.2", "localhost:5000/a:b", &format!("[::1]:80/a/b@{digest}")]
        {
            assert_eq!(good.parse::<Reference>().unwrap().to_string(), good);
        }
        for odd in [
            "",
            "host",
            "host/repository",
            "host/Upper:1",
            "/a:1",
            "host/a:",
            "host/a/../b:1",
            "host/a:1 2",
            "host/a@sha256:00",
            "user:password@host/a:1",
            "host?/a:1",
            "host/a//b:1",
            "host/a:.1",
        ] {
            assert!(odd.parse::<Reference>().is_err(), "{odd}");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        let scheme = |host: &str| format!("{host}/a:b").parse::<Reference>().unwrap().scheme();
        for here in ["localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000"] {
            assert_eq!(scheme(here), "http", "{here}");
        }
        for there in ["registry.example.org", "10.0.0.1:5000", "localhost.example.org", "127.0.0.1.example.org"] {
            assert_eq!(scheme(there), "https", "{there}");
        }
    }
}
