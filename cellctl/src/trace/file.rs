//! Trace files: one request a line, csv or csv.gz, columns found by name.

use anyhow::{Context, Result, anyhow, bail};
use cellar_model::Micros;
use std::io::{BufReader, Read};
use std::path::Path;

/// Requests of one trace: what fits in memory with room, and more than a day's play.
pub(crate) const REQUESTS_MAX: usize = 10_000_000;

/// One request of a trace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TraceRequest {
    pub(crate) at: Micros,
    /// Context and generated tokens together.
    pub(crate) tokens: u64,
    /// A label: one user a label, whatever it says.
    pub(crate) user: Option<String>,
}

/// Where each value stands in a line.
struct Columns {
    time: usize,
    tokens: Vec<usize>,
    user: Option<usize>,
}

pub(crate) const TIME: [&str; 5] = ["timestamp", "time", "at", "arrived_at", "at_us"];
pub(crate) const CONTEXT: [&str; 5] =
    ["contexttokens", "context_tokens", "input_tokens", "prompt_tokens", "request_tokens"];
pub(crate) const GENERATED: [&str; 5] =
    ["generatedtokens", "generated_tokens", "output_tokens", "completion_tokens", "response_tokens"];
const TOTAL: [&str; 2] = ["tokens", "total_tokens"];
const USER: [&str; 4] = ["user", "user_id", "userid", "session"];

/// Reads a whole trace, or says which line is wrong: nothing of a trace with an error is played.
pub(crate) fn read(path: &Path) -> Result<Vec<TraceRequest>> {
    open(path).and_then(parse).with_context(|| format!("the trace {} cannot be played", path.display()))
}

/// Hands over the requests of a trace in the order of the file, to who keeps them in a form of his own.
pub(crate) fn each(path: &Path, take: impl FnMut(TraceRequest)) -> Result<()> {
    let handed = open(path).and_then(|input| rows(input, take));
    handed.with_context(|| format!("the trace {} cannot be read", path.display()))
}

fn open(path: &Path) -> Result<Box<dyn Read>> {
    let mut reader = BufReader::new(std::fs::File::open(path)?);
    let mut magic = [0; 2];
    let got = reader.read(&mut magic)?;
    let start = std::io::Cursor::new(magic[..got].to_vec()).chain(reader);
    // By content, not by name: a renamed file is read all the same.
    let packed = magic[..got] == [0x1f, 0x8b];
    Ok(if packed { Box::new(flate2::read::MultiGzDecoder::new(start)) } else { Box::new(start) })
}

pub(crate) fn parse(input: impl Read) -> Result<Vec<TraceRequest>> {
    let mut requests = Vec::new();
    rows(input, |request| requests.push(request))?;
    // A user's time never runs backwards; equal times keep the order of the file.
    requests.sort_by_key(|request| request.at);
    Ok(requests)
}

fn rows(input: impl Read, mut take: impl FnMut(TraceRequest)) -> Result<()> {
    let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(false).from_reader(input);
    let columns = Columns::find(&csv.headers().context("line 1")?.clone())?;
    let mut requests = 0;
    for record in csv.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            anyhow!("line {line}: {error}")
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let request = columns.request(&record).with_context(|| format!("line {line}"))?;
        requests += 1;
        if requests > REQUESTS_MAX {
            bail!("more than {REQUESTS_MAX} requests: give it in parts, each with all requests of some of the users");
        }
        take(request);
    }
    if requests == 0 {
        bail!("it has no requests");
    }
    Ok(())
}

impl Columns {
    fn find(header: &csv::StringRecord) -> Result<Self> {
        let position = |names: &[&str]| {
            header
                .iter()
                .position(|column| names.contains(&column.trim_start_matches('\u{feff}').to_lowercase().as_str()))
        };
        let time =
            position(&TIME).ok_or_else(|| anyhow!("line 1: no column of times; name one of {}", TIME.join(", ")))?;
        let tokens: Vec<usize> = match position(&TOTAL) {
            Some(total) => vec![total],
            None => [position(&CONTEXT), position(&GENERATED)].into_iter().flatten().collect(),
        };
        if tokens.is_empty() {
            bail!("line 1: no column of tokens; name one of {}, {}, {}", CONTEXT[0], GENERATED[0], TOTAL[0]);
        }
        Ok(Self { time, tokens, user: position(&USER) })
    }

    fn request(&self, record: &csv::StringRecord) -> Result<TraceRequest> {
        let field = |n: usize| record.get(n).unwrap_or("");
        let mut tokens = 0u64;
        for column in &self.tokens {
            let text = field(*column);
            let count: u64 = text.parse().map_err(|_| anyhow!("{text:?} is not a number of tokens"))?;
            tokens = tokens.saturating_add(count);
        }
        if tokens > cellar_model::Amount::MAX.get() {
            bail!("{tokens} tokens are more than a request can ask for (2^40)");
        }
        let user = self.user.map(|column| field(column).to_owned());
        if user.as_deref() == Some("") {
            bail!("the user is empty");
        }
        Ok(TraceRequest { at: time(field(self.time))?, tokens, user })
    }
}

/// A date and time, with or without an offset (then UTC), or a number: microseconds since the epoch
/// when it is that large, else seconds.
pub(crate) fn time(text: &str) -> Result<Micros> {
    let odd = || anyhow!("{text:?} is not a time");
    if let Ok(number) = text.parse::<f64>() {
        let us = if number > 1e12 { number } else { number * 1e6 };
        if !(0.0..=Micros::MAX.0 as f64).contains(&us) {
            return Err(odd());
        }
        return Ok(Micros(us.round() as u64));
    }
    let at = text.parse::<jiff::Timestamp>().or_else(|_| {
        let civil: jiff::civil::DateTime = text.parse().map_err(|_| odd())?;
        jiff::tz::Offset::UTC.to_timestamp(civil).map_err(|_| odd())
    })?;
    u64::try_from(at.as_microsecond()).map(Micros).map_err(|_| odd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_times_read_in_their_forms() {
        let text =
            "GeneratedTokens,TIMESTAMP,ContextTokens\n44,2023-11-16 18:15:46.6805900,374\n1,2023-11-16T18:15:47Z,2\n";
        let requests = parse(text.as_bytes()).unwrap();
        assert_eq!(requests[0], TraceRequest { at: Micros(1_700_158_546_680_590), tokens: 418, user: None });
        assert_eq!(requests[1].at.to_rfc3339(), "2023-11-16T18:15:47Z");
        assert_eq!(time("1700158546.5").unwrap(), Micros(1_700_158_546_500_000));
        assert_eq!(time("1700158546680590").unwrap(), Micros(1_700_158_546_680_590));
    }

    #[test]
    fn a_corrupted_line_is_named() {
        let error = |text: &str| format!("{:#}", parse(text.as_bytes()).unwrap_err());
        assert!(error("time,tokens\n1,5\n2,x\n").contains("line 3"), "{}", error("time,tokens\n1,5\n2,x\n"));
        assert!(error("time,tokens\n1,5\n2\n").contains("line 3"));
        assert!(error("time,tokens\nyesterday,5\n").contains("line 2"));
        assert!(error("when,tokens\n1,5\n").contains("line 1"));
        assert!(error("time,tokens\n").contains("no requests"));
    }

    #[test]
    fn requests_come_in_the_order_of_their_times() {
        let requests = parse("time,tokens,user\n5,1,a\n3,2,b\n5,3,c\n".as_bytes()).unwrap();
        assert_eq!(requests.iter().map(|r| r.tokens).collect::<Vec<_>>(), [2, 1, 3]);
        assert_eq!(requests[0].user.as_deref(), Some("b"));
    }
}
