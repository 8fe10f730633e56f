//! The secret half of a key that signs policies, in a file of its owner's.

use crate::files::{create_private, mode_of};
use crate::message::message;
use cellar_model::{Digest, PolicyKey, PolicyName, PolicySignature, SignatureBytes, VersionNumber};
use ed25519_dalek::Signer;
use rand::Rng;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What a key file begins with: a file of another kind is not taken for a key.
const PREFIX: &str = "cellar-policy-signing-key ed25519 ";
/// A key file is one line of 98 bytes.
const FILE_BYTES_MAX: u64 = 1024;
/// Who else may read it may sign.
const OTHERS: u32 = 0o077;

/// `Debug` shows its public half's id. The secret is overwritten when it is dropped.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// Why there is no key to sign with. What is in the file stays out of all of them.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    #[error("there is no key at {}: `cellctl policy keys new` draws one", .0.display())]
    Missing(PathBuf),
    #[error("{} cannot be read or written", .path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} may be read by others than its owner: `chmod 600` it, and draw a new key if others may have read it", .0.display())]
    Open(PathBuf),
    #[error("{} holds no key that signs policies", .0.display())]
    Odd(PathBuf),
    #[error("{} is there already, and is not written over", .0.display())]
    Taken(PathBuf),
}

impl SigningKey {
    pub fn generate(rng: &mut impl Rng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    pub fn public(&self) -> PolicyKey {
        PolicyKey(self.0.verifying_key().to_bytes())
    }

    /// Its owner's word that the component with this digest is this version of this policy.
    pub fn sign(
        &self,
        name: &PolicyName,
        version: VersionNumber,
        digest: &Digest,
        certificate: Option<&Digest>,
    ) -> PolicySignature {
        let signature = self.0.sign(&message(name, version, digest, certificate));
        PolicySignature {
            name: name.clone(),
            version,
            digest: *digest,
            certificate: certificate.copied(),
            key: self.public(),
            signature: SignatureBytes(signature.to_bytes()),
        }
    }

    /// Reads a file that nobody but its owner may read.
    pub fn read(path: &Path) -> Result<Self, SigningKeyError> {
        let failed = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => SigningKeyError::Missing(path.to_owned()),
            _ => SigningKeyError::File { path: path.to_owned(), cause },
        };
        let odd = || SigningKeyError::Odd(path.to_owned());
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.len() > FILE_BYTES_MAX || !metadata.is_file() {
            return Err(odd());
        }
        if mode_of(&metadata) & OTHERS != 0 {
            return Err(SigningKeyError::Open(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let digits = text.trim_end().strip_prefix(PREFIX).ok_or_else(odd)?;
        let mut seed = [0; 32];
        hex::decode_to_slice(digits, &mut seed).map_err(|_| odd())?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Writes it into a file that is not there yet, its owner's only from the first byte.
    pub fn write_new(&self, path: &Path) -> Result<(), SigningKeyError> {
        let text = format!("{PREFIX}{}\n", hex::encode(self.0.as_bytes()));
        create_private(path, text.as_bytes()).map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => SigningKeyError::Taken(path.to_owned()),
            _ => SigningKeyError::File { path: path.to_owned(), cause },
        })
    }

    /// The key in `path`, drawn into it if there is none yet.
    pub fn read_or_draw(path: &Path, rng: &mut impl Rng) -> Result<Self, SigningKeyError> {
        match Self::read(path) {
            Err(SigningKeyError::Missing(_)) => {
                let key = Self::generate(rng);
                key.write_new(path)?;
                Ok(key)
            }
            read => read,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_is_its_owners_only_and_another_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys").join("acme");
        let key = SigningKey::read_or_draw(&path, &mut rand::rng()).unwrap();
        assert_eq!(SigningKey::read_or_draw(&path, &mut rand::rng()).unwrap().public(), key.public());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(key.write_new(&path), Err(SigningKeyError::Taken(_))));

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let open = SigningKey::read(&path).unwrap_err();
        assert!(matches!(open, SigningKeyError::Open(_)) && open.to_string().contains("chmod 600"), "{open}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for odd in [&b""[..], b"cellar-policy-signing-key ed25519 00", b"\xff", &[b'x'; 5000]] {
            std::fs::write(&path, odd).unwrap();
            assert!(SigningKey::read(&path).is_err());
        }
        assert!(matches!(SigningKey::read(folder.path()), Err(SigningKeyError::Odd(_))));
    }

    #[test]
    fn the_secret_is_in_no_debug_text() {
        let key = SigningKey::generate(&mut rand::rng());
        let (shown, secret) = (format!("{key:?}"), hex::encode(key.0.as_bytes()));
        assert!(shown.contains(&key.public().id().to_string()) && !shown.contains(&secret[..16]), "{shown}");
    }
}
