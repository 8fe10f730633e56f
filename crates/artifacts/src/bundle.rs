//! A component with what travels with it: its signature, and the certificate that was signed with it.

use crate::certificate::{Certificate, CertificateError};
use crate::files::{read_bounded, write_whole};
use crate::image::SIGNATURE_BYTES_MAX;
use cellar_model::{ARTIFACT_BYTES_MAX, CERTIFICATE_BYTES_MAX, Digest, PolicySignature};
use std::io;
use std::path::{Path, PathBuf};

/// A policy as it is shipped. What is in it fits together: the signature is for this component and this certificate.
/// Whether it counts is for `Trust` to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    component: Vec<u8>,
    signature: PolicySignature,
    certificate: Option<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{} cannot be read or written", .path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} is not there: `cellctl policy sign` makes it", .0.display())]
    Unsigned(PathBuf),
    #[error("{} is no signature of a policy", .path.display())]
    OddSignature {
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
    #[error("the signature is for other bytes ({signed}; the component is {found}): sign it again")]
    OtherBytes { signed: Digest, found: Digest },
    #[error("the component has {bytes} bytes; at most {ARTIFACT_BYTES_MAX} are shipped")]
    TooLarge { bytes: usize },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Bundle {
    pub fn new(
        component: Vec<u8>,
        signature: PolicySignature,
        certificate: Option<Vec<u8>>,
    ) -> Result<Self, BundleError> {
        if component.len() > ARTIFACT_BYTES_MAX {
            return Err(BundleError::TooLarge { bytes: component.len() });
        }
        let found = Digest::of(&component);
        if signature.digest != found {
            return Err(BundleError::OtherBytes { signed: signature.digest, found });
        }
        Certificate::of_signed(certificate.as_deref(), signature.certificate.as_ref(), &found)?;
        Ok(Self { component, signature, certificate })
    }

    /// Where the signature of the component in this file is.
    pub fn signature_file(component: &Path) -> PathBuf {
        beside(component, "sig")
    }

    /// Where its certificate is, if it has one.
    pub fn certificate_file(component: &Path) -> PathBuf {
        beside(component, "cert")
    }

    /// Reads a component with its signature and its certificate beside it. A certificate that was not signed with it
    /// is none of its.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let component = read(path, ARTIFACT_BYTES_MAX)?;
        let file = Self::signature_file(path);
        let text = match read(&file, SIGNATURE_BYTES_MAX) {
            Err(BundleError::File { path, cause }) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(BundleError::Unsigned(path));
            }
            text => text?,
        };
        let signature: PolicySignature =
            serde_json::from_slice(&text).map_err(|cause| BundleError::OddSignature { path: file, cause })?;
        let certificate = match signature.certificate {
            Some(_) => Some(read(&Self::certificate_file(path), CERTIFICATE_BYTES_MAX)?),
            None => None,
        };
        Self::new(component, signature, certificate)
    }

    /// Writes all of it, the component last: where that is new, so is the rest.
    pub fn write(&self, path: &Path) -> Result<(), BundleError> {
        if let Some(certificate) = &self.certificate {
            write(&Self::certificate_file(path), certificate)?;
        }
        write(&Self::signature_file(path), &self.signature_text())?;
        write(path, &self.component)
    }

    /// Writes what goes beside a component that is there.
    pub fn write_beside(&self, path: &Path) -> Result<(), BundleError> {
        if let Some(certificate) = &self.certificate {
            write(&Self::certificate_file(path), certificate)?;
        }
        write(&Self::signature_file(path), &self.signature_text())
    }

    pub(crate) fn signature_text(&self) -> Vec<u8> {
        // Names, numbers and hex: there is nothing in it that JSON could refuse.
        let mut text = serde_json::to_vec_pretty(&self.signature).unwrap_or_default();
        text.push(b'\n');
        text
    }

    pub fn component(&self) -> &[u8] {
        &self.component
    }

    pub fn signature(&self) -> &PolicySignature {
        &self.signature
    }

    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// The certificate, read. It was when the bundle was made.
    pub fn certified(&self) -> Option<Certificate> {
        Certificate::read(self.certificate.as_deref()?, &self.signature.digest).ok()
    }
}

fn beside(component: &Path, ending: &str) -> PathBuf {
    let mut name = component.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{ending}"));
    component.with_file_name(name)
}

fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, BundleError> {
    read_bounded(path, bytes_max).map_err(|cause| BundleError::File { path: path.to_owned(), cause })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    write_whole(path, bytes).map_err(|cause| BundleError::File { path: path.to_owned(), cause })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::signing_key::SigningKey;
    use cellar_model::{PolicyName, VersionNumber};

    /// One that fits together, with a certificate or without.
    pub(crate) fn bundle(certified: bool) -> Bundle {
        let component = b"\0asm\x0d\0\x01\0 a component".to_vec();
        let digest = Digest::of(&component);
        let certificate = certified.then(|| {
            let finding = serde_json::json!({ "property": "deterministic", "verdict": "holds", "cases": 3 });
            let report = serde_json::json!({
                "name": "acme-bucket", "version": "1.4.2", "digest": digest, "cases": 3, "findings": [finding],
            });
            report.to_string().into_bytes()
        });
        let (name, version) = (PolicyName::new("acme-bucket").unwrap(), VersionNumber::new(1, 4, 2));
        let signed = certificate.as_deref().map(Digest::of);
        let signature = SigningKey::generate(&mut rand::rng()).sign(&name, version, &digest, signed.as_ref());
        Bundle::new(component, signature, certificate).unwrap()
    }

    #[test]
    fn a_bundle_is_read_back_and_one_that_does_not_fit_together_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.wasm");
        for certified in [true, false] {
            let bundle = bundle(certified);
            bundle.write(&path).unwrap();
            assert_eq!(Bundle::read(&path).unwrap(), bundle);
            assert_eq!(bundle.certified().is_some(), certified);
        }
        // The certificate of an earlier one lies beside it, and is none of its.
        assert!(Bundle::certificate_file(&path).exists());
        std::fs::write(&path, b"another build").unwrap();
        assert!(matches!(Bundle::read(&path), Err(BundleError::OtherBytes { .. })));
        bundle(true).write(&path).unwrap();
        std::fs::write(Bundle::certificate_file(&path), b"{}").unwrap();
        assert!(matches!(Bundle::read(&path), Err(BundleError::Certificate(_))));
        std::fs::write(Bundle::signature_file(&path), vec![b' '; SIGNATURE_BYTES_MAX + 1]).unwrap();
        assert!(matches!(Bundle::read(&path), Err(BundleError::File { .. })));
        std::fs::write(Bundle::signature_file(&path), b"{").unwrap();
        assert!(matches!(Bundle::read(&path), Err(BundleError::OddSignature { .. })));
        std::fs::remove_file(Bundle::signature_file(&path)).unwrap();
        assert!(matches!(Bundle::read(&path), Err(BundleError::Unsigned(_))));
    }
}
