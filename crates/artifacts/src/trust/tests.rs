//! Each rule refuses what breaks it, by its own word.

use super::*;
use crate::signing_key::SigningKey;
use cellar_model::SignatureBytes;
use proptest::prelude::*;
use rand_chacha::rand_core::SeedableRng;

const V: VersionNumber = VersionNumber::new(1, 4, 2);

fn key(seed: u64) -> SigningKey {
    SigningKey::generate(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed))
}

fn name(text: &str) -> PolicyName {
    PolicyName::new(text).unwrap()
}

fn trust(lines: &[(&str, &SigningKey, &str)]) -> Trust {
    let text: String =
        lines.iter().map(|(name, key, for_what)| format!("{name} {} {for_what}\n", key.public())).collect();
    Trust::parse(&text).unwrap()
}

#[test]
fn each_rule_that_fails_has_its_own_word() {
    let (acme, other) = (key(1), key(2));
    let trust = trust(&[("acme", &acme, "acme-*,night")]);
    let (policy, digest, report) = (name("acme-bucket"), Digest::of(b"component"), Digest::of(b"report"));
    let signed = acme.sign(&policy, V, &digest, Some(&report));
    let label = |name: &PolicyName, version, digest: &Digest, signature: Option<&PolicySignature>| {
        trust
            .verify(name, version, digest, signature)
            .map(|key| key.name.to_string())
            .map_err(|refusal| refusal.label())
    };
    assert_eq!(label(&policy, V, &digest, Some(&signed)), Ok("acme".to_owned()));
    assert_eq!(label(&policy, V, &digest, None), Err("unsigned"));
    assert_eq!(label(&policy, V, &Digest::of(b"else"), Some(&signed)), Err("other-bytes"));
    assert_eq!(label(&name("acme-other"), V, &digest, Some(&signed)), Err("other-name"));
    assert_eq!(label(&policy, VersionNumber::new(1, 4, 3), &digest, Some(&signed)), Err("other-version"));
    let by_other = other.sign(&policy, V, &digest, None);
    assert_eq!(label(&policy, V, &digest, Some(&by_other)), Err("unknown-key"));
    let foreign = acme.sign(&name("gcra"), V, &digest, None);
    assert_eq!(label(&name("gcra"), V, &digest, Some(&foreign)), Err("not-for-name"));

    // A certificate cannot be taken away, put in or changed, and no other key's word be passed off as this one's.
    let without = PolicySignature { certificate: None, ..signed.clone() };
    let changed = PolicySignature { certificate: Some(Digest::of(b"better")), ..signed.clone() };
    let borrowed = PolicySignature { key: acme.public(), ..by_other };
    for forged in [without, changed, borrowed] {
        assert_eq!(label(&policy, V, &digest, Some(&forged)), Err("forged"), "{forged:?}");
    }
    // Every label is one that a metric has from the start.
    assert_eq!(Refusal::LABELS.len(), 8);
    assert!(Refusal::LABELS.contains(&Refusal::OddVersion.label()));
}

#[test]
fn a_pattern_fits_what_it_says() {
    let fits = |pattern: &str, policy: &str| pattern.parse::<Pattern>().unwrap().fits(&name(policy));
    assert!(fits("*", "gcra") && fits("gcra", "gcra") && fits("acme-*", "acme-") && fits("acme-*", "acme-bucket"));
    assert!(!fits("gcra", "gcra2") && !fits("acme-*", "acme") && !fits("acme-*", "other-acme-bucket"));
    for odd in ["", "a*b", "**", "Acme-*", "a b", "é*"] {
        assert!(odd.parse::<Pattern>().is_err(), "{odd}");
    }
}

#[test]
fn a_file_of_keys_is_refused_at_its_first_mistake() {
    let (a, b) = (key(1).public(), key(2).public());
    let good = format!("# ours\n\nacme {a} acme-*,night\n  bob   {b}  *  \n");
    let read = Trust::parse(&good).unwrap();
    assert_eq!(read.keys().len(), 2);
    assert_eq!(read.keys()[0].to_string(), format!("acme {a} acme-*,night"));
    assert_eq!(Trust::parse("").unwrap().keys(), []);
    let said = |text: &str| Trust::parse(text).unwrap_err().to_string();
    assert!(said(&format!("{good}carol {a} *")).contains("line 5 names ed25519:"));
    assert!(said(&format!("{good}acme {} *", key(3).public())).contains("line 5 names acme"));
    assert!(said(&format!("acme {a}")).contains("line 1") && said(&format!("acme {a} * more")).contains("4 words"));
    assert!(said(&format!("acme {a} x,,y")).contains("\"\""));
    assert!(said("acme ed25519:00 *").contains("64 hex digits"));
    // The neutral element: every message has a signature that a lax reader takes for its own.
    let weak = format!("weak ed25519:01{} *", "0".repeat(62));
    assert!(said(&weak).contains("no key of Ed25519"), "{}", said(&weak));
    let many: String = (0..=KEYS_MAX as u64).map(|n| format!("k{n} {} *\n", key(n).public())).collect();
    assert_eq!(Trust::parse(&many), Err(TrustError::TooMany));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Goal: what one bit of has changed, on either side, is never taken.
    #[test]
    fn no_changed_bit_is_taken(seed: u64, bit in 0usize..512, certified: bool) {
        let signer = key(seed);
        let trust = trust(&[("k", &signer, "*")]);
        let (policy, digest) = (name("p"), Digest::of(&seed.to_be_bytes()));
        let signed = signer.sign(&policy, V, &digest, certified.then_some(&digest));
        prop_assert!(trust.verify(&policy, V, &digest, Some(&signed)).is_ok());
        let mut bytes = signed.signature.0;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let changed = PolicySignature { signature: SignatureBytes(bytes), ..signed };
        prop_assert!(trust.verify(&policy, V, &digest, Some(&changed)).is_err());
    }
}
