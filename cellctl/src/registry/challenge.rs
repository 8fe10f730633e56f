//! `WWW-Authenticate`: how a registry wants to be told who asks.

use super::credentials::Credentials;
use super::http::{Ask, Http, check};
use ::http::{HeaderMap, HeaderValue, Method, header};
use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::Url;

/// Of an answer with a token: some registries give ones of a few KiB.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token is to be had there.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Challenge {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(header::WWW_AUTHENTICATE)?.to_str().ok()?;
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        let parameters = parameters(rest);
        let of = |name: &str| {
            parameters.iter().find(|(held, _)| held.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        let bearer = scheme.eq_ignore_ascii_case("bearer");
        Some(Challenge::Bearer { realm: of("realm").filter(|_| bearer)?, service: of("service"), scope: of("scope") })
    }

    /// What to say from now on. None: there is nothing to say.
    pub(super) async fn met(
        &self,
        http: &Http,
        credentials: Option<&Credentials>,
    ) -> anyhow::Result<Option<HeaderValue>> {
        let basic = credentials.map(basic).transpose()?;
        let Challenge::Bearer { realm, service, scope } = self else { return Ok(basic) };
        let mut url = Url::parse(realm).context("it names no place to log in at")?;
        check(&url)?;
        for (name, value) in [("service", service), ("scope", scope)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let answer = http.send(&Ask::of(Method::GET, url), basic.as_ref(), TOKEN_BYTES_MAX).await?;
        // To go on as nobody would end in an error that says something else.
        ensure!(answer.status.is_success(), "the log-in was refused ({}{})", answer.status, answer.said());
        let token: Token = serde_json::from_slice(&answer.body).context("its answer holds no token")?;
        let token = token.token.or(token.access_token).context("its answer holds no token")?;
        Ok(Some(secret(format!("Bearer {token}"))?))
    }
}

fn basic(credentials: &Credentials) -> anyhow::Result<HeaderValue> {
    let pair = format!("{}:{}", credentials.user, credentials.password.reveal());
    secret(format!("Basic {}", STANDARD.encode(pair)))
}

fn secret(text: String) -> anyhow::Result<HeaderValue> {
    // The text stays out of the error.
    let mut value = HeaderValue::try_from(text).map_err(|_| anyhow::anyhow!("a credential has odd characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `name="value"`, with commas between them; a value without quotes ends at the next comma.
fn parameters(text: &str) -> Vec<(String, String)> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_owned();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name, value.trim().to_owned()));
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_whatever_the_order_of_its_parameters() {
        let of = |text: &'static str| {
            let headers = [(header::WWW_AUTHENTICATE, HeaderValue::from_static(text))].into_iter().collect();
            Challenge::of(&headers)
        };
        let bearer = |service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: "https://auth.example.org/token".into(),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            })
        };
        let whole =
            r#"Bearer realm="https://auth.example.org/token",service="registry",scope="repository:a/b:pull,push""#;
        assert_eq!(of(whole), bearer(Some("registry"), Some("repository:a/b:pull,push")));
        let other = r#"bearer service=registry, realm="https://auth.example.org/token""#;
        assert_eq!(of(other), bearer(Some("registry"), None));
        assert_eq!(of(r#"Basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(of("basic"), Some(Challenge::Basic));
        for odd in ["", "Bearer", "Bearer service=\"x\"", "Digest realm=\"x\"", "Bearer realm"] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }
}
