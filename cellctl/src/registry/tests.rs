//! Against a registry of the tests' own on loopback, which does as registries should, or does not.

use super::*;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use cellar_artifacts::{SigningKey, pack};
use cellar_model::{PolicyName, VersionNumber};
use futures::stream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TOKEN: &str = "a-token";
const UPLOADS: &str = "/v2/acme/night/blobs/uploads/";

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mode {
    #[default]
    Correct,
    /// Wants a token, which it gives to whoever has the password.
    Guarded,
    Closed,
    /// Never answers.
    Slow,
    /// Blobs with their last byte changed, or missing; manifests that are other ones.
    WrongBytes,
    ShortBytes,
    OtherManifest,
    Fails,
    /// Manifests, or blobs, that do not end.
    HugeManifest,
    HugeBlob,
    /// Blobs are elsewhere.
    Elsewhere,
}

#[derive(Clone, Default)]
struct Stub(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    mode: Mode,
    /// By the end of their path.
    held: HashMap<String, Vec<u8>>,
    /// Where blobs are, if they are elsewhere.
    elsewhere: String,
    /// What was shown, request by request.
    shown: Vec<Option<String>>,
}

impl Stub {
    /// Where it listens.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Router::new().fallback(answer).with_state((self.clone(), address.clone()));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    fn on<T>(&self, act: impl FnOnce(&mut Kept) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn set(&self, mode: Mode) {
        self.on(|kept| kept.mode = mode);
    }
}

async fn answer(State((stub, address)): State<(Stub, String)>, request: Request) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let mode = stub.on(|kept| {
        kept.shown.push(shown.clone());
        kept.mode
    });
    let path = request.uri().path().to_owned();
    match mode {
        Mode::Slow => std::future::pending().await,
        Mode::Fails => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mode::Guarded if path == "/token" => {
            let known = shown.as_deref() == Some("Basic bWU6c2VzYW1l");
            let body = serde_json::json!({ "token": TOKEN }).to_string();
            return if known { body.into_response() } else { StatusCode::FORBIDDEN.into_response() };
        }
        Mode::Guarded | Mode::Closed if shown != Some(format!("Bearer {TOKEN}")) => {
            let challenge = match mode {
                Mode::Guarded => format!("Bearer realm=\"http://{address}/token\",service=\"stub\",scope=\"all\""),
                _ => "Basic realm=\"stub\"".to_owned(),
            };
            return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
        }
        _ => {}
    }
    match *request.method() {
        Method::POST if path == UPLOADS => {
            (StatusCode::ACCEPTED, [(header::LOCATION, format!("{UPLOADS}1?state=x"))]).into_response()
        }
        Method::PUT => put(&stub, &path, request).await,
        _ => get(&stub, mode, &path),
    }
}

async fn put(stub: &Stub, path: &str, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().replace("%3A", ":");
    let body = axum::body::to_bytes(request.into_body(), 4 << 20).await.unwrap().to_vec();
    let digest = Digest::of(&body).to_string();
    if path.starts_with(UPLOADS) {
        assert_eq!(query, format!("state=x&digest={digest}"));
    }
    stub.on(|kept| {
        if let Some(tag) = path.rsplit('/').next() {
            kept.held.insert(tag.to_owned(), body.clone());
        }
        kept.held.insert(digest, body);
    });
    StatusCode::CREATED.into_response()
}

fn get(stub: &Stub, mode: Mode, path: &str) -> Response {
    let is_blob = path.contains("/blobs/");
    let name = path.rsplit('/').next().unwrap();
    let Some(mut bytes) = stub.on(|kept| kept.held.get(name).cloned()) else {
        let said = serde_json::json!({ "errors": [{ "code": "MANIFEST_UNKNOWN", "message": "\u{1b}[31m" }] });
        return (StatusCode::NOT_FOUND, said.to_string()).into_response();
    };
    match mode {
        Mode::WrongBytes if is_blob => *bytes.last_mut().unwrap() ^= 1,
        Mode::ShortBytes if is_blob => bytes.truncate(bytes.len() - 1),
        Mode::OtherManifest if !is_blob => bytes.push(b'\n'),
        Mode::HugeManifest if !is_blob => return endless(),
        Mode::HugeBlob if is_blob => return endless(),
        Mode::Elsewhere if is_blob => {
            let place = stub.on(|kept| format!("http://{}{path}", kept.elsewhere));
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, place)]).into_response();
        }
        _ => {}
    }
    bytes.into_response()
}

fn endless() -> Response {
    let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 * 1024]));
    Body::from_stream(stream::repeat_with(piece)).into_response()
}

fn bundle() -> Bundle {
    let component = b"\0asm\x0d\0\x01\0 a component".to_vec();
    let (name, digest) = (PolicyName::new("night").unwrap(), Digest::of(&component));
    let signature = SigningKey::generate(&mut rand::rng()).sign(&name, VersionNumber::new(1, 0, 0), &digest, None);
    Bundle::new(component, signature, None).unwrap()
}

fn image() -> (Bundle, Image) {
    let bundle = bundle();
    let image = pack(&bundle, r#"{"name":"night","settings_schema":{}}"#).unwrap();
    (bundle, image)
}

fn registry(address: &str, at: &str) -> Registry {
    let reference: Reference = format!("{address}/acme/night{at}").parse().unwrap();
    Registry { http: Http::new(false).unwrap(), at: reference, credentials: None, authorization: None }
}

fn known(registry: Registry) -> Registry {
    let credentials = Credentials { user: "me".into(), password: cellar_model::Secret::new("sesame".into()) };
    Registry { credentials: Some(credentials), ..registry }
}

#[tokio::test]
async fn what_is_pushed_is_pulled_by_tag_and_by_digest() {
    let (stub, (bundle, image)) = (Stub::default(), image());
    let address = stub.start().await;
    registry(&address, ":1.0.0").push(&image).await.unwrap();
    let digest = format!("@{}", Digest::of(&image.manifest));
    for at in [":1.0.0", &digest] {
        assert_eq!(registry(&address, at).pull().await.unwrap(), bundle);
    }
    // What is there is not sent again: the manifest is all that is put.
    let before = stub.on(|kept| kept.shown.len());
    registry(&address, ":1.0.0").push(&image).await.unwrap();
    assert_eq!(stub.on(|kept| kept.shown.len()) - before, image.blobs.len() + 1);
    let error = format!("{:#}", registry(&address, &digest).push(&image).await.unwrap_err());
    assert!(error.contains("under a tag"), "{error}");
}

#[tokio::test]
async fn a_guarded_registry_is_told_who_asks_and_nobody_else_is() {
    let (stub, store, (bundle, image)) = (Stub::default(), Stub::default(), image());
    let (address, elsewhere) = (stub.start().await, store.start().await);
    stub.set(Mode::Guarded);
    known(registry(&address, ":1")).push(&image).await.unwrap();
    assert_eq!(known(registry(&address, ":1")).pull().await.unwrap(), bundle);
    let anonymous = format!("{:#}", registry(&address, ":1").pull().await.err().unwrap());
    assert!(anonymous.contains("the log-in was refused (403"), "{anonymous}");
    stub.set(Mode::Closed);
    let anonymous = format!("{:#}", registry(&address, ":1").pull().await.err().unwrap());
    assert!(anonymous.contains("wants credentials") && anonymous.contains(credentials::FILE), "{anonymous}");
    let refused = format!("{:#}", known(registry(&address, ":1")).pull().await.err().unwrap());
    assert!(refused.contains("does not let these credentials") && !refused.contains("sesame"), "{refused}");

    // Blobs that are kept elsewhere are fetched there, without a word of who asks.
    let held = stub.on(|kept| kept.held.clone());
    store.on(|kept| kept.held = held);
    stub.on(|kept| (kept.mode, kept.elsewhere) = (Mode::Elsewhere, elsewhere));
    let mut asking = known(registry(&address, ":1"));
    asking.authorization = Some(HeaderValue::from_static("Bearer a-token"));
    assert_eq!(asking.pull().await.unwrap(), bundle);
    assert!(stub.on(|kept| kept.shown.last().unwrap().is_some()));
    store.on(|kept| assert_eq!(kept.shown, [None, None]));
}

#[tokio::test]
async fn a_registry_that_is_slow_wrong_or_endless_is_refused_with_the_reason() {
    let (stub, (_, image)) = (Stub::default(), image());
    let address = stub.start().await;
    registry(&address, ":1").push(&image).await.unwrap();
    let by_digest = format!("@{}", Digest::of(&image.manifest));
    for (mode, at, reason) in [
        (Mode::Slow, ":1", "has not answered whole within"),
        (Mode::WrongBytes, ":1", "is damaged or forged"),
        (Mode::ShortBytes, ":1", "it is cut short or another"),
        (Mode::OtherManifest, by_digest.as_str(), "is another: sha256:"),
        (Mode::Fails, ":1", "fails (500 Internal Server Error): try again later"),
        (Mode::HugeManifest, ":1", "it is larger than"),
        (Mode::HugeBlob, ":1", "it is larger than"),
    ] {
        stub.set(mode);
        let mut asking = registry(&address, at);
        if mode == Mode::Slow {
            asking.http.answer_max = Duration::from_millis(100);
        }
        let error = format!("{:#}", asking.pull().await.err().unwrap());
        assert!(error.contains(reason), "{mode:?}: {error}");
    }
    stub.set(Mode::Correct);
    let error = format!("{:#}", registry(&address, ":2").pull().await.err().unwrap());
    assert!(error.contains("has no such thing (404 Not Found, MANIFEST_UNKNOWN)"), "{error}");
    stub.set(Mode::Fails);
    assert!(registry(&address, ":1").push(&image).await.is_err());
}

#[test]
fn credentials_are_a_hosts_own_and_in_nobodys_sight() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    std::fs::write(&file, "# ours\nregistry.example.org me a word with spaces \n127.0.0.1:5000 you sesame\n").unwrap();
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    assert!(Credentials::of_file(&file, "registry.example.org").unwrap_err().to_string().contains("chmod 600"));
    mode(0o600);
    let found = Credentials::of_file(&file, "registry.example.org").unwrap().unwrap();
    assert_eq!((found.user.as_str(), found.password.reveal()), ("me", "a word with spaces"));
    assert!(!format!("{found:?}").contains("spaces"));
    assert!(Credentials::of_file(&file, "registry.example.org.example.net").unwrap().is_none());
    std::fs::write(&file, "registry.example.org sesame\n").unwrap();
    let error = Credentials::of_file(&file, "registry.example.org").unwrap_err().to_string();
    assert!(error.contains("line 1") && !error.contains("sesame"), "{error}");
}
