//! What a policy is asked.

/// The most an amount can be, 2^40: sums over any period fit 64 bits.
pub const AMOUNT_MAX: u64 = 1 << 40;

/// The last moment the service names, 9999-12-30T22:00:00Z. No wait may be longer than this.
pub const TIME_MAX_US: u64 = 253_402_207_200_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Consume,
    Reserve,
    /// What a reservation really used. A release is a settle at cost 0.
    Settle,
    /// Only asks.
    Peek,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    pub value: String,
}

/// One question. Times are microseconds since the Unix epoch, amounts are in the policy's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub operation: Operation,
    /// A user's never runs backwards.
    pub now_us: u64,
    pub cost: u64,
    /// What a settle's reservation took, and when.
    pub held: u64,
    pub held_at_us: u64,
    /// Empty most of the time, and then without a place on the heap.
    pub attributes: Vec<Attribute>,
}

impl Request {
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

    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|a| a.name == name).map(|a| a.value.as_str())
    }
}
