//! Requests to strangers: over TLS, within a time, with answers of a bounded size.

use super::reference::is_loopback;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// For one answer with its body: 2 MiB over a line of a slow afternoon.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Registries keep blobs elsewhere, and send one there.
const REDIRECTS_MAX: usize = 5;
/// Of what a registry says of a refusal.
const SAID_BYTES_MAX: usize = 8 * 1024;

pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    pub(super) answer_max: Duration,
}

pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    url: Url,
}

impl Ask {
    pub(super) fn of(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: Bytes::new() }
    }
}

/// Whether anything may be said there.
pub(super) fn check(url: &Url) -> anyhow::Result<()> {
    let here = url.scheme() == "http" && url.host_str().is_some_and(is_loopback);
    ensure!(url.scheme() == "https" || here, "{} is not spoken to without TLS", url.host_str().unwrap_or("it"));
    Ok(())
}

impl Http {
    /// For a registry that is spoken to over TLS, or for one on this machine, which asks for no certificates: there
    /// may be none here.
    pub(super) fn new(tls: bool) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.enforce_http(false);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = if tls {
            config.with_native_roots().context("this machine has no certificates to trust (ca-certificates)")?
        } else {
            config.with_root_certificates(rustls::RootCertStore::empty())
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), answer_max: ANSWER_MAX })
    }

    /// Sends it, and reads at most `bytes_max` of what comes.
    pub(super) async fn send(
        &self,
        ask: &Ask,
        authorization: Option<&HeaderValue>,
        bytes_max: usize,
    ) -> anyhow::Result<Answer> {
        let host = ask.url.host_str().unwrap_or_default().to_owned();
        let answered = tokio::time::timeout(self.answer_max, self.followed(ask, authorization, bytes_max)).await;
        answered.with_context(|| format!("{host} has not answered whole within {:?}", self.answer_max))?
    }

    /// Where it is sent on to, the authorization stays behind: it was for one host.
    async fn followed(
        &self,
        ask: &Ask,
        authorization: Option<&HeaderValue>,
        bytes_max: usize,
    ) -> anyhow::Result<Answer> {
        let mut url = ask.url.clone();
        for hop in 0..=REDIRECTS_MAX {
            let same = url.origin() == ask.url.origin();
            let answer = self.once(ask, &url, authorization.filter(|_| same), bytes_max).await?;
            let reads = ask.method == Method::GET || ask.method == Method::HEAD;
            if !(reads && answer.status.is_redirection()) {
                return Ok(answer);
            }
            let Some(next) = answer.location()? else { return Ok(answer) };
            ensure!(hop < REDIRECTS_MAX, "it sends one on {REDIRECTS_MAX} times");
            url = next;
        }
        bail!("it sends one on {REDIRECTS_MAX} times")
    }

    async fn once(
        &self,
        ask: &Ask,
        url: &Url,
        authorization: Option<&HeaderValue>,
        bytes_max: usize,
    ) -> anyhow::Result<Answer> {
        check(url)?;
        let mut request = ::http::Request::builder().method(ask.method.clone()).uri(url.as_str());
        for (name, value) in ask.headers.iter() {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(ask.body.clone()))?;
        let host = url.host_str().unwrap_or_default();
        let answer = self.client.request(request).await.with_context(|| format!("no answer from {host}"))?;
        let (head, body) = answer.into_parts();
        let bytes_max = if head.status.is_success() { bytes_max } else { SAID_BYTES_MAX };
        let body = bounded(body, bytes_max, head.status.is_success()).await;
        let body = body.with_context(|| format!("the answer of {host}"))?;
        Ok(Answer { status: head.status, headers: head.headers, body, url: url.clone() })
    }
}

/// A body within its bound: one that is longer is refused, or cut off where only its beginning is of interest.
async fn bounded(mut body: hyper::body::Incoming, bytes_max: usize, whole: bool) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("it broke off")?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > bytes_max {
            ensure!(!whole, "it is larger than the {bytes_max} bytes that are read");
            break;
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes.into())
}

impl Answer {
    /// Where it points to.
    pub(super) fn location(&self) -> anyhow::Result<Option<Url>> {
        let Some(value) = self.headers.get(header::LOCATION) else { return Ok(None) };
        let text = value.to_str().context("it points to an odd place")?;
        let url = self.url.join(text).context("it points to an odd place")?;
        check(&url)?;
        Ok(Some(url))
    }

    /// The code of its refusal, if it gives one: `, MANIFEST_UNKNOWN`. The words of a stranger are not printed.
    pub(super) fn said(&self) -> String {
        let document: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let code = document["errors"][0]["code"].as_str().unwrap_or_default();
        let plain = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        if plain { format!(", {code}") } else { String::new() }
    }
}
