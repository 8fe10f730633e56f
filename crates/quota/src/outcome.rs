//! What is kept for an idempotency key: enough to give the first answer again, byte for byte.
//!
//! `fence` (8 bytes, big-endian: the script compares it), hash of the body (16), postcard of the
//! answer. The answer carries its slots' names, so that a repeat needs no old catalog.

use cellar_model::{Answer, BodyHash, Fence};

const HEAD_BYTES: usize = 24;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) body: BodyHash,
    pub(crate) answer: Answer,
}

impl Outcome {
    pub(crate) fn encode(&self, fence: Fence) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(192);
        bytes.extend_from_slice(&fence.0.to_be_bytes());
        bytes.extend_from_slice(&self.body.0);
        // Writing plain data into memory cannot fail.
        postcard::to_extend(&self.answer, bytes).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let body = BodyHash(bytes.get(8..HEAD_BYTES)?.try_into().ok()?);
        let answer = postcard::from_bytes(&bytes[HEAD_BYTES..]).ok()?;
        Some(Self { body, answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::{Effect, Micros, Revision, SlotAnswer, SlotName, TierName, Unit, Version};

    #[test]
    fn an_outcome_of_two_slots_fits_two_hundred_bytes_and_reads_back() {
        let slot = |name: &str, unit: Unit| SlotAnswer {
            slot: SlotName::new(name).unwrap(),
            unit,
            limit: 2_000_000,
            remaining: 1_998_720,
            resets_at: Micros(1_700_158_546_680_590),
            granted: 0,
        };
        let answer = Answer {
            charge: None,
            version: Version(18),
            tier: TierName::new("enterprise").unwrap(),
            catalog_revision: Revision(7),
            at: Micros(1_700_158_546_680_590),
            slots: vec![slot("per-minute", Unit::requests()), slot("monthly", Unit::tokens())],
            effect: Effect::Plain,
        };
        let outcome = Outcome { body: BodyHash([7; 16]), answer };
        let bytes = outcome.encode(Fence(5));
        assert!(bytes.len() <= 200, "{} bytes", bytes.len());
        assert_eq!(Outcome::decode(&bytes), Some(outcome));
        assert_eq!(bytes[..8], 5u64.to_be_bytes());
    }
}
