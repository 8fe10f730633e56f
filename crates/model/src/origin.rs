//! Whose request something is done for: the trace it belongs to, and the name people know it by.

use smol_str::SmolStr;
use std::fmt;
use std::ops::Deref;

/// The most characters a request's id may have.
pub const REQUEST_ID_MAX: usize = 64;
/// What a list of origins begins with: another layout gets another number.
const LAYOUT: u8 = 2;
/// Of an origin in a list: its trace is exported.
const SAMPLED: u8 = 1;
/// Characters of a `traceparent`.
const TRACEPARENT_LEN: usize = 55;

/// W3C's id of a trace; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

/// W3C's id of a span; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub u64);

/// A short text that is written down for every request, and so without an allocation: at most `N` plain characters.
#[derive(Clone, Copy)]
pub struct ShortText<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> ShortText<N> {
    const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    /// As much of `text` as there is room for.
    fn push(mut self, text: &[u8]) -> Self {
        for (room, byte) in self.bytes.iter_mut().skip(self.len).zip(text) {
            *room = *byte;
            self.len += 1;
        }
        self
    }

    fn push_hex(mut self, number: &[u8]) -> Self {
        let end = self.len + 2 * number.len();
        let room = self.bytes.get_mut(self.len..end);
        if room.is_some_and(|room| hex::encode_to_slice(number, room).is_ok()) {
            self.len = end;
        }
        self
    }
}

impl<const N: usize> Deref for ShortText<N> {
    type Target = str;

    fn deref(&self) -> &str {
        // Only plain characters were pushed.
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// The request that something is done for.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub fn traceparent(&self) -> ShortText<TRACEPARENT_LEN> {
        let traced = ShortText::EMPTY.push(b"00-").push_hex(&self.trace.0.to_be_bytes());
        let spanned = traced.push(b"-").push_hex(&self.span.0.to_be_bytes());
        spanned.push(b"-").push_hex(&[u8::from(self.sampled)])
    }

    /// What a person who asks for this request is told to look for.
    pub fn request_id(&self) -> ShortText<REQUEST_ID_MAX> {
        match &self.named {
            Some(named) => ShortText::EMPTY.push(named.0.as_bytes()),
            None => ShortText::EMPTY.push_hex(&self.trace.0.to_be_bytes()),
        }
    }
}

/// So many checks of a list, one behind the other, are this origin's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginOf {
    pub checks: u32,
    pub origin: Origin,
}

impl OriginOf {
    /// Writes a list of origins behind what is in `body`: the layout's number, then of each, lowest byte first, how
    /// many checks, trace, span, flags, and its name behind the name's length.
    pub fn write<'o>(list: impl Iterator<Item = (u32, &'o Origin)>, body: &mut Vec<u8>) {
        body.push(LAYOUT);
        for (checks, origin) in list {
            body.extend_from_slice(&checks.to_le_bytes());
            body.extend_from_slice(&origin.trace.0.to_le_bytes());
            body.extend_from_slice(&origin.span.0.to_le_bytes());
            let name = origin.named.as_ref().map_or("", RequestId::as_str);
            // A name has 64 characters at most.
            body.extend_from_slice(&[if origin.sampled { SAMPLED } else { 0 }, name.len() as u8]);
            body.extend_from_slice(name.as_bytes());
        }
    }

    /// Reads what [`OriginOf::write`] wrote, origin by origin. It ends where something else stands: who was asked for
    /// is not told from there on, and nothing else is lost.
    pub fn read(bytes: &[u8]) -> impl Iterator<Item = OriginOf> {
        let mut rest = match bytes.split_first() {
            Some((&LAYOUT, rest)) => rest,
            _ => &[],
        };
        std::iter::from_fn(move || {
            let (one, behind) = Self::read_one(rest)?;
            rest = behind;
            Some(one)
        })
    }

    fn read_one(bytes: &[u8]) -> Option<(OriginOf, &[u8])> {
        let (checks, bytes) = bytes.split_first_chunk()?;
        let (trace, bytes) = bytes.split_first_chunk()?;
        let (span, bytes) = bytes.split_first_chunk()?;
        let (&[flags, name_len], bytes) = bytes.split_first_chunk()?;
        let (name, bytes) = bytes.split_at_checked(usize::from(name_len))?;
        let named = if name.is_empty() { None } else { Some(RequestId::new(std::str::from_utf8(name).ok()?)?) };
        let (trace, span) = (u128::from_le_bytes(*trace), u64::from_le_bytes(*span));
        let origin = Origin { trace: TraceId(trace), span: SpanId(span), sampled: flags & SAMPLED != 0, named };
        (trace != 0 && span != 0).then_some((OriginOf { checks: u32::from_le_bytes(*checks), origin }, bytes))
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
        assert_eq!(&*origin.traceparent(), GOOD);
        assert_eq!(&*origin.request_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
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

    fn written(list: &[OriginOf]) -> Vec<u8> {
        let mut body = Vec::new();
        OriginOf::write(list.iter().map(|one| (one.checks, &one.origin)), &mut body);
        body
    }

    #[test]
    fn a_list_of_origins_is_read_as_it_was_written_and_rubbish_is_none() {
        let plain = Origin::parse(GOOD).unwrap();
        let named = Origin { named: RequestId::new(&"r".repeat(REQUEST_ID_MAX)), sampled: false, ..plain.clone() };
        let list = vec![OriginOf { checks: 3, origin: named }, OriginOf { checks: u32::MAX, origin: plain }];
        let body = written(&list);
        assert_eq!(OriginOf::read(&body).collect::<Vec<_>>(), list);
        for bad in [&b""[..], b"\x01", b"\x02\xff\xff\xff", b"rubbish"] {
            assert_eq!(OriginOf::read(bad).count(), 0);
        }
    }

    /// Goal: wherever a list is cut off or spoilt, what is read of it is some of its first origins.
    #[test]
    fn a_list_that_is_cut_off_or_spoilt_is_read_as_far_as_it_goes() {
        let origin = Origin { named: RequestId::new("r-1"), ..Origin::parse(GOOD).unwrap() };
        let list = vec![OriginOf { checks: 1, origin }; 3];
        let body = written(&list);
        for len in 0..body.len() {
            let read: Vec<_> = OriginOf::read(&body[..len]).collect();
            assert!(read.len() < 3 && list.starts_with(&read), "{len}");
        }
        let mut spoilt = body;
        let last = spoilt.len() - 1;
        spoilt[last] = b'@';
        assert_eq!(OriginOf::read(&spoilt).count(), 2, "no id of a request has an @");
    }
}
