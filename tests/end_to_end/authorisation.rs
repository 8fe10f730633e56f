//! Route by credential: every cell of the matrix, over a public cell and a router.

use crate::served::{Came, DOORS, Operation, Served, parameters};
use crate::support::{World, sign_up_body};
use cellar_devstack::Stack;
use cellar_directory::{OpenDirectory, catalog};
use cellar_model::{ApiKey, KeyDocument, KeyKind, KeyName, Scope, Secret, UserId};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Who may come in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    /// A service key with the scope for users.
    Users,
    /// A service key with the scope for quotas.
    Quota,
    /// A service key with the scope for users, or a session.
    UsersOrSession,
    /// A service key with either scope, or a session.
    EitherOrSession,
    /// A service key with the scope for users: it says who it is.
    Trusted,
    /// Anybody: the password in the body is the credential. Another one has to be good.
    Password,
}

/// The door of each example of each operation: a route without one here fails the test.
const ROWS: &[(&str, &str, Door)] = &[
    ("signUp", "person", Door::Users),
    ("signUp", "brought", Door::Users),
    ("signUp", "leaving", Door::Users),
    ("logIn", "trusted", Door::Trusted),
    ("logIn", "password", Door::Password),
    ("listSessions", "sessions", Door::UsersOrSession),
    ("revokeSessions", "everywhere", Door::UsersOrSession),
    ("revokeSession", "session", Door::UsersOrSession),
    ("readProfile", "profile", Door::UsersOrSession),
    ("patchProfile", "name", Door::UsersOrSession),
    ("readPreferences", "preferences", Door::UsersOrSession),
    ("patchPreferences", "theme", Door::UsersOrSession),
    ("consume", "tokens", Door::Quota),
    ("consume", "ask", Door::Quota),
    ("batch", "two", Door::Quota),
    ("admit", "session", Door::Quota),
    ("reserve", "tokens", Door::Quota),
    ("settle", "less", Door::Quota),
    ("refund", "charge", Door::Quota),
    ("grant", "tokens", Door::Quota),
    ("overrideSlot", "limit", Door::Quota),
    ("readQuota", "quota", Door::EitherOrSession),
    ("readUsage", "month", Door::EitherOrSession),
    ("changeOwnPassword", "given", Door::UsersOrSession),
    ("exportOwn", "person", Door::UsersOrSession),
    ("eraseOwn", "end", Door::UsersOrSession),
    ("readUser", "account", Door::Users),
    ("eraseUser", "end", Door::Users),
    ("changeTier", "tier", Door::Users),
    ("block", "block", Door::Users),
    ("unblock", "unblock", Door::Users),
    ("changePassword", "given", Door::Users),
    ("exportUser", "person", Door::Users),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    None,
    Empty,
    OtherScheme,
    Malformed,
    WrongChecksum,
    UnknownKey,
    RevokedKey,
    QuotaKey,
    UsersKey,
    OperatorKey,
    ForgedSession,
    ExpiredSession,
    RevokedSession,
    /// Of a user of its own, who has no part in what is asked for.
    OthersSession,
    Session,
}

const CREDENTIALS: &[Credential] = &[
    Credential::None,
    Credential::Empty,
    Credential::OtherScheme,
    Credential::Malformed,
    Credential::WrongChecksum,
    Credential::UnknownKey,
    Credential::RevokedKey,
    Credential::QuotaKey,
    Credential::UsersKey,
    Credential::OperatorKey,
    Credential::ForgedSession,
    Credential::ExpiredSession,
    Credential::RevokedSession,
    Credential::OthersSession,
    Credential::Session,
];

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    In,
    Unauthorized,
    Forbidden,
}

fn expected(door: Door, credential: Credential) -> Outcome {
    use Credential as C;
    let of_key = |may: bool| if may { Outcome::In } else { Outcome::Forbidden };
    match credential {
        C::None if door == Door::Password => Outcome::In,
        C::None
        | C::Empty
        | C::OtherScheme
        | C::Malformed
        | C::WrongChecksum
        | C::UnknownKey
        | C::RevokedKey
        | C::ForgedSession => Outcome::Unauthorized,
        C::QuotaKey => of_key(matches!(door, Door::Quota | Door::EitherOrSession)),
        C::UsersKey => of_key(door != Door::Quota),
        C::OperatorKey => Outcome::Forbidden,
        // Whose MAC is right: which routes take sessions is said before whether this one is in force.
        C::ExpiredSession | C::RevokedSession | C::OthersSession | C::Session => match door {
            Door::Users | Door::Quota | Door::Trusted => Outcome::Forbidden,
            Door::Password => Outcome::In,
            Door::UsersOrSession | Door::EitherOrSession => match credential {
                C::ExpiredSession | C::RevokedSession => Outcome::Unauthorized,
                _ => Outcome::In,
            },
        },
    }
}

/// Goal: who may do what is exactly what the matrix says, at both doors.
/// Method: the examples of the served document, each with each credential; one who is let in gets any answer that
/// is not about the credential.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_exactly_those_whom_the_matrix_names() {
    for door in DOORS {
        let world = World::up(door);
        let gate = Gate::open(&world).await;
        gate.assert_rows_are_whole();
        let before = gate.of_grace().await;
        for (operation, example, door) in ROWS {
            let operation = gate.served.operation(operation);
            for credential in CREDENTIALS {
                gate.try_cell(&operation, example, *door, *credential).await;
            }
        }
        gate.assert_untouched_by_others(&before).await;
    }
}

struct Gate {
    served: Served,
    operator_key: String,
    quota_key: String,
    users_key: String,
    revoked_key: String,
    world_key: String,
    database: sqlx::PgPool,
}

impl Gate {
    async fn open(world: &World) -> Gate {
        let stack = Stack::open(world.cellctl.stack()).unwrap();
        let state = stack.state();
        let directory = OpenDirectory::connect(&Secret::new(state.directory_url.clone()), 1).await.unwrap();
        let quota_key = put_key(&directory, "quota-only", vec![Scope::Quota], false).await;
        let users_key = put_key(&directory, "users-only", vec![Scope::Users], false).await;
        let revoked_key = put_key(&directory, "gone", vec![Scope::Quota, Scope::Users], true).await;
        let cell = state.processes.iter().find(|process| process.role.label() == "postgres").unwrap();
        let served = Served::of(world).await;
        let gate = Gate {
            operator_key: state.operator_key.clone().unwrap(),
            database: sqlx::PgPool::connect(&cell.url).await.unwrap(),
            world_key: served.key.clone(),
            served,
            quota_key,
            users_key,
            revoked_key,
        };
        for user in ["grace", "mallory"] {
            let mut body = sign_up_body(&format!("{user}@example.org"), "free");
            body.user_id = Some(UserId::new(user).unwrap());
            gate.until_in_force(async || world.client.sign_up(&body, Some(user)).await.is_ok()).await;
        }
        let request = |key: &str| gate.served.http.get(format!("{}/v1/user/quota", gate.served.url)).bearer_auth(key);
        for key in [&gate.quota_key, &gate.users_key] {
            gate.until_in_force(async || Came::of(request(key).header("cellar-user", "grace")).await.status == 200)
                .await;
        }
        gate
    }

    async fn until_in_force(&self, holds: impl AsyncFn() -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !holds().await {
            assert!(Instant::now() < until, "users and keys do not come into force");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn assert_rows_are_whole(&self) {
        let all: BTreeSet<(String, String)> = self
            .served
            .operations()
            .iter()
            .flat_map(|operation| operation.examples().into_iter().map(|(name, _)| (operation.id.clone(), name)))
            .collect();
        let rows = ROWS.iter().map(|(operation, example, _)| ((*operation).to_owned(), (*example).to_owned()));
        assert_eq!(all, rows.collect(), "every example of every operation has a row");
    }

    async fn try_cell(&self, operation: &Operation, name: &str, door: Door, credential: Credential) {
        let example = operation.examples()[name].clone();
        let mut request = self.served.request(operation, &parameters(&example));
        if !example["body"].is_null() {
            request = request.body(example["body"].to_string());
        }
        // Whoever may erase is somebody new: the others are still needed.
        let erases = operation.id == "eraseOwn";
        let (own, other) = match erases {
            true => (self.leaver().await, self.leaver().await),
            false => ("grace".to_owned(), "mallory".to_owned()),
        };
        let came = Came::of(self.with(credential, request, &own, &other).await).await;
        let what = format!("{} {name} with {credential:?}: {}", operation.id, came.text);
        // A password that nobody has is refused in the same words: by its detail it is told apart.
        let of_password = came.body["detail"] == "no account has this e-mail and password";
        let outcome = match came.kind() {
            "/problems/unauthorized" if !of_password => Outcome::Unauthorized,
            "/problems/forbidden" => Outcome::Forbidden,
            _ => Outcome::In,
        };
        assert_eq!(outcome, expected(door, credential), "{what}");
        assert!(came.status < 500, "{what}");
        assert_eq!(self.served.fault(operation, &came), None, "{what}");
        if outcome == Outcome::Unauthorized {
            assert_eq!(came.header("www-authenticate"), "Bearer", "{what}");
        }
        if credential == Credential::OthersSession
            && let Some(user) = came.body["user_id"].as_str().filter(|_| door != Door::Password)
        {
            assert_eq!(user, other, "{what}");
        }
    }

    /// Somebody nobody has asked for yet.
    async fn leaver(&self) -> String {
        let id = format!("leaver-{:08x}", rand::random::<u32>());
        let body = json!({"email": format!("{id}@example.org"), "tier": "free", "user_id": id}).to_string();
        let request = self.served.http.post(format!("{}/v1/users", self.served.url)).bearer_auth(&self.world_key);
        let came = Came::of(request.body(body)).await;
        assert_eq!(came.status, 201, "{}", came.text);
        id
    }

    /// `own` is the user whom the example asks for, `other` one who has no part in it.
    async fn with(&self, credential: Credential, request: RequestBuilder, own: &str, other: &str) -> RequestBuilder {
        let changed = |text: &str| {
            let last = if text.ends_with('a') { 'b' } else { 'a' };
            format!("{}{last}", &text[..text.len() - 1])
        };
        match credential {
            Credential::None => request,
            Credential::Empty => request.header("authorization", "Bearer"),
            Credential::OtherScheme => request.basic_auth("gateway", Some(&self.world_key)),
            Credential::Malformed => request.bearer_auth("csk_no-key"),
            Credential::WrongChecksum => request.bearer_auth(changed(&self.world_key)),
            Credential::UnknownKey => {
                request.bearer_auth(ApiKey::generate(KeyKind::Service, &mut rand::rng()).reveal())
            }
            Credential::RevokedKey => request.bearer_auth(&self.revoked_key),
            Credential::QuotaKey => request.bearer_auth(&self.quota_key),
            Credential::UsersKey => request.bearer_auth(&self.users_key),
            Credential::OperatorKey => request.bearer_auth(&self.operator_key),
            Credential::ForgedSession => request.bearer_auth(changed(&self.session(own).await.1)),
            Credential::ExpiredSession => {
                let (session, token) = self.session(own).await;
                let expired = "update sessions set expires_at = now() - interval '1 second' where session_id = $1";
                let rows = sqlx::query(expired).bind(&session).execute(&self.database).await.unwrap();
                assert_eq!(rows.rows_affected(), 1);
                request.bearer_auth(token)
            }
            Credential::RevokedSession => {
                let (session, token) = self.session(own).await;
                let url = format!("{}/v1/sessions/{session}", self.served.url);
                let revoke = self.served.http.delete(url).bearer_auth(&self.world_key).header("cellar-user", own);
                assert_eq!(Came::of(revoke).await.status, 204);
                request.bearer_auth(token)
            }
            Credential::OthersSession => request.bearer_auth(self.session(other).await.1),
            Credential::Session => request.bearer_auth(self.session(own).await.1),
        }
    }

    /// A new session: its id and its token.
    async fn session(&self, user: &str) -> (String, String) {
        let request = self.served.http.post(format!("{}/v1/sessions", self.served.url)).bearer_auth(&self.world_key);
        let came = Came::of(request.body(json!({"user_id": user}).to_string())).await;
        assert_eq!(came.status, 201, "{}", came.text);
        let text = |member: &str| came.body[member].as_str().unwrap().to_owned();
        (text("session_id"), text("session_token"))
    }

    async fn of_grace(&self) -> Value {
        let request = self.served.http.get(format!("{}/v1/user/profile", self.served.url));
        Came::of(request.bearer_auth(&self.world_key).header("cellar-user", "grace")).await.body
    }

    /// Whoever came with a session of another user has changed nothing of hers.
    async fn assert_untouched_by_others(&self, before: &Value) {
        let (_, token) = self.session("grace").await;
        let (_, other) = self.session("mallory").await;
        let url = |path: &str| format!("{}{path}", self.served.url);
        let patch = self.served.http.patch(url("/v1/user/profile")).bearer_auth(&other).header("cellar-user", "grace");
        assert_eq!(Came::of(patch.body(r#"{"name":"Mallory"}"#)).await.status, 200);
        let revoke = self.served.http.delete(url("/v1/sessions")).bearer_auth(&other).header("cellar-user", "grace");
        assert_eq!(Came::of(revoke).await.status, 204);
        let hers = Came::of(self.served.http.get(url("/v1/user/profile")).bearer_auth(&token)).await;
        assert_eq!((hers.status, &hers.body["user_id"], &hers.body["email"]), (200, &json!("grace"), &before["email"]));
        assert_ne!(hers.body["name"], "Mallory");
    }
}

async fn put_key(directory: &OpenDirectory, name: &str, scopes: Vec<Scope>, revoked: bool) -> String {
    let key = ApiKey::generate(KeyKind::Service, &mut rand::rng());
    let name = KeyName::new(name).unwrap();
    let (kind, hash) = (KeyKind::Service, key.hash());
    let document = KeyDocument { name, kind, hash, scopes, auto_enrol: None, previous: None, revoked };
    catalog::put_key(directory, &document).await.unwrap();
    key.reveal().to_owned()
}
