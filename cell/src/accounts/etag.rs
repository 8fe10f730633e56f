//! Entity tags, and the requests that name them.

use super::AccountsError;
use cellar_model::{Problem, ProblemType};
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A strong entity tag: the counters of what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Tag {
    pub(super) fn of(counters: &[i64]) -> Self {
        let counters: Vec<String> = counters.iter().map(i64::to_string).collect();
        Self(format!("\"{}\"", counters.join("-")))
    }

    pub(super) fn header(&self) -> (http::HeaderName, HeaderValue) {
        let value = HeaderValue::from_str(&self.0).expect("digits, dashes and quotes are visible");
        (ETAG, value)
    }

    /// 412 unless `If-Match` is absent or names this tag.
    pub(super) fn require(&self, wanted: &IfMatch) -> Result<(), AccountsError> {
        match &wanted.0 {
            Some(list) if !names(list, &self.0) => Err(ProblemType::PreconditionFailed.into()),
            _ => Ok(()),
        }
    }

    /// Whether the caller has this already.
    pub(super) fn known_to(&self, headers: &HeaderMap) -> Result<Option<StatusCode>, AccountsError> {
        let list = list(headers, &IF_NONE_MATCH)?;
        Ok(list.filter(|list| names(list, &self.0)).map(|_| StatusCode::NOT_MODIFIED))
    }
}

/// The header `If-Match` of a write.
#[derive(Clone, Debug, Default)]
pub(super) struct IfMatch(Option<String>);

impl IfMatch {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, AccountsError> {
        Ok(Self(list(headers, &IF_MATCH)?.map(str::to_owned)))
    }

    pub(super) fn is_given(&self) -> bool {
        self.0.is_some()
    }
}

/// A header that is `*`, or a list of entity tags (RFC 9110, 13.1).
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, AccountsError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let readable =
        value.to_str().ok().map(str::trim).filter(|list| *list == "*" || tags(list).all(|tag| tag.is_some()));
    let odd = || Problem::new(ProblemType::Malformed).detail(format!("{name} is not a list of entity tags"));
    readable.map(Some).ok_or_else(|| odd().into())
}

fn names(list: &str, tag: &str) -> bool {
    list == "*" || tags(list).flatten().any(|named| named == tag)
}

/// The tags of a list, without `W/`; none in the place of what is no tag, and nothing after it. Commas may stand
/// within a tag.
fn tags(list: &str) -> impl Iterator<Item = Option<&str>> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let from = rest.take()?.trim_start();
        let from = from.strip_prefix("W/").unwrap_or(from);
        let Some(end) = from.strip_prefix('"').and_then(|inside| inside.find('"')) else { return Some(None) };
        let (tag, after) = from.split_at(end + 2);
        let visible = |b: u8| (0x21..0x7f).contains(&b);
        rest = match after.trim_start() {
            "" => None,
            more => Some(more.strip_prefix(',').unwrap_or("")),
        };
        Some(Some(tag).filter(|tag| tag.bytes().all(visible)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_required_only_when_it_is_named() {
        let tag = Tag::of(&[3, 4]);
        let wanting = |list: &str| IfMatch(Some(list.to_owned()));
        assert!(tag.require(&IfMatch(None)).is_ok());
        assert!(tag.require(&wanting("\"1\", \"3-4\"")).is_ok());
        assert!(tag.require(&wanting("*")).is_ok());
        assert!(tag.require(&wanting("\"3\"")).is_err());
    }

    #[test]
    fn a_header_that_is_no_list_of_tags_is_malformed() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, HeaderValue::from_static(text));
            IfMatch::of(&headers).is_ok()
        };
        for good in ["*", "\"\"", "\"3-4\"", "W/\"3\"", "\"a,b\" , W/\"c\",\"d\""] {
            assert!(read(good), "{good}");
        }
        for bad in ["", "3-4", "\"3", "\"a\" \"b\"", "\"a\",", "\"a b\"", "*, \"a\"", "w/\"a\""] {
            assert!(!read(bad), "{bad}");
        }
    }
}
