//! Where a CQL directory is: `cql://user:password@host:port,host2:port/keyspace?datacenter=eu&serial=SERIAL`.

use crate::DirectoryError;
use cellar_model::Secret;
use percent_encoding::percent_decode_str;
use scylla::statement::{Consistency, SerialConsistency};

/// A keyspace's name at most, by the store's own rule.
const KEYSPACE_BYTES_MAX: usize = 48;

/// Which replicas decide a conditional write. One for a keyspace, for good: two writers who ask
/// different ones can both be told "applied".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SerialLevel {
    /// A majority of all replicas in all datacenters.
    #[default]
    Everywhere,
    /// A majority of the replicas in one datacenter, which therefore must be the only one.
    OneDatacenter,
}

impl SerialLevel {
    /// As the URL and the store have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            SerialLevel::Everywhere => "SERIAL",
            SerialLevel::OneDatacenter => "LOCAL_SERIAL",
        }
    }

    pub(crate) fn of_writes(self) -> SerialConsistency {
        match self {
            SerialLevel::Everywhere => SerialConsistency::Serial,
            SerialLevel::OneDatacenter => SerialConsistency::LocalSerial,
        }
    }

    pub(crate) fn of_reads(self) -> Consistency {
        match self {
            SerialLevel::Everywhere => Consistency::Serial,
            SerialLevel::OneDatacenter => Consistency::LocalSerial,
        }
    }
}

/// `Debug` shows no password: it is a `Secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CqlUrl {
    /// Where to begin; the others are learned from these.
    pub(crate) nodes: Vec<String>,
    pub(crate) login: Option<(String, Secret)>,
    /// **Invariant:** lower-case letters, digits and underscores, so that it needs no quotes.
    pub(crate) keyspace: String,
    /// Whose nodes are asked first. None: any.
    pub(crate) datacenter: Option<String>,
    pub(crate) serial: SerialLevel,
}

impl CqlUrl {
    pub(crate) const SCHEME: &'static str = "cql://";

    /// What is wrong is not quoted: it may hold the password.
    pub(crate) fn parse(url: &Secret) -> Result<Self, DirectoryError> {
        Self::read(url.reveal()).ok_or(DirectoryError::BadUrl)
    }

    fn read(url: &str) -> Option<Self> {
        let rest = url.strip_prefix(Self::SCHEME)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, keyspace) = rest.split_once('/')?;
        let (login, nodes) = match authority.rsplit_once('@') {
            Some((login, nodes)) => (Some(login), nodes),
            None => (None, authority),
        };
        let login = match login {
            None => None,
            Some(login) => {
                let (user, password) = login.split_once(':')?;
                Some((decoded(user)?, Secret::new(decoded(password)?)))
            }
        };
        let nodes: Vec<String> = nodes.split(',').map(str::to_owned).collect();
        if nodes.iter().any(String::is_empty) || !is_keyspace(keyspace) {
            return None;
        }
        let mut read =
            Self { nodes, login, keyspace: keyspace.to_owned(), datacenter: None, serial: SerialLevel::default() };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=')? {
                ("datacenter", name) if !name.is_empty() => read.datacenter = Some(decoded(name)?),
                ("serial", "SERIAL") => read.serial = SerialLevel::Everywhere,
                ("serial", "LOCAL_SERIAL") => read.serial = SerialLevel::OneDatacenter,
                // A misspelt option must not become a default.
                _ => return None,
            }
        }
        Some(read)
    }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn is_keyspace(name: &str) -> bool {
    let ordinary = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    name.len() <= KEYSPACE_BYTES_MAX
        && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && name.bytes().all(ordinary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_nodes_login_keyspace_and_options() {
        let url = Secret::new("cql://me:p%40ss@10.0.0.1:9042,10.0.0.2/cellar?datacenter=eu&serial=LOCAL_SERIAL".into());
        let read = CqlUrl::parse(&url).unwrap();
        assert_eq!(read.nodes, ["10.0.0.1:9042", "10.0.0.2"]);
        assert_eq!(read.login, Some(("me".into(), Secret::new("p@ss".into()))));
        assert_eq!((read.keyspace.as_str(), read.datacenter.as_deref()), ("cellar", Some("eu")));
        assert_eq!(read.serial, SerialLevel::OneDatacenter);
        assert!(!format!("{read:?}").contains("p@ss"));
        assert_eq!(CqlUrl::read("cql://host/cellar").unwrap().serial, SerialLevel::Everywhere);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "postgres://host/cellar",
            "cql://host",
            "cql://host/",
            "cql://host/Cellar",
            "cql:///cellar",
            "cql://host,/cellar",
            "cql://user@host/cellar",
            "cql://host/cellar?serial=QUORUM",
            "cql://host/cellar?datacentre=eu",
        ] {
            assert_eq!(CqlUrl::read(bad), None, "{bad}");
        }
    }
}
