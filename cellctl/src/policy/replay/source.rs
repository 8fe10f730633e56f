//! Where requests come from: lines of JSON, or a table.

use super::table::Table;
use anyhow::{Context, ensure};
use cellar_model::Amount;
use cellar_policy_host::Operation;
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Bytes of a line. One request has about a hundred.
const LINE_MAX_BYTES: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestLine {
    pub(super) user: String,
    #[serde(default)]
    pub(super) operation: OperationName,
    pub(super) at_us: u64,
    pub(super) cost: Amount,
    #[serde(default)]
    pub(super) held: Amount,
    #[serde(default)]
    pub(super) held_at_us: u64,
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::policy) enum OperationName {
    #[default]
    Consume,
    Reserve,
    Settle,
    Peek,
}

impl From<OperationName> for Operation {
    fn from(name: OperationName) -> Self {
        match name {
            OperationName::Consume => Operation::Consume,
            OperationName::Reserve => Operation::Reserve,
            OperationName::Settle => Operation::Settle,
            OperationName::Peek => Operation::Peek,
        }
    }
}

pub(super) enum Source {
    Lines { input: Box<dyn BufRead>, number: u64 },
    Table(Box<Table>),
}

impl Source {
    /// By the file's ending: a table if it is `.csv`, else lines; gzipped if there is a `.gz` behind it.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let gzipped = path.extension().is_some_and(|ending| ending == "gz");
        let plain = if gzipped { path.with_extension("") } else { path.to_owned() };
        let mut input = open(path)?;
        if gzipped {
            input = Box::new(BufReader::new(MultiGzDecoder::new(input)));
        }
        if plain.extension().is_some_and(|ending| ending == "csv") {
            let table = Table::read(input).with_context(|| path.display().to_string())?;
            let attributes: Vec<&str> = table.attributes().collect();
            if !attributes.is_empty() {
                eprintln!("{}: read as attributes: {}", path.display(), attributes.join(", "));
            }
            return Ok(Self::Table(Box::new(table)));
        }
        Ok(Self::Lines { input, number: 0 })
    }

    /// The next request and its line. An error names the line.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(u64, RequestLine)>> {
        match self {
            Self::Table(table) => table.next(),
            Self::Lines { input, number } => next_line(input, number),
        }
    }
}

fn next_line(input: &mut dyn BufRead, number: &mut u64) -> anyhow::Result<Option<(u64, RequestLine)>> {
    let mut line = Vec::new();
    loop {
        *number += 1;
        line.clear();
        let place = || format!("line {number}");
        Read::take(&mut *input, LINE_MAX_BYTES as u64 + 1).read_until(b'\n', &mut line).with_context(place)?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        return Ok(Some((*number, parse(&line).with_context(place)?)));
    }
}

fn parse(line: &[u8]) -> anyhow::Result<RequestLine> {
    ensure!(line.len() <= LINE_MAX_BYTES, "longer than {LINE_MAX_BYTES} bytes");
    Ok(serde_json::from_slice(line)?)
}

pub(super) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

pub(super) fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if is_stdin(path) {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Box::new(BufReader::new(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RequestLine, String> {
        super::parse(line.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_operation_is_consume_unless_said_otherwise() {
        let line = parse(r#"{"user":"a","at_us":1,"cost":2}"#).unwrap();
        assert_eq!(Operation::from(line.operation), Operation::Consume);
        let line = parse(r#"{"user":"a","operation":"peek","at_us":1,"cost":2}"#).unwrap();
        assert_eq!(Operation::from(line.operation), Operation::Peek);
    }

    #[test]
    fn malformed_lines_are_refused() {
        for bad in [
            "",
            "[]",
            r#"{"user":"a","cost":1}"#,
            r#"{"user":"a","at_us":1,"cost":-1}"#,
            r#"{"user":"a","at_us":1,"cost":1099511627777}"#,
            r#"{"user":"a","operation":"steal","at_us":1,"cost":1}"#,
            r#"{"user":"a","at_us":1,"cost":1,"price":1}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn empty_lines_count_and_say_nothing() {
        let mut input = "\n{\"user\":\"a\",\"at_us\":1,\"cost\":2}\n\nnot json\n".as_bytes();
        let mut number = 0;
        let (at, line) = next_line(&mut input, &mut number).unwrap().unwrap();
        assert_eq!((at, line.user.as_str()), (2, "a"));
        assert_eq!(next_line(&mut input, &mut number).err().unwrap().to_string(), "line 4");
    }
}
