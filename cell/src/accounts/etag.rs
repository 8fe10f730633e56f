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

fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, AccountsError> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| Problem::new(ProblemType::Malformed).detail(format!("{name} cannot be read")).into())
}

/// What is no tag is nobody's.
fn names(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|named| named == "*" || named == tag || named.strip_prefix("W/") == Some(tag))
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
}
