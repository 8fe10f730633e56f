//! Two cells that speak to each other: forwards told, intents asked.

use super::claims::home_left_behind;
use super::{peppers, World, accounts, by_key, topology};
use crate::accounts::{Accounts, routes};
use crate::peers::Peers;
use cellar_directory::{HomeState, Homes};
use cellar_model::UserId;
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::{Executor, PgPool};
use tokio_util::sync::CancellationToken;

/// The world's cell eu-1 of the default region, a cell us-1, and a cell eu-2 that a topology may name.
struct Cells {
    world: World,
    us: Other,
    eu_2: Other,
    urls: [String; 3],
}

struct Other {
    accounts: Accounts,
    peers: Peers,
    pool: PgPool,
}

/// Answers at `url` until the token says stop; a port that was served before is served again.
async fn serve(accounts: &Accounts, at: &str, stop: &CancellationToken) -> String {
    let listener = cellar_server::bind(at.parse().unwrap()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = routes(accounts.clone()).split_for_parts().0;
    tokio::spawn(cellar_server::serve_plain(listener, routes, stop.clone()));
    url
}

impl Cells {
    async fn start() -> Self {
        let mut world = World::start().await;
        let us = Self::other(&world, "us-1").await;
        let eu_2 = Self::other(&world, "eu-2").await;
        let peers = Peers::new();
        world.accounts = accounts(
            world.pool.clone(),
            &world.redis_url,
            world.directory.clone(),
            "eu-1",
            peers.clone(),
            peppers(b"a"),
        );
        world.routes = routes(world.accounts.clone()).split_for_parts().0;
        let stop = CancellationToken::new();
        let mut urls = Vec::new();
        for accounts in [&world.accounts, &us.accounts, &eu_2.accounts] {
            urls.push(serve(accounts, "127.0.0.1:0", &stop).await);
        }
        let cells = Self { world, us, eu_2, urls: urls.try_into().unwrap() };
        let topology = cells.topology(1, None, true);
        for peers in [&peers, &cells.us.peers, &cells.eu_2.peers] {
            peers.adopt(topology.clone()).unwrap();
        }
        cells
    }

    /// `eu_2` is its state, if it is there; us-1 finds nobody at eu-1's address unless it is `up`.
    fn topology(&self, revision: u64, eu_2: Option<&str>, up: bool) -> cellar_model::Topology {
        let [eu_1, us_1, eu_2_url] = &self.urls;
        let mut cells = vec![("eu", "eu-1", "open", if up { eu_1 } else { "http://127.0.0.1:1" })];
        cells.extend(eu_2.map(|state| ("eu", "eu-2", state, eu_2_url.as_str())));
        cells.push(("us", "us-1", "open", us_1));
        topology(revision, &cells)
    }

    async fn other(world: &World, name: &str) -> Other {
        let database = name.replace('-', "_");
        world.pool.execute(sqlx::AssertSqlSafe(format!("create database {database}"))).await.unwrap();
        let options = (*world.pool.connect_options()).clone().database(&database);
        let pool = PgPool::connect_with(options).await.unwrap();
        sqlx::migrate!("../migrations/postgres/cell").run(&pool).await.unwrap();
        let peers = Peers::new();
        let accounts =
            accounts(pool.clone(), &world.redis_url, world.directory.clone(), name, peers.clone(), peppers(b"a"));
        Other { accounts, peers, pool }
    }

    /// A sign-up that brings its id, at us-1.
    async fn sign_up_in_us(&self, user: &str, intent: &str) -> Result<(), StatusCode> {
        let body = json!({"email": format!("{user}@example.org"), "tier": "pro", "user_id": user, "region": "us"});
        let placed = json!({"user_id": user, "region": "us", "intent": intent, "body": body});
        let made = self.us.accounts.sign_up(serde_json::from_value(placed).unwrap()).await;
        made.map(|_| ()).map_err(|error| StatusCode::from_u16(error.problem().kind.status()).unwrap())
    }

    async fn home(&self, user: &str) -> cellar_directory::UserHome {
        self.world.directory.read_home(&UserId::new(user).unwrap()).await.unwrap().unwrap()
    }
}

/// State, epoch and home of a user's row in a cell.
async fn row(pool: &PgPool, user: &str) -> Option<(String, i64, String)> {
    let row = sqlx::query_as("select state, epoch, home from ownership where user_id = $1");
    row.bind(user).fetch_optional(pool).await.unwrap()
}

async fn due(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from forwards_due").fetch_one(pool).await.unwrap()
}

fn forward(home: &str) -> Option<(String, i64, String)> {
    Some(("FORWARD".into(), 1, home.into()))
}

/// Goal: a sign-up is answered once the ring's cell sends on to its user's home, and by whom it is due until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_off_the_ring_is_answered_for_once_the_ring_cell_knows_them() {
    let cells = Cells::start().await;
    // Asked for too early, nobody: that is not remembered.
    let by_ada = by_key("ada");
    let profile = || cells.world.ask("GET", "/v1/user/profile", &by_ada, Value::Null);
    assert!(profile().await.headers.get("cellar-home").is_none());
    assert_eq!(cells.sign_up_in_us("ada", "aa01").await, Ok(()));
    assert_eq!(row(&cells.world.pool, "ada").await, forward("us-1"));
    let sent_on = profile().await;
    assert_eq!(
        (sent_on.status, sent_on.headers["cellar-home"].to_str().unwrap()),
        (StatusCode::MISDIRECTED_REQUEST, "us-1; epoch=1")
    );

    // The ring's cell is away: unknown, and due. Nobody else is made of it, and the repeat is the same user.
    cells.us.peers.adopt(cells.topology(2, None, false)).unwrap();
    assert_eq!(cells.sign_up_in_us("bob", "bb01").await, Err(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(row(&cells.us.pool, "bob").await, Some(("OWNED".into(), 1, "us-1".into())));
    assert_eq!(cells.sign_up_in_us("bob", "bb01").await, Err(StatusCode::SERVICE_UNAVAILABLE));
    let known = cells.us.peers.known().unwrap();
    cells.us.accounts.look_at_all(&known).await.unwrap();
    assert_eq!(cells.us.accounts.tell_due(&known).await.unwrap(), 2, "ada is looked at as well");
    assert_eq!(due(&cells.us.pool).await, 2);
    cells.us.peers.adopt(cells.topology(3, None, true)).unwrap();
    assert_eq!(cells.sign_up_in_us("bob", "bb01").await, Ok(()));
    assert_eq!(row(&cells.world.pool, "bob").await, forward("us-1"));
    // Without a repeat, the cell does it by itself.
    assert_eq!(cells.us.accounts.tell_due(&cells.us.peers.known().unwrap()).await.unwrap(), 0);
    assert_eq!(due(&cells.us.pool).await, 0);

    // Whoever lives elsewhere is taken here.
    let body = json!({"email": "eve@example.org", "tier": "pro", "user_id": "ada"});
    let misdirected = cells.world.sign_up("ada", "ee01", body).await;
    assert_eq!(misdirected.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(cells.sign_up_in_us("ada", "ee01").await, Err(StatusCode::CONFLICT));
}

/// Goal: while a cell is to join, both rings' cells know who lives elsewhere, and no other change makes work.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_rings_change_all_users_are_looked_at_once() {
    let cells = Cells::start().await;
    let users: Vec<String> = (0..12).map(|n| format!("user-{n}")).collect();
    for user in &users {
        assert_eq!(cells.sign_up_in_us(user, &hex::encode(user)).await, Ok(()));
    }
    let (accounts, peers) = (&cells.us.accounts, &cells.us.peers);
    let converge = async || {
        let known = peers.known().unwrap();
        accounts.look_at_all(&known).await.unwrap();
        assert_eq!(accounts.tell_due(&known).await.unwrap(), 0);
        assert_eq!(due(&cells.us.pool).await, 0);
    };
    converge().await;
    peers.adopt(cells.topology(2, Some("pending"), true)).unwrap();
    converge().await;
    let rings = &peers.known().unwrap().rings;
    let mut at_both = 0;
    for user in &users {
        let id = UserId::new(user).unwrap();
        let told = rings.forwards(&id, &"us-1".parse().unwrap()).len();
        assert_eq!(row(&cells.eu_2.pool, user).await, (told == 2).then(|| forward("us-1").unwrap()));
        at_both += usize::from(told == 2);
    }
    assert!(at_both > 0);
    // Another revision of the same rings: nobody is looked at.
    sqlx::query("delete from ownership where user_id like 'user-%'").execute(&cells.eu_2.pool).await.unwrap();
    peers.adopt(cells.topology(3, Some("pending"), true)).unwrap();
    converge().await;
    let rows: i64 = sqlx::query_scalar("select count(*) from ownership").fetch_one(&cells.eu_2.pool).await.unwrap();
    assert_eq!(rows, 0);
    assert_eq!(accounts.accounts_page(None).await.unwrap().rings.as_deref(), Some(rings.digest()));
}

/// Goal: a sign-up that stopped half way at another cell is refused there, for good, before its id is taken.
#[tokio::test(flavor = "multi_thread")]
async fn an_intent_of_another_cell_is_asked_there_and_refused_before_its_home_is_taken() {
    let cells = Cells::start().await;
    home_left_behind(&cells.world, "ada", "us-1", "aa01").await;
    let body = || json!({"email": "ada@example.org", "tier": "pro", "user_id": "ada"});
    let made = cells.world.sign_up("ada", "aa02", body()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let home = cells.home("ada").await;
    assert_eq!((home.home.as_str(), &home.state), ("eu-1", &HomeState::Active));
    assert_eq!(row(&cells.us.pool, "ada").await, None);
    let asked: String =
        sqlx::query_scalar("select state from intents where intent = 'aa01'").fetch_one(&cells.us.pool).await.unwrap();
    assert_eq!(asked, "refused");
    // It comes too late.
    assert_eq!(cells.sign_up_in_us("ada", "aa01").await, Err(StatusCode::CONFLICT));

    // One that has committed is not refused.
    assert_eq!(cells.sign_up_in_us("bob", "bb01").await, Ok(()));
    let creating = sqlx::query("update user_home set state = 'CREATING', move_id = 'bb01' where user_id = 'bob'");
    creating.execute(&homes(&cells.world).await).await.unwrap();
    sqlx::query("delete from ownership where user_id = 'bob'").execute(&cells.world.pool).await.unwrap();
    let taken = json!({"email": "eve@example.org", "tier": "pro", "user_id": "bob"});
    assert_eq!(cells.world.sign_up("bob", "bb02", taken).await.status, StatusCode::CONFLICT);
    assert_eq!(row(&cells.us.pool, "bob").await, Some(("OWNED".into(), 1, "us-1".into())));

    // What is meant for another cell is not answered.
    let question = json!({"cell": "eu-2", "user_id": "cy"});
    let asked = cells.world.ask("POST", "/cell/v1/intents/cc01", &[], question).await;
    assert_eq!(asked.status, StatusCode::MISDIRECTED_REQUEST);
    let news = |cell: &str, home: &str| json!({"cell": cell, "home": home, "epoch": 5});
    for (news, status) in [
        (news("eu-2", "us-1"), StatusCode::MISDIRECTED_REQUEST),
        (news("eu-1", "eu-1"), StatusCode::UNPROCESSABLE_ENTITY),
        (news("eu-1", "us-1"), StatusCode::CONFLICT),
    ] {
        assert_eq!(cells.world.ask("PUT", "/cell/v1/forwards/ada", &[], news).await.status, status);
    }
    assert_eq!(row(&cells.world.pool, "ada").await, Some(("OWNED".into(), 1, "eu-1".into())));
}

/// The directory's database, for what no cell would write.
async fn homes(world: &World) -> PgPool {
    PgPool::connect_with((*world.pool.connect_options()).clone().database("homes")).await.unwrap()
}
