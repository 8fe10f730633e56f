//! Images in a registry, by the OCI distribution protocol.
//!
//! It is spoken here and not by a library, since a registry is a stranger: every answer is read within a bound, a
//! log-in that failed is not gone on without, and no credential goes to another host than the one it is for.

mod challenge;
mod credentials;
mod http;
mod reference;

pub(crate) use reference::Reference;

use self::http::{Answer, Ask, Http};
use ::http::{HeaderValue, Method, StatusCode, header};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use cellar_artifacts::{Blob, Bundle, Descriptor, IMAGE_MANIFEST, Image, MANIFEST_BYTES_MAX, Parts};
use cellar_model::Digest;
use challenge::Challenge;
use credentials::Credentials;
use reference::At;
use url::Url;

/// Of an answer whose body is not wanted.
const NOTHING_BYTES_MAX: usize = 64 * 1024;

/// One repository of a registry.
pub(crate) struct Registry {
    http: Http,
    at: Reference,
    credentials: Option<Credentials>,
    /// What the registry has given for the last challenge.
    authorization: Option<HeaderValue>,
}

impl Registry {
    /// With the credentials of the environment, if there are any for this host.
    pub(crate) fn of(reference: &Reference) -> anyhow::Result<Self> {
        let credentials = Credentials::of_environment(&reference.host)?;
        Ok(Self {
            http: Http::new(reference.scheme() == "https")?,
            at: reference.clone(),
            credentials,
            authorization: None,
        })
    }

    /// The policy under this tag or digest, each part of it checked against the digest it is named by.
    pub(crate) async fn pull(mut self) -> anyhow::Result<Bundle> {
        let accept = [(header::ACCEPT, HeaderValue::from_static(IMAGE_MANIFEST))];
        let url = self.url(&format!("manifests/{}", self.at.at))?;
        let ask = Ask { headers: accept.into(), ..Ask::of(Method::GET, url) };
        let answer = self.ask(ask, MANIFEST_BYTES_MAX).await.with_context(|| format!("fetching {}", self.at))?;
        if let At::Digest(digest) = &self.at.at {
            let found = Digest::of(&answer.body);
            ensure!(found == *digest, "the manifest that came for {digest} is another: {found}");
        }
        let parts = Parts::of(&answer.body).with_context(|| self.at.to_string())?;
        let component = self.blob(&parts.component).await?;
        let signature = self.blob(&parts.signature).await?;
        let certificate = match &parts.certificate {
            Some(part) => Some(self.blob(part).await?),
            None => None,
        };
        Ok(Parts::assemble(component, &signature, certificate)?)
    }

    /// Puts an image there, what is there already left out. Cut short, it is given again.
    pub(crate) async fn push(mut self, image: &Image) -> anyhow::Result<()> {
        ensure!(matches!(self.at.at, At::Tag(_)), "an image is pushed under a tag: name one, {}:TAG", self.at);
        for blob in &image.blobs {
            self.push_blob(blob).await.with_context(|| format!("sending blob {}", blob.digest))?;
        }
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(IMAGE_MANIFEST))];
        let url = self.url(&format!("manifests/{}", self.at.at))?;
        let body = Bytes::from(image.manifest.clone());
        let ask = Ask { headers: kind.into(), body, ..Ask::of(Method::PUT, url) };
        self.ask(ask, NOTHING_BYTES_MAX).await.context("sending the manifest")?;
        Ok(())
    }

    async fn blob(&mut self, descriptor: &Descriptor) -> anyhow::Result<Vec<u8>> {
        let url = self.url(&format!("blobs/{}", descriptor.digest))?;
        // `Parts::of` has looked at every size.
        let bytes_max = usize::try_from(descriptor.size)?;
        let fetching = || format!("fetching blob {} ({})", descriptor.digest, descriptor.media_type);
        let answer = self.ask(Ask::of(Method::GET, url), bytes_max).await.with_context(fetching)?;
        descriptor.check(&answer.body)?;
        Ok(answer.body.into())
    }

    async fn push_blob(&mut self, blob: &Blob) -> anyhow::Result<()> {
        let url = self.url(&format!("blobs/{}", blob.digest))?;
        if self.answered(Ask::of(Method::HEAD, url), NOTHING_BYTES_MAX).await?.status == StatusCode::OK {
            return Ok(());
        }
        let begun = self.ask(Ask::of(Method::POST, self.url("blobs/uploads/")?), NOTHING_BYTES_MAX).await?;
        let mut place = begun.location()?.context("it does not say where to upload")?;
        place.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
        let body = Bytes::from(blob.bytes.clone());
        self.ask(Ask { headers: kind.into(), body, ..Ask::of(Method::PUT, place) }, NOTHING_BYTES_MAX).await?;
        Ok(())
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        let Reference { host, repository, .. } = &self.at;
        Ok(Url::parse(&format!("{}://{host}/v2/{repository}/{path}", self.at.scheme()))?)
    }

    /// An answer that is a success.
    async fn ask(&mut self, ask: Ask, bytes_max: usize) -> anyhow::Result<Answer> {
        let answer = self.answered(ask, bytes_max).await?;
        let (host, status) = (&self.at.host, answer.status);
        if status.is_success() {
            return Ok(answer);
        }
        let said = answer.said();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.credentials.is_none() => bail!(
                "{host} wants credentials ({status}{said}): put `{host} USER PASSWORD` into a file and name it in {}",
                credentials::FILE
            ),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                bail!("{host} does not let these credentials do that ({status}{said})")
            }
            StatusCode::NOT_FOUND => bail!("{host} has no such thing ({status}{said})"),
            status if status.is_server_error() => bail!("{host} fails ({status}{said}): try again later"),
            status => bail!("{host} refuses it ({status}{said})"),
        }
    }

    /// An answer, asked for a second time if the first one was a challenge that can be met.
    async fn answered(&mut self, ask: Ask, bytes_max: usize) -> anyhow::Result<Answer> {
        let first = self.http.send(&ask, self.authorization_for(&ask.url), bytes_max).await?;
        if first.status != StatusCode::UNAUTHORIZED || !self.is_own(&ask.url) {
            return Ok(first);
        }
        let Some(challenge) = Challenge::of(&first.headers) else { return Ok(first) };
        let met = challenge.met(&self.http, self.credentials.as_ref()).await;
        let Some(authorization) = met.with_context(|| format!("logging in at {}", self.at.host))? else {
            return Ok(first);
        };
        self.authorization = Some(authorization);
        self.http.send(&ask, self.authorization_for(&ask.url), bytes_max).await
    }

    /// What is said to the registry is said to nobody else, wherever it sends us.
    fn authorization_for(&self, url: &Url) -> Option<&HeaderValue> {
        self.authorization.as_ref().filter(|_| self.is_own(url))
    }

    fn is_own(&self, url: &Url) -> bool {
        Url::parse(&format!("{}://{}/", self.at.scheme(), self.at.host)).is_ok_and(|own| own.origin() == url.origin())
    }
}

#[cfg(test)]
mod tests;
