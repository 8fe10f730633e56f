//! Requests as a table: a header, then one request a line.

use super::source::{OperationName, RequestLine};
use crate::trace;
use anyhow::{Context, anyhow, ensure};
use cellar_model::Amount;
use csv::StringRecord;
use std::collections::BTreeMap;
use std::io::BufRead;

const USER: [&str; 4] = ["user", "user_id", "userid", "session"];
const COST: [&str; 3] = ["cost", "tokens", "total_tokens"];
/// Whose requests they are where no column says it.
const ONE_USER: &str = "-";
/// A request's attributes: as many as a cell takes of a caller, and some.
const ATTRIBUTES_MAX: usize = 64;

pub(super) struct Table {
    records: csv::StringRecordsIntoIter<Box<dyn BufRead>>,
    columns: Columns,
}

/// Where each value stands in a line.
struct Columns {
    user: Option<usize>,
    at: At,
    /// Summed: a trace has one for what was sent and one for what was generated.
    cost: Vec<usize>,
    operation: Option<usize>,
    held: Option<usize>,
    held_at: Option<usize>,
    attributes: Vec<(usize, String)>,
}

enum At {
    Us(usize),
    Timestamp(usize),
}

impl Table {
    pub(super) fn read(input: Box<dyn BufRead>) -> anyhow::Result<Self> {
        let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(false).from_reader(input);
        let header = csv.headers().context("line 1")?.clone();
        let columns = Columns::find(&header).context("line 1")?;
        Ok(Self { records: csv.into_records(), columns })
    }

    /// The columns that are read as attributes, by the attributes' names: a name that was mistyped is among them.
    pub(super) fn attributes(&self) -> impl Iterator<Item = &str> {
        self.columns.attributes.iter().map(|(_, name)| name.as_str())
    }

    pub(super) fn next(&mut self) -> anyhow::Result<Option<(u64, RequestLine)>> {
        let Some(record) = self.records.next() else { return Ok(None) };
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            anyhow!("line {line}: {error}")
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let request = self.columns.request(&record).with_context(|| format!("line {line}"))?;
        Ok(Some((line, request)))
    }
}

impl Columns {
    fn find(header: &StringRecord) -> anyhow::Result<Self> {
        let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        let mut taken = Vec::new();
        let mut find = |known: &[&str]| {
            let found = lower.iter().position(|name| known.contains(&name.as_str()));
            taken.extend(found);
            found
        };
        let user = find(&USER);
        let at = find(&["at_us"]).map(At::Us).or_else(|| find(&trace::TIME).map(At::Timestamp));
        let at = at.ok_or_else(|| anyhow!("no column of times; name one at_us or timestamp"))?;
        let cost = match find(&COST) {
            Some(cost) => vec![cost],
            None => [find(&trace::CONTEXT), find(&trace::GENERATED)].into_iter().flatten().collect(),
        };
        let (operation, held, held_at) = (find(&["operation"]), find(&["held"]), find(&["held_at_us"]));
        let others = names.iter().enumerate().filter(|(place, _)| !taken.contains(place));
        let attributes: Vec<(usize, String)> =
            others.map(|(place, name)| (place, name.strip_prefix("attr.").unwrap_or(name).to_owned())).collect();
        ensure!(attributes.len() <= ATTRIBUTES_MAX, "more than {ATTRIBUTES_MAX} columns would be attributes");
        ensure!(attributes.iter().all(|(_, name)| !name.is_empty()), "a column has no name");
        Ok(Self { user, at, cost, operation, held, held_at, attributes })
    }

    fn request(&self, record: &StringRecord) -> anyhow::Result<RequestLine> {
        let field = |place: usize| record.get(place).unwrap_or("");
        let number = |place: Option<usize>, what: &str| match place.map(field) {
            None | Some("") => Ok(0),
            Some(text) => text.parse::<u64>().map_err(|_| anyhow!("{text:?} is not {what}")),
        };
        let user = self.user.map_or(ONE_USER, field);
        ensure!(!user.is_empty(), "the user is empty");
        let at_us = match self.at {
            At::Us(place) => {
                field(place).parse().map_err(|_| anyhow!("{:?} is not a number of microseconds", field(place)))?
            }
            At::Timestamp(place) => trace::time(field(place))?.0,
        };
        let mut cost = if self.cost.is_empty() { 1 } else { 0 };
        for place in &self.cost {
            let text = field(*place);
            let part: u64 = text.parse().map_err(|_| anyhow!("{text:?} is not an amount"))?;
            cost = part.saturating_add(cost);
        }
        let operation = match self.operation.map(field) {
            None | Some("" | "consume") => OperationName::Consume,
            Some("reserve") => OperationName::Reserve,
            Some("settle") => OperationName::Settle,
            Some("peek") => OperationName::Peek,
            Some(other) => return Err(anyhow!("{other:?} is none of consume, reserve, settle, peek")),
        };
        let given = self.attributes.iter().filter(|(place, _)| !field(*place).is_empty());
        let attributes: BTreeMap<String, String> =
            given.map(|(place, name)| (name.clone(), field(*place).to_owned())).collect();
        Ok(RequestLine {
            user: user.to_owned(),
            operation,
            at_us,
            cost: Amount::new(cost)?,
            held: Amount::new(number(self.held, "an amount")?)?,
            held_at_us: number(self.held_at, "a number of microseconds")?,
            attributes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &'static str) -> Result<Vec<RequestLine>, String> {
        let said = |error: anyhow::Error| format!("{error:#}");
        let mut table = Table::read(Box::new(text.as_bytes())).map_err(said)?;
        let mut lines = Vec::new();
        while let Some((_, line)) = table.next().map_err(said)? {
            lines.push(line);
        }
        Ok(lines)
    }

    #[test]
    fn columns_are_found_by_name_and_all_others_are_attributes() {
        let text = "model,User,timestamp,tokens,attr.user,operation,held\n\
                    large,ada,2023-11-14T22:13:20Z,7,x,settle,9\n,bob,1700000000,1,,,\n";
        let lines = all(text).unwrap();
        assert_eq!((lines[0].user.as_str(), lines[0].at_us, lines[0].cost.get()), ("ada", 1_700_000_000_000_000, 7));
        assert_eq!((lines[0].operation, lines[0].held.get()), (OperationName::Settle, 9));
        let attributes: Vec<(&str, &str)> = lines[0].attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(attributes, [("model", "large"), ("user", "x")]);
        assert_eq!((lines[1].at_us, lines[1].attributes.len()), (1_700_000_000_000_000, 0));
        assert_eq!(lines[1].operation, OperationName::Consume);
    }

    #[test]
    fn a_trace_of_a_conversation_service_is_one_users() {
        let lines = all("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n").unwrap();
        assert_eq!((lines[0].user.as_str(), lines[0].cost.get(), lines[0].attributes.len()), ("-", 418, 0));
        assert_eq!(all("at_us\n5\n").unwrap()[0].cost.get(), 1);
    }

    #[test]
    fn a_bad_line_is_named() {
        let bad = [
            ("user,cost\na,1\n", "line 1: no column of times"),
            ("at_us,\n1,2\n", "line 1: a column has no name"),
            ("at_us,cost\n1,1\n2,x\n", "line 3: \"x\" is not an amount"),
            ("at_us,cost\n1,1\n2\n", "line 3: CSV error"),
            ("at_us,cost\nsoon,1\n", "line 2: \"soon\" is not a number of microseconds"),
            ("timestamp,cost\nsoon,1\n", "line 2: \"soon\" is not a time"),
            ("at_us,user\n1,\n", "line 2: the user is empty"),
            ("at_us,operation\n1,steal\n", "line 2: \"steal\" is none of"),
            ("at_us,cost\n1,1099511627777\n", "line 2: "),
        ];
        for (text, expected) in bad {
            let said = all(text).err().unwrap();
            assert!(said.starts_with(expected), "{said}");
        }
    }
}
