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
            // Strongly, as for every write: a weak tag names none.
            Some(list) if !list.iter().any(|named| named == "*" || *named == self.0) => {
                Err(ProblemType::PreconditionFailed.into())
            }
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
pub(super) struct IfMatch(Option<Vec<String>>);

/// Tags of one request: whoever names more has not read one.
const TAGS_MAX: usize = 64;

impl IfMatch {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, AccountsError> {
        let malformed = || Problem::new(ProblemType::Malformed).detail("If-Match is `*`, or a list of quoted tags");
        let (mut tags, mut given) = (Vec::new(), false);
        for value in headers.get_all(IF_MATCH) {
            given = true;
            let list = value.to_str().map_err(|_| malformed())?;
            // Nothing between two commas is no tag, and no mistake (RFC 9110, section 5.6.1): a list of nothing
            // names no state, and no write fits it.
            let named = list.split(',').map(str::trim).filter(|tag| !tag.is_empty());
            tags.extend(named.map(str::to_owned));
        }
        let is_tag = |tag: &String| {
            let quoted = tag.strip_prefix("W/").unwrap_or(tag);
            let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            inner.is_some_and(|inner| !inner.contains('"'))
        };
        let any = tags.len() == 1 && tags[0] == "*";
        if !(any || tags.iter().all(is_tag)) || tags.len() > TAGS_MAX {
            return Err(malformed().into());
        }
        Ok(Self(given.then_some(tags)))
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
        let of = |list: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, HeaderValue::from_str(list).unwrap());
            IfMatch::of(&headers)
        };
        let wanting = |list: &str| of(list).unwrap();
        assert!(tag.require(&IfMatch::of(&HeaderMap::new()).unwrap()).is_ok());
        assert!(tag.require(&wanting("\"1\", \"3-4\"")).is_ok());
        assert!(tag.require(&wanting("*")).is_ok());
        assert!(tag.require(&wanting("\"3\"")).is_err());
        assert!(tag.require(&wanting("W/\"3-4\"")).is_err(), "a weak tag");
        for none in ["", " , ", "\"1\","] {
            assert!(tag.require(&wanting(none)).is_err(), "{none:?}");
        }
        for malformed in ["3-4", "\"3-4", "\"3\" \"4\"", "*, \"3-4\"", &"\"1\",".repeat(80)] {
            assert!(of(malformed).is_err(), "{malformed}");
        }
    }
}
