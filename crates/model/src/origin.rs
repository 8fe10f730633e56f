//! Whose request something is done for: the trace it belongs to, and the name people know it by.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::fmt;

/// The most characters a request's id may have.
pub const REQUEST_ID_MAX: usize = 64;
/// What a list of origins begins with: another layout gets another number.
const LAYOUT: u8 = 1;

/// W3C's id of a trace; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceId(pub u128);

/// W3C's id of a span; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpanId(pub u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A caller's own name for a request.
///
/// **Invariant:** 1–64 characters of `[A-Za-z0-9._-]`: nothing that breaks a log line, and no e-mail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct RequestId(SmolStr);

impl RequestId {
    /// None: it is not one.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        ((1..=REQUEST_ID_MAX).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<SmolStr> for RequestId {
    type Error = &'static str;

    fn try_from(text: SmolStr) -> Result<Self, Self::Error> {
        Self::new(&text).ok_or("not the id of a request")
    }
}

impl From<RequestId> for SmolStr {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

/// The request that something is done for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub trace: TraceId,
    /// The span that what is done next is a child of.
    pub span: SpanId,
    /// Whoever began the trace has all of it kept.
    pub sampled: bool,
    /// None: the request goes by the trace's id.
    pub named: Option<RequestId>,
}

impl Origin {
    /// Reads a `traceparent`. None: it is not one that can be gone on from.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may say more behind the flags; this one may not.
        let known = version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
        let hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        if !known || !hex(version, 2) || !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) {
            return None;
        }
        let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (trace != 0 && span != 0).then_some(Self { trace: TraceId(trace), span: SpanId(span), sampled, named: None })
    }

    /// As `traceparent` says it.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }

    /// What a person who asks for this request is told to look for.
    pub fn request_id(&self) -> SmolStr {
        self.named.as_ref().map_or_else(|| SmolStr::from(self.trace.to_string()), |named| named.0.clone())
    }
}

/// So many checks of a list, one behind the other, are this origin's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginOf {
    pub checks: u32,
    pub origin: Origin,
}

impl OriginOf {
    /// Writes a list of origins behind what is in `body`.
    pub fn write(list: &[OriginOf], mut body: Vec<u8>) -> Vec<u8> {
        body.push(LAYOUT);
        // Plain data into memory: this cannot fail.
        postcard::to_extend(list, body).unwrap_or_default()
    }

    /// Reads what [`OriginOf::write`] wrote. None where it is something else: who was asked for is not told then,
    /// and nothing else is lost.
    pub fn read(bytes: &[u8]) -> Option<Vec<OriginOf>> {
        let (layout, list) = bytes.split_first()?;
        (*layout == LAYOUT).then(|| postcard::from_bytes(list).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_said_as_it_was_read() {
        let origin = Origin::parse(GOOD).unwrap();
        assert!(origin.sampled);
        assert_eq!(origin.traceparent(), GOOD);
        assert_eq!(origin.request_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(!Origin::parse(&GOOD.replace("-01", "-00")).unwrap().sampled);
        assert!(Origin::parse(&(GOOD.replace("00-4", "01-4") + "-more")).is_some(), "a later version says more");
    }

    #[test]
    fn what_is_no_traceparent_is_not_gone_on_from() {
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let upper = GOOD.to_uppercase();
        for bad in ["", "00", zero, &upper, &GOOD.replace("00-4", "ff-4"), &(GOOD.to_owned() + "-more"), &GOOD[1..]] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_id_of_a_request_cannot_be_an_email_or_break_a_line() {
        assert!(RequestId::new("job-7.retry_2").is_some());
        let long = "x".repeat(REQUEST_ID_MAX + 1);
        for bad in ["", "ada@example.com", "a b", "a\nb", &long] {
            assert_eq!(RequestId::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_list_of_origins_is_read_as_it_was_written_and_rubbish_is_none() {
        let named = Origin { named: RequestId::new("r-1"), ..Origin::parse(GOOD).unwrap() };
        let list = vec![OriginOf { checks: 3, origin: named }];
        assert_eq!(OriginOf::read(&OriginOf::write(&list, Vec::new())), Some(list));
        for bad in [&b""[..], b"\x02", b"\x01\xff\xff\xff", b"rubbish"] {
            assert_eq!(OriginOf::read(bad), None);
        }
    }
}
