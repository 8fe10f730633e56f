//! A file of users, read line by line and handed out in batches.

use cellar_model::wire::{BROUGHT_MAX, BroughtUser};
use std::io::{self, BufRead, Read};

/// Of preferences alone a user may have 64 KiB.
const LINE_BYTES_MAX: u64 = 256 * 1024;
/// Of a call: half of what the service takes.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Of a call, as far as they are short: it is answered in a fraction of a second.
const BATCH_USERS: usize = 100;
const _: () = assert!(BATCH_USERS <= BROUGHT_MAX);

/// Users with their line numbers.
pub(super) type Batch = Vec<(u64, BroughtUser)>;

pub(super) struct Lines<R> {
    read: R,
    number: u64,
    /// Read, and too long for the batch before.
    held: Option<(u64, BroughtUser, usize)>,
}

/// A line that is no user, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) number: u64,
    pub(super) message: String,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(read: R) -> Self {
        Self { read, number: 0, held: None }
    }

    /// The next users; none at the end. `bad` hears of lines that are none.
    pub(super) fn batch(&mut self, mut bad: impl FnMut(BadLine)) -> io::Result<Option<Batch>> {
        let (mut batch, mut bytes) = (Batch::new(), 0);
        loop {
            let next = match self.held.take() {
                Some(held) => Some(held),
                None => self.user(&mut bad)?,
            };
            let Some((number, user, length)) = next else { break };
            if !batch.is_empty() && bytes + length > BATCH_BYTES_MAX {
                self.held = Some((number, user, length));
                break;
            }
            bytes += length;
            batch.push((number, user));
            if batch.len() == BATCH_USERS {
                break;
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn user(&mut self, bad: &mut impl FnMut(BadLine)) -> io::Result<Option<(u64, BroughtUser, usize)>> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.read).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            let number = self.number;
            if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                self.read.skip_until(b'\n')?;
                bad(BadLine { number, message: format!("a line has at most {} KiB", LINE_BYTES_MAX / 1024) });
                continue;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(user) => return Ok(Some((number, user, read))),
                // Where and what, and never the text itself: it is a person's.
                Err(error) => bad(BadLine { number, message: said(&error) }),
            }
        }
    }
}

/// serde_json quotes unknown members and wrong values: of those only the kind is told.
fn said(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "not a user: email and tier are needed, no member is unknown",
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof => "no JSON",
        serde_json::error::Category::Io => "unreadable",
    };
    format!("{kind} (column {})", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Vec<u64>>, Vec<u64>) {
        let (mut lines, mut bad, mut batches) = (Lines::new(text.as_bytes()), Vec::new(), Vec::new());
        while let Some(batch) = lines.batch(|line| bad.push(line.number)).unwrap() {
            batches.push(batch.into_iter().map(|(number, _)| number).collect());
        }
        (batches, bad)
    }

    #[test]
    fn lines_keep_their_numbers_and_bad_ones_are_named() {
        let good = r#"{"email":"a@b","tier":"free"}"#;
        let text = format!("{good}\n\nno\n{good}\n{{\"email\":\"a@b\"}}\n{good}");
        assert_eq!(read(&text), (vec![vec![1, 4, 6]], vec![3, 5]));
        assert_eq!(read(""), (vec![], vec![]));
        let long = format!("{}\n{good}\n", "x".repeat(LINE_BYTES_MAX as usize + 10));
        assert_eq!(read(&long), (vec![vec![2]], vec![1]));
    }

    #[test]
    fn batches_are_bounded_by_users_and_by_bytes() {
        let good = format!("{}\n", r#"{"email":"a@b","tier":"free"}"#);
        let (batches, _) = read(&good.repeat(BATCH_USERS * 2 + 1));
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [BATCH_USERS, BATCH_USERS, 1]);
        let large = format!("{{\"email\":\"a@b\",\"tier\":\"free\",\"name\":\"{}\"}}\n", "x".repeat(200 * 1024));
        assert_eq!(read(&large.repeat(5)).0.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    }

    #[test]
    fn what_a_line_says_is_not_repeated() {
        let error = serde_json::from_str::<BroughtUser>(r#"{"email":"a@b","secret-member":1}"#).unwrap_err();
        assert!(!said(&error).contains("secret"), "{}", said(&error));
    }
}
