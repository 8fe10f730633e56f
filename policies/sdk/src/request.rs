//! What a policy is asked.

/// The most an amount can be, 2^40: sums over any period fit 64 bits.
pub const AMOUNT_MAX: u64 = 1 << 40;

/// The last moment the service names, 9999-12-30T22:00:00Z. No wait may be longer than this.
pub const TIME_MAX_US: u64 = 253_402_207_200_000_000;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Takes the cost, or is denied.
    Consume,
    /// Takes the cost, or is denied; what was really used is said later, by a settle.
    Reserve,
    /// What a reservation really used: more than it held, or less. A release is a settle at cost 0. It is never
    /// denied, since what was used was used.
    Settle,
    /// Only asks.
    Peek,
}

/// Something that the caller says of the request: a model's name, say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// What it is called.
    pub name: String,
    /// What it says. It comes from the caller: a policy must stand any text.
    pub value: String,
}

/// One question. Times are microseconds since the Unix epoch, amounts are in the policy's unit.
///
/// ```
/// use cellar_policy_sdk::{Operation, Request};
///
/// let request = Request::new(Operation::Consume, 1_700_000_000_000_000, 5);
/// assert!(!request.only_asks());
/// assert!(Request { cost: 0, ..request.clone() }.only_asks());
/// assert_eq!(request.attribute("model"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is being done.
    pub operation: Operation,
    /// Policy time of the question, from 0 to [`TIME_MAX_US`]. A user's never runs backwards.
    pub now_us: u64,
    /// Consume and reserve: what is to be taken. Settle: what was really used. From 0 to [`AMOUNT_MAX`]; zero only
    /// asks, except in a settle.
    pub cost: u64,
    /// What a settle's reservation took; 0 in all others.
    pub held: u64,
    /// When it took it; 0 in all others.
    pub held_at_us: u64,
    /// Empty most of the time, and then without a place on the heap.
    pub attributes: Vec<Attribute>,
}

impl Request {
    /// A question without attributes. A settle has [`Request::settle`].
    pub fn new(operation: Operation, now_us: u64, cost: u64) -> Self {
        Self { operation, now_us, cost, held: 0, held_at_us: 0, attributes: Vec::new() }
    }

    /// The settling of a reservation that took `held` at `held_at_us`.
    pub fn settle(now_us: u64, cost: u64, held: u64, held_at_us: u64) -> Self {
        Self { held, held_at_us, ..Self::new(Operation::Settle, now_us, cost) }
    }

    /// Whether it can change nothing: a peek, or nothing to take.
    pub fn only_asks(&self) -> bool {
        match self.operation {
            Operation::Peek => true,
            Operation::Consume | Operation::Reserve => self.cost == 0,
            Operation::Settle => false,
        }
    }

    /// What the caller said of `name`, if anything.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|a| a.name == name).map(|a| a.value.as_str())
    }
}
