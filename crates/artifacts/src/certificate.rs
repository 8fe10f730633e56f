//! A certificate: the report of a policy's properties, as its author signed it.

use cellar_model::{CERTIFICATE_BYTES_MAX, CertificateSummary, Digest, PolicyName, PolicyUpload};
use serde::Deserialize;

/// Of one report: a dozen properties are tested.
const FINDINGS_MAX: usize = 128;
/// A property's name is a few words.
const PROPERTY_BYTES_MAX: usize = 64;

/// What a certificate says that others than its reader by eye go by. Reports of later builds may say more.
#[derive(Clone, Debug, Deserialize)]
pub struct Certificate {
    pub name: PolicyName,
    /// As the component says it of itself: it may be published under another.
    pub version: String,
    digest: Option<Digest>,
    cases: u32,
    findings: Vec<Finding>,
}

#[derive(Clone, Debug, Deserialize)]
struct Finding {
    property: String,
    verdict: Verdict,
}

/// Closed: what a later build means by another word, this one cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Holds,
    Broken,
    Waived,
}

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("a certificate has at most {CERTIFICATE_BYTES_MAX} bytes, and this one {bytes}")]
    TooLarge { bytes: usize },
    #[error("it is no report of `cellctl policy certify`")]
    Odd(#[source] serde_json::Error),
    #[error("it is no report of `cellctl policy certify`: {0}")]
    Senseless(&'static str),
    #[error("it certifies another component ({certified}; this is {found}): certify the one that is signed")]
    OtherComponent { certified: Digest, found: Digest },
    #[error("the signature names no certificate: sign the component together with it")]
    NotSigned,
    #[error("the signature names a certificate ({0}) that did not come with it")]
    Missing(Digest),
    #[error("it is another certificate ({found}) than the one that was signed ({signed})")]
    OtherCertificate { signed: Digest, found: Digest },
}

impl Certificate {
    /// Reads the report of a component with `digest`.
    pub fn read(bytes: &[u8], digest: &Digest) -> Result<Self, CertificateError> {
        if bytes.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLarge { bytes: bytes.len() });
        }
        let certificate: Self = serde_json::from_slice(bytes).map_err(CertificateError::Odd)?;
        if certificate.findings.is_empty() || certificate.findings.len() > FINDINGS_MAX {
            return Err(CertificateError::Senseless("it has no findings, or too many"));
        }
        if certificate.findings.iter().any(|finding| finding.property.len() > PROPERTY_BYTES_MAX) {
            return Err(CertificateError::Senseless("a property's name is too long"));
        }
        let certified = certificate.digest.ok_or(CertificateError::Senseless("it names no component"))?;
        if certified != *digest {
            return Err(CertificateError::OtherComponent { certified, found: *digest });
        }
        Ok(certificate)
    }

    /// The certificate of a signed component: the one whose digest the signature holds (`signed`), or none on both
    /// sides.
    pub fn of_signed(
        bytes: Option<&[u8]>,
        signed: Option<&Digest>,
        component: &Digest,
    ) -> Result<Option<Self>, CertificateError> {
        match (bytes, signed) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(CertificateError::NotSigned),
            (None, Some(signed)) => Err(CertificateError::Missing(*signed)),
            (Some(bytes), Some(signed)) => {
                let found = Digest::of(bytes);
                if found != *signed {
                    return Err(CertificateError::OtherCertificate { signed: *signed, found });
                }
                Self::read(bytes, component).map(Some)
            }
        }
    }

    pub fn summary(&self) -> CertificateSummary {
        let named = |verdict: Verdict| -> Vec<String> {
            let found = self.findings.iter().filter(|finding| finding.verdict == verdict);
            found.map(|finding| finding.property.clone()).collect()
        };
        let held = named(Verdict::Holds).len();
        CertificateSummary {
            cases: self.cases,
            held: u32::try_from(held).unwrap_or(u32::MAX),
            broken: named(Verdict::Broken),
            waived: named(Verdict::Waived),
        }
    }
}

/// What the certificate of a policy on its way to a catalog says, which has to be the one that was signed.
pub fn certificate_of(upload: &PolicyUpload) -> Result<Option<CertificateSummary>, CertificateError> {
    let signed = upload.signature.as_ref().and_then(|signature| signature.certificate.as_ref());
    let bytes = upload.certificate.as_ref().map(String::as_bytes);
    let certificate = Certificate::of_signed(bytes, signed, &Digest::of(&upload.artifact.0))?;
    Ok(certificate.map(|certificate| certificate.summary()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(digest: &Digest, verdict: &str) -> Vec<u8> {
        let finding = serde_json::json!({
            "property": "deterministic", "sentence": "…", "verdict": verdict, "cases": 3, "counterexample": "…",
        });
        let report = serde_json::json!({
            "name": "gcra", "version": "1.0.0", "digest": digest, "promises": [], "seed": 1, "cases": 3,
            "findings": [finding], "fuel_most": 7, "of_a_later_build": true,
        });
        report.to_string().into_bytes()
    }

    #[test]
    fn a_report_is_read_for_its_own_component_only() {
        let component = Digest::of(b"component");
        let summary = |verdict: &str| Certificate::read(&report(&component, verdict), &component).unwrap().summary();
        assert_eq!((summary("holds").held, summary("holds").broken.len()), (1, 0));
        assert_eq!(summary("broken").broken, ["deterministic"]);
        assert_eq!(summary("waived").waived, ["deterministic"]);
        let said = |bytes: &[u8]| Certificate::read(bytes, &component).unwrap_err().to_string();
        assert!(said(&report(&Digest::of(b"else"), "holds")).contains("another component"));
        assert!(said(&report(&component, "perhaps")).contains("no report"));
        assert!(said(b"").contains("no report") && said(b"{}").contains("no report"));
        assert!(said(&vec![b' '; CERTIFICATE_BYTES_MAX + 1]).contains("at most"));
    }

    #[test]
    fn a_certificate_is_there_exactly_if_it_was_signed() {
        let component = Digest::of(b"component");
        let bytes = report(&component, "holds");
        let signed = Digest::of(&bytes);
        let read = |bytes: Option<&[u8]>, signed: Option<&Digest>| {
            Certificate::of_signed(bytes, signed, &component).map(|found| found.is_some())
        };
        assert!(!read(None, None).unwrap());
        assert!(read(Some(&bytes), Some(&signed)).unwrap());
        assert!(matches!(read(Some(&bytes), None), Err(CertificateError::NotSigned)));
        assert!(matches!(read(None, Some(&signed)), Err(CertificateError::Missing(_))));
        let other = Digest::of(b"other");
        assert!(matches!(read(Some(&bytes), Some(&other)), Err(CertificateError::OtherCertificate { .. })));
    }
}
