//! The bytes that a signature is made over.

use cellar_model::{Digest, PolicyName, VersionNumber};

/// What tells these signatures from any other that the same key may ever make.
const DOMAIN: &str = "cellar policy signature 1";

/// One line for each thing that is said, in this order, all of them always there.
///
/// **Invariant:** two different claims give different bytes. A name is of `[a-z0-9_-]`, a version has one spelling,
/// a digest is hex: none of them can hold the end of a line. What is signed today is verified for as long as anybody
/// keeps it, so that another form is another domain.
pub(crate) fn message(
    name: &PolicyName,
    version: VersionNumber,
    digest: &Digest,
    certificate: Option<&Digest>,
) -> Vec<u8> {
    let certificate = certificate.map_or_else(|| "none".to_owned(), Digest::to_string);
    format!("{DOMAIN}\nname {name}\nversion {version}\ncomponent {digest}\ncertificate {certificate}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn the_message_is_what_it_was() {
        let name = PolicyName::new("gcra").unwrap();
        let (component, report) = (Digest([0x11; 32]), Digest([0x22; 32]));
        let text = |certificate| {
            String::from_utf8(message(&name, VersionNumber::new(1, 4, 2), &component, certificate)).unwrap()
        };
        let (ones, twos) = ("11".repeat(32), "22".repeat(32));
        let expected = format!("cellar policy signature 1\nname gcra\nversion 1.4.2\ncomponent sha256:{ones}\n");
        assert_eq!(text(Some(&report)), format!("{expected}certificate sha256:{twos}\n"));
        assert_eq!(text(None), format!("{expected}certificate none\n"));
    }

    proptest! {
        #[test]
        fn different_claims_give_different_messages(
            claims in prop::collection::hash_set(("[a-c1-2_-]{1,3}", 0u32..3, 0u32..12, any::<bool>()), 2..40),
        ) {
            let messages: HashSet<Vec<u8>> = claims.iter().map(|(name, major, minor, certified)| {
                let certificate = certified.then(|| Digest::of(b"report"));
                let version = VersionNumber::new(*major, *minor, 0);
                message(&PolicyName::new(name).unwrap(), version, &Digest::of(b"component"), certificate.as_ref())
            }).collect();
            prop_assert_eq!(messages.len(), claims.len());
        }
    }
}
