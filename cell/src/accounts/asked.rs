//! What was asked under an intent, as the intent's row keeps it: a repeat that asks something else is refused.
//!
//! It is kept as a hash that contains the e-mail's keyed hash, so that the row cannot be used to test an address
//! either. There is one under each pepper, so that processes of other sets of peppers know it again.

use cellar_directory::{EmailHash, PepperId};
use cellar_model::BodyHash;

const ID_BYTES: usize = size_of::<PepperId>();
const PART_BYTES: usize = ID_BYTES + size_of::<BodyHash>();

/// Under what is hashed without an e-mail, and so without a pepper.
const NO_PEPPER: PepperId = PepperId([0; ID_BYTES]);

/// **Invariant:** one or more, each under another pepper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked(Vec<(PepperId, BodyHash)>);

/// What comparing with an earlier request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Same,
    Other,
    /// Every pepper that it was kept under is gone.
    Unknown,
}

impl Asked {
    /// An e-mail, and with it `rest`.
    pub(super) fn of(emails: &[EmailHash], rest: &[&[u8]]) -> Self {
        let part = |email: &EmailHash| {
            let mut parts: Vec<&[u8]> = vec![&email.hash];
            parts.extend(rest);
            (email.pepper, BodyHash::of(&parts))
        };
        Self(emails.iter().map(part).collect())
    }

    /// Nothing but the intent itself.
    pub(super) fn of_the_intent() -> Self {
        Self(vec![(NO_PEPPER, BodyHash::of(&[]))])
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(pepper, hash)| pepper.0.iter().chain(&hash.0).copied()).collect()
    }

    pub(super) fn compare(&self, kept: &[u8]) -> Compared {
        let kept: Vec<_> = kept.chunks_exact(PART_BYTES).map(|part| part.split_at(ID_BYTES)).collect();
        for (pepper, hash) in &self.0 {
            if let Some((_, kept)) = kept.iter().find(|(id, _)| *id == pepper.0) {
                return if *kept == hash.0 { Compared::Same } else { Compared::Other };
            }
        }
        Compared::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email(pepper: u8, hash: u8) -> EmailHash {
        EmailHash { pepper: PepperId([pepper; 4]), hash: [hash; 32] }
    }

    #[test]
    fn what_was_asked_is_known_again_under_any_pepper_that_both_have() {
        let both = Asked::of(&[email(1, 7), email(2, 8)], &[b"pro"]);
        let kept = both.to_bytes();
        assert_eq!(both.compare(&kept), Compared::Same);
        assert_eq!(Asked::of(&[email(2, 8)], &[b"pro"]).compare(&kept), Compared::Same);
        assert_eq!(Asked::of(&[email(2, 9)], &[b"pro"]).compare(&kept), Compared::Other);
        assert_eq!(Asked::of(&[email(2, 8)], &[b"free"]).compare(&kept), Compared::Other);
        assert_eq!(Asked::of(&[email(3, 8)], &[b"pro"]).compare(&kept), Compared::Unknown);
        assert_eq!(both.compare(&Asked::of(&[email(1, 7)], &[b"pro"]).to_bytes()), Compared::Same);
        assert_eq!(both.compare(&[]), Compared::Unknown);
        assert_eq!(Asked::of_the_intent().compare(&Asked::of_the_intent().to_bytes()), Compared::Same);
    }
}
