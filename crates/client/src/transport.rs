//! Sending: a credential, a list of routers, a bound on every wait.

use crate::error::{ClientError, ProblemBody};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Above the service's own deadlines, so that its answer is heard.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What a caller shows: a service key, an operator key, or a session token.
#[derive(Clone)]
pub struct Credential(String);

impl Credential {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    urls: Arc<[String]>,
    credential: Option<Credential>,
}

impl Client {
    /// Asks the first of `urls`; when that refuses the connection, the next.
    ///
    /// # Errors
    /// When there is no URL.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>, credential: Credential) -> Result<Self, ClientError> {
        let urls: Arc<[String]> = urls.into_iter().map(|url| url.into().trim_end_matches('/').to_owned()).collect();
        let first = urls.first().ok_or(ClientError::NoUrl)?.clone();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .map_err(|cause| ClientError::NoAnswer { url: first, cause })?;
        Ok(Self { http, urls, credential: Some(credential) })
    }

    /// The same connections under another credential.
    pub fn with_credential(&self, credential: Credential) -> Self {
        Self { credential: Some(credential), ..self.clone() }
    }

    /// The same connections under none: log-in by password.
    pub fn without_credential(&self) -> Self {
        Self { credential: None, ..self.clone() }
    }

    /// Sends `method path`, shaped by `with`, to the first URL that takes the connection.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let mut refused = None;
        for base in self.urls.iter() {
            let url = format!("{base}{path}");
            let mut request = self.http.request(method.clone(), &url);
            if let Some(credential) = &self.credential {
                request = request.bearer_auth(&credential.0);
            }
            match with(request).send().await {
                Ok(response) => return Ok(response),
                // Nothing was sent: another router may be asked without fear of asking twice.
                Err(cause) if cause.is_connect() => refused = Some(ClientError::NoAnswer { url, cause }),
                Err(cause) => return Err(ClientError::NoAnswer { url, cause }),
            }
        }
        Err(refused.unwrap_or(ClientError::NoUrl))
    }

    /// Sends and reads a JSON answer.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<T, ClientError> {
        json(self.send(method, path, with).await?).await
    }

    /// Sends and expects nothing but success.
    pub(crate) async fn tell(
        &self,
        method: Method,
        path: &str,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<(), ClientError> {
        let response = self.send(method, path, with).await?;
        if response.status().is_success() { Ok(()) } else { Err(refusal(response).await) }
    }
}

pub(crate) async fn json<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let (url, status) = (response.url().to_string(), response.status().as_u16());
    response.json().await.map_err(|_| ClientError::Odd { url, status })
}

/// An answer that is not JSON, as far as `bytes_max`.
pub(crate) async fn bytes(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, ClientError> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let (url, status) = (response.url().to_string(), response.status().as_u16());
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= bytes_max => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(ClientError::Odd { url, status }),
            Ok(None) => return Ok(body),
            Err(cause) => return Err(ClientError::NoAnswer { url, cause }),
        }
    }
}

pub(crate) async fn refusal(response: Response) -> ClientError {
    let (url, status): (String, StatusCode) = (response.url().to_string(), response.status());
    match response.json::<ProblemBody>().await {
        Ok(problem) => ClientError::Refused(Box::new(problem)),
        Err(_) => ClientError::Odd { url, status: status.as_u16() },
    }
}
