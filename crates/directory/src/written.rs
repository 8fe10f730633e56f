//! What a conditional write came to.

use crate::DirectoryError;

/// The three ends of a conditional write. A failure that certainly wrote nothing is an `Err` beside
/// this.
#[derive(Debug)]
#[must_use = "a conditional write that nobody looks at decided nothing"]
pub enum Written<Row> {
    Applied,
    /// The condition did not hold: the row that was met, or none if there is no such row.
    Refused(Option<Row>),
    /// It was sent and not answered. Only a serial read tells; to repeat it is right only if that
    /// read shows one's own id.
    Unknown(DirectoryError),
}

impl<Row> Written<Row> {
    pub fn is_applied(&self) -> bool {
        matches!(self, Written::Applied)
    }

    pub fn is_refused(&self) -> bool {
        matches!(self, Written::Refused(_))
    }
}
