//! A request as it travels: what may be sent again, and what belongs to one connection only.

use axum::body::Body;
use bytes::Bytes;
use cellar_model::{DeadlineMs, Problem, header as ours};
use cellar_server::{read_body, read_body_within};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method, Request, Uri, header};

/// Bodies up to this are kept until the answer, so that they can be sent to another cell.
pub(crate) const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A body, kept or passed on.
pub(crate) enum Cargo {
    Kept(Bytes),
    /// Gone once it has been sent: waiting for a user who is moved, it takes no room.
    Passing(Option<Body>),
}

impl Cargo {
    /// Read whole first: how fast a caller sends, and how much, is nothing a cell is to wait for or be blamed for.
    pub(crate) async fn load(body: Body) -> Result<Self, Problem> {
        let bytes = read_body(body).await?;
        Ok(match bytes.len() <= KEPT_BYTES_MAX {
            true => Cargo::Kept(bytes),
            false => Cargo::Passing(Some(Body::from(bytes))),
        })
    }

    /// The body to send now; none if it has been sent and was not kept.
    fn take(&mut self) -> Option<Body> {
        match self {
            Cargo::Kept(bytes) => Some(Body::from(bytes.clone())),
            Cargo::Passing(body) => body.take(),
        }
    }
}

/// A whole body of at most `KEPT_BYTES_MAX`.
pub(crate) async fn read_whole(body: Body) -> Result<Bytes, Problem> {
    read_body_within(body, KEPT_BYTES_MAX).await
}

/// A request for a cell, its headers checked and written by the front door.
pub(crate) struct Outgoing {
    method: Method,
    path: PathAndQuery,
    headers: HeaderMap,
    cargo: Cargo,
}

impl Outgoing {
    pub(crate) fn new(parts: Parts, cargo: Cargo) -> Self {
        let mut headers = parts.headers;
        strip_connection(&mut headers);
        // The client writes its own.
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Self { method: parts.method, path, headers, cargo }
    }

    /// The request to send now; none if its body is gone.
    pub(crate) fn request(&mut self, left: DeadlineMs) -> Option<Request<Body>> {
        let mut request = Request::new(self.cargo.take()?);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.path.clone());
        *request.headers_mut() = self.headers.clone();
        let deadline = HeaderName::from_static(ours::DEADLINE_MS);
        request.headers_mut().insert(deadline, u64::from(left.get()).into());
        cellar_server::telemetry::inject(request.headers_mut());
        Some(request)
    }
}

/// Drops what is about one connection and not about the request (RFC 9110, 7.6.1).
pub(crate) fn strip_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    const FIXED: [HeaderName; 7] = [
        header::CONNECTION,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::EXPECT,
    ];
    let others = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for name in named.into_iter().chain(FIXED).chain(others) {
        // What the front door wrote is not for a caller's Connection header to drop.
        if !name.as_str().starts_with("cellar-") {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connections_own_headers_stay_behind_and_ours_do_not() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", "close, x-hop, cellar-user".parse().unwrap());
        for name in ["x-hop", "cellar-user", "keep-alive", "te", "accept"] {
            headers.insert(name, "1".parse().unwrap());
        }
        strip_connection(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "cellar-user"]);
    }
}
