//! Which model counts how much: a table that is looked through as it is, since parameters are read at every call.

use cellar_policy_sdk::{Fixed, Problem, Request};

pub const MODELS_MAX: usize = 64;
/// As long as the value of an attribute may be.
pub const NAME_MAX_BYTES: usize = 64;

/// The name of the attribute, the weights of calls without it and of unknown models (0: refused), and an entry a
/// model. Names come with their length in a byte before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    bytes: Vec<u8>,
}

impl Weights {
    pub(crate) fn of<'n>(
        attribute: &str,
        default: u32,
        unknown: Option<u32>,
        named: impl ExactSizeIterator<Item = (&'n str, u32)>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let fits = |name: &str| (1..=NAME_MAX_BYTES).contains(&name.len());
        let length = format!("must have 1 to {NAME_MAX_BYTES} bytes");
        if !fits(attribute) {
            problems.push(Problem::new("/attribute", length.clone()));
        }
        if named.len() > MODELS_MAX {
            problems.push(Problem::new("/weights", format!("names {} models; at most {MODELS_MAX} fit", named.len())));
        }
        let mut bytes = Vec::new();
        append_name(attribute, &mut bytes);
        default.append(&mut bytes);
        unknown.unwrap_or(0).append(&mut bytes);
        for (name, weight) in named {
            if !fits(name) {
                problems.push(Problem::new("/weights", format!("names a model {name:?}, which {length}")));
            }
            append_name(name, &mut bytes);
            weight.append(&mut bytes);
        }
        if problems.is_empty() { Ok(Self { bytes }) } else { Err(problems) }
    }

    /// What a unit counts in this call, in thousandths; none if its model is refused.
    pub(crate) fn weight(&self, request: &Request) -> Option<u32> {
        let mut table = self.bytes.as_slice();
        let attribute = take_name(&mut table)?;
        let (default, unknown) = (u32::take(&mut table)?, u32::take(&mut table)?);
        let named = |a: &&cellar_policy_sdk::Attribute| a.name.as_bytes() == attribute;
        let Some(model) = request.attributes.iter().find(named) else { return Some(default) };
        while let Some(name) = take_name(&mut table) {
            let weight = u32::take(&mut table)?;
            if name == model.value.as_bytes() {
                return Some(weight);
            }
        }
        (unknown > 0).then_some(unknown)
    }
}

/// **Invariant:** at most 64 bytes, so the length fits a byte; a longer one is refused in the same breath.
fn append_name(name: &str, bytes: &mut Vec<u8>) {
    bytes.push(name.len().min(NAME_MAX_BYTES) as u8);
    bytes.extend_from_slice(name.as_bytes());
}

fn take_name<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::from(u8::take(bytes)?);
    let (name, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(name)
}

/// The last of the parameters: all that is left of them.
impl Fixed for Weights {
    const BYTES: usize = 0;

    fn append(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.bytes);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self { bytes: std::mem::take(bytes).to_vec() })
    }
}
