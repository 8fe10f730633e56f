//! The contract of `cellar_directory::Directory`, by its numbers, for every implementation.

use crate::proxy::{Proxy, address_in};
use cellar_devstack::Postgres;
use cellar_directory::{
    Claim, ClaimCursor, ClaimState, Claimed, Digest, Directory, Email, EmailChange, EmailHash, HomeCursor, HomeState,
    Homes, Intent, MoveId, Op, Opened, Peppers, Placed, PolicyEntry, PolicyFloor, PostgresDirectory, Release,
    STATEMENTS, SignUp, UserHome, Written, api_key, catalog, claim_steps, floor, floor::Raised,
};
use cellar_model::{
    CellName, Epoch, KeyDocument, KeyHash, KeyKind, KeyName, Micros, PolicyKey, PolicyName, PolicySignature, Revision,
    Scope, Secret, SignatureBytes, TierDocument, Topology, UserId, VersionNumber,
};
use futures::future::join_all;
use sqlx::Executor;

/// How many race in the tests of a race.
const RACERS: usize = 16;

/// A migrated directory on a server of its own, which is gone when this is dropped.
struct World {
    server: Postgres,
    directory: PostgresDirectory,
}

impl World {
    async fn start() -> Self {
        let server = Postgres::start_directory().await.expect("Postgres starts");
        let url = Secret::new(server.url());
        PostgresDirectory::migrate(&url).await.expect("migrates");
        let directory = PostgresDirectory::connect(&url, 16).await.expect("connects");
        Self { server, directory }
    }

    fn url(&self) -> String {
        self.server.url()
    }
}

pub(crate) fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn cell(name: &str) -> CellName {
    CellName::new(name).unwrap()
}

pub(crate) fn creating(id: &str, intent: &Intent) -> UserHome {
    UserHome {
        user: user(id),
        home: cell("eu-1"),
        epoch: Epoch(1),
        state: HomeState::Creating { intent: intent.clone() },
    }
}

/// Under the present pepper and under the next.
fn emails(address: &str) -> Vec<EmailHash> {
    let peppers = format!("{}\n{}", "5a".repeat(32), "5b".repeat(32));
    Peppers::from_text(&Secret::new(peppers)).unwrap().hashes(&Email::parse(address).unwrap())
}

fn email(address: &str) -> EmailHash {
    emails(address)[0]
}

/// By a process that has the present pepper only.
fn sign_up(id: &str, at: &str, intent: &Intent, address: &str) -> SignUp {
    SignUp { user: user(id), cell: cell(at), intent: intent.clone(), emails: vec![email(address)] }
}

/// By one that has both, or only the next.
fn sign_up_under(emails: &[EmailHash], id: &str, at: &str, intent: &Intent) -> SignUp {
    SignUp { emails: emails.to_vec(), ..sign_up(id, at, intent, "unused@example.org") }
}

fn nobody(_: &Claim) {}

#[tokio::test(flavor = "multi_thread")]
async fn the_postgres_directory_keeps_the_contract() {
    let world = World::start().await;
    keeps_the_contract(&world.directory).await;
    let nowhere = Proxy::before(address_in(&world.url())).await;
    let url = world.url().replace(&address_in(&world.url()), &nowhere.address);
    let through = PostgresDirectory::connect(&Secret::new(url), 1).await.unwrap();
    a_write_whose_answer_is_lost_is_unknown_and_decided(&through, &world.directory, &nowhere).await;
}

/// The whole suite on one store: each test uses ids of its own.
pub(crate) async fn keeps_the_contract(directory: &impl Directory) {
    of_racing_inserts_of_a_home_one_is_applied(directory).await;
    of_racing_changes_of_a_home_one_is_applied(directory).await;
    of_racing_claims_of_an_email_one_is_applied(directory).await;
    a_claim_changes_only_for_who_read_it(directory).await;
    an_erased_user_keeps_the_row_and_never_returns(directory).await;
    pages_hold_every_user_once(directory).await;
    pages_hold_every_claim_once(directory).await;
    a_topology_follows_the_one_that_was_read(directory).await;
    a_cell_says_where_it_is(directory).await;
    the_catalog_reads_whole_and_keeps_earlier_revisions(directory).await;
    keys_are_made_once_and_one_operator_stays(directory).await;
    of_racing_tiers_one_is_in_force(directory).await;
    an_artifact_is_there_before_its_version(directory).await;
    a_floor_is_raised_and_never_lowered(directory).await;
    a_repeated_sign_up_follows_its_claim(directory).await;
    every_step_of_a_sign_up_may_be_repeated(directory).await;
    a_refused_sign_up_frees_its_email(directory).await;
    a_home_is_taken_over_only_from_the_intent_that_was_met(directory).await;
    a_left_email_is_freed_and_no_other_claim_of_it(directory).await;
    only_the_claim_that_was_read_is_held_or_passed_on(directory).await;
    under_two_peppers_an_email_is_claimed_under_both(directory).await;
    of_racing_sign_ups_under_two_peppers_one_has_both(directory).await;
    attempts_of_other_peppers_end_up_with_one_user_and_cell(directory).await;
}

/// 1, 2
async fn of_racing_inserts_of_a_home_one_is_applied(directory: &impl Directory) {
    let writes = (0..RACERS).map(|_| async {
        let home = creating("race-home", &Intent::random());
        (directory.create_home(&home).await.unwrap(), home)
    });
    let written = join_all(writes).await;

    let row = directory.read_home_serially(&user("race-home")).await.unwrap().expect("somebody has won");
    one_was_applied(&written, &row);
    for (outcome, _) in &written {
        if let Written::Refused(met) = outcome {
            assert_eq!(met.as_ref(), Some(&row));
        }
    }
}

/// The row is the one of who was told "applied". On a store where many at once over one row hold each
/// other up, nobody may have been told: then it is of one who was told "unknown".
pub(crate) fn one_was_applied<Row: PartialEq + std::fmt::Debug>(written: &[(Written<Row>, Row)], row: &Row) {
    let told: Vec<&Row> = written.iter().filter(|(w, _)| w.is_applied()).map(|(_, next)| next).collect();
    let unsure = || written.iter().any(|(w, next)| matches!(w, Written::Unknown(_)) && next == row);
    assert!(told == [row] || (told.is_empty() && unsure()), "{told:?} {row:?}");
}

/// 1: the same move's commit and abort test one condition, and each raises the epoch.
async fn of_racing_changes_of_a_home_one_is_applied(directory: &impl Directory) {
    let intent = Intent::random();
    let id = user("race-change");
    assert!(directory.create_home(&creating("race-change", &intent)).await.unwrap().is_applied());
    assert!(directory.activate_home(&id, &Intent::random()).await.unwrap().is_refused());
    assert!(directory.activate_home(&id, &intent).await.unwrap().is_applied());
    let active = directory.read_home(&id).await.unwrap().unwrap();
    let moving =
        UserHome { state: HomeState::Moving { move_id: MoveId::random(), target: cell("eu-2") }, ..active.clone() };
    assert!(directory.change_home(&active, &moving).await.unwrap().is_applied());

    let ends = (0..RACERS).map(|n| {
        let home = if n % 2 == 0 { cell("eu-1") } else { cell("eu-2") };
        let end = UserHome { home, epoch: Epoch(2), state: HomeState::Active, ..moving.clone() };
        let moving = &moving;
        async move { (directory.change_home(moving, &end).await.unwrap(), end) }
    });
    let written = join_all(ends).await;
    let row = directory.read_home_serially(&id).await.unwrap().unwrap();
    one_was_applied(&written, &row);
    assert_eq!(directory.read_home(&id).await.unwrap(), Some(row));

    // Another move of the same state and epoch is not this one.
    let other = UserHome { state: HomeState::Moving { move_id: MoveId::random(), target: cell("eu-2") }, ..active };
    assert!(directory.change_home(&other, &moving).await.unwrap().is_refused());
}

/// 1, 2
async fn of_racing_claims_of_an_email_one_is_applied(directory: &impl Directory) {
    let claims = (0..RACERS).map(|n| async move {
        let claim = Claim {
            email: email("race@example.org"),
            user: user(&format!("racer-{n}")),
            cell: cell("eu-1"),
            intent: Intent::random(),
            state: ClaimState::Creating,
            op: Op::random(),
        };
        (directory.create_claim(&claim).await.unwrap(), claim)
    });
    let written = join_all(claims).await;
    let row = directory.read_claim_serially(&email("race@example.org")).await.unwrap().expect("somebody has won");
    one_was_applied(&written, &row);
    for (outcome, _) in &written {
        if let Written::Refused(met) = outcome {
            assert_eq!(met.as_ref(), Some(&row));
        }
    }
}

async fn a_claim_changes_only_for_who_read_it(directory: &impl Directory) {
    let claim = Claim {
        email: email("op@example.org"),
        user: user("op"),
        cell: cell("eu-1"),
        intent: Intent::random(),
        state: ClaimState::Creating,
        op: Op::random(),
    };
    assert!(directory.create_claim(&claim).await.unwrap().is_applied());
    let held = Claim { state: ClaimState::Held, op: Op::random(), ..claim.clone() };
    assert!(directory.change_claim(&claim.op, &held).await.unwrap().is_applied());
    let Written::Refused(Some(met)) = directory.change_claim(&claim.op, &held).await.unwrap() else {
        panic!("the op it read is gone");
    };
    assert_eq!(met, held);
    assert!(directory.remove_claim(&claim.email, &claim.op).await.unwrap().is_refused());
    assert!(directory.remove_claim(&claim.email, &held.op).await.unwrap().is_applied());
    assert_eq!(directory.read_claim_serially(&claim.email).await.unwrap(), None);
    // Of a row that is not there, nothing is met.
    let gone = directory.remove_claim(&claim.email, &held.op).await.unwrap();
    assert!(matches!(gone, Written::Refused(None)));
}

/// 5
async fn an_erased_user_keeps_the_row_and_never_returns(directory: &impl Directory) {
    let intent = Intent::random();
    let id = user("erased");
    let home = creating("erased", &intent);
    assert!(directory.create_home(&home).await.unwrap().is_applied());
    let erase = |epoch| directory.erase_home(&id, &home.home, Epoch(epoch));
    assert!(erase(1).await.unwrap().is_refused(), "CREATING is not erased");
    assert!(directory.activate_home(&id, &intent).await.unwrap().is_applied());
    assert!(erase(7).await.unwrap().is_refused(), "another epoch");
    assert!(erase(1).await.unwrap().is_applied());

    let row = directory.read_home_serially(&id).await.unwrap().unwrap();
    assert_eq!((row.state, row.epoch), (HomeState::Erased, Epoch(2)));
    assert!(directory.create_home(&home).await.unwrap().is_refused());
    assert!(directory.activate_home(&id, &intent).await.unwrap().is_refused());
    assert!(erase(2).await.unwrap().is_refused());
}

async fn pages_hold_every_user_once(directory: &impl Directory) {
    for n in 0..25 {
        let home = creating(&format!("page-{n:02}"), &Intent::random());
        assert!(directory.create_home(&home).await.unwrap().is_applied());
    }
    let mut seen = Vec::new();
    let mut from: Option<HomeCursor> = None;
    // Ten times more pages than there can be.
    for _ in 0..100 {
        let page = directory.homes(from.as_ref(), 10).await.unwrap();
        assert!(page.homes.len() <= 10);
        seen.extend(page.homes.into_iter().map(|home| home.user));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(from, None);
    let count = seen.len();
    let pages: Vec<_> = seen.iter().filter(|id| id.as_str().starts_with("page-")).collect();
    assert_eq!(pages.len(), 25);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

async fn pages_hold_every_claim_once(directory: &impl Directory) {
    let address = |n: u32| format!("page-{n}@example.org");
    for n in 0..25 {
        let claimed =
            sign_up(&format!("paged-{n}"), "eu-1", &Intent::random(), &address(n)).claim(directory, nobody).await;
        assert!(matches!(claimed.unwrap(), Claimed::Here(_)));
    }
    let (mut seen, mut from): (Vec<EmailHash>, Option<ClaimCursor>) = (Vec::new(), None);
    // Ten times more pages than there can be.
    for _ in 0..100 {
        let page = directory.claims(from.as_ref(), 10).await.unwrap();
        assert!(page.claims.len() <= 10);
        seen.extend(page.claims.into_iter().map(|claim| claim.email));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(from, None);
    assert!((0..25).all(|n| seen.iter().filter(|hash| **hash == email(&address(n))).count() == 1));
}

async fn a_topology_follows_the_one_that_was_read(directory: &impl Directory) {
    let mut topology: Topology = serde_json::from_str(
        r#"{"revision":1,"predecessor":0,"plan":null,"witness":null,"default_region":"eu","regions":[
            {"name":"eu","residency":"eu","routers":[],"cells":[{"name":"eu-1","state":"open",
             "weight":128,"shards":4,"incarnation":1,"endpoints":["http://127.0.0.1:1"]}]}]}"#,
    )
    .unwrap();
    assert_eq!(directory.read_topology().await.unwrap(), None);
    let early = directory.put_topology(&topology, Some(Revision(0))).await.unwrap();
    assert!(matches!(early, Written::Refused(None)));
    assert!(directory.put_topology(&topology, None).await.unwrap().is_applied());
    assert!(directory.put_topology(&topology, None).await.unwrap().is_refused());
    topology.revision = Revision(2);
    assert!(directory.put_topology(&topology, Some(Revision(1))).await.unwrap().is_applied());
    let Written::Refused(Some(met)) = directory.put_topology(&topology, Some(Revision(1))).await.unwrap() else {
        panic!("revision 1 is gone");
    };
    assert_eq!(met, topology);
    assert!(directory.put_topology(&topology, Some(Revision(2))).await.unwrap().is_refused());
    assert_eq!(directory.read_topology().await.unwrap(), Some(topology));
}

async fn a_cell_says_where_it_is(directory: &impl Directory) {
    let mut beat = cellar_directory::CellBeat {
        cell: cell("eu-1"),
        incarnation: cellar_model::Incarnation(1),
        endpoints: vec!["http://127.0.0.1:1".into()],
        shard_map: serde_json::json!({"0": "eu-1-0"}),
        heartbeat: Micros(1),
    };
    directory.put_cell(&beat).await.unwrap();
    beat.heartbeat = Micros(2);
    directory.put_cell(&beat).await.unwrap();
    assert_eq!(directory.cells().await.unwrap(), [beat]);
}

fn tier(limit: u64) -> TierDocument {
    TierDocument::from_toml(&format!(
        "name = \"pro\"\n[[policy]]\nslot = \"per-minute\"\nuse = \"gcra@1\"\nunit = \"requests\"\n\
         settings = {{ limit = {limit}, period_s = 60 }}"
    ))
    .unwrap()
}

async fn the_catalog_reads_whole_and_keeps_earlier_revisions(directory: &impl Directory) {
    use catalog::Put::{Done, Stale};
    let before = catalog::read(directory).await.unwrap();
    assert_eq!(before, catalog::Catalog::default());

    let put = |limit, expected: Option<u64>| async move {
        let expected = expected.map(Revision);
        catalog::put_tier(directory, &tier(limit), expected).await.unwrap()
    };
    assert_eq!(put(1, Some(1)).await, Stale(None));
    assert_eq!(put(1, None).await, Done(Revision(1)));
    assert_eq!(put(1, None).await, Done(Revision(1)), "a repeat changes nothing");
    assert_eq!(put(2, None).await, Stale(Some(Revision(1))));
    assert_eq!(put(2, Some(1)).await, Done(Revision(2)));
    let mut key = KeyDocument {
        name: KeyName::new("gateway").unwrap(),
        kind: KeyKind::Service,
        hash: KeyHash([7; 32]),
        scopes: vec![Scope::Quota],
        auto_enrol: None,
        previous: None,
        revoked: false,
    };
    assert_eq!(catalog::put_key(directory, &key).await.unwrap(), Done(Revision(1)));
    key.revoked = true;
    assert_eq!(catalog::put_key(directory, &key).await.unwrap(), Done(Revision(2)));

    let read = catalog::read(directory).await.unwrap();
    assert_eq!(read.revision, Revision(4));
    assert_eq!(read.tiers.len(), 1);
    assert_eq!((read.tiers[0].revision, &read.tiers[0].document), (Revision(2), &tier(2)));
    assert_eq!(read.keys, [key]);
    let text = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<catalog::Catalog>(&text).unwrap(), read);
    let first = catalog::tier_at(directory, &tier(1).name, Revision(1)).await.unwrap();
    assert_eq!(first, Some(tier(1)));

    // Some are older than a history shows.
    for limit in 3..=catalog::HISTORY_MAX as u64 + 3 {
        assert_eq!(put(limit, Some(limit - 1)).await, Done(Revision(limit)));
    }
    let history = catalog::tier_history(directory, &tier(1).name).await.unwrap();
    let revisions: Vec<u64> = history.iter().map(|tier| tier.revision.0).collect();
    assert_eq!(revisions, (4..=catalog::HISTORY_MAX as u64 + 3).rev().collect::<Vec<_>>());
    assert!(history.iter().all(|held| held.document == tier(held.revision.0)));
    let none = catalog::tier_history(directory, &"nobody".parse().unwrap()).await.unwrap();
    assert!(none.is_empty());
}

async fn keys_are_made_once_and_one_operator_stays(directory: &impl Directory) {
    use api_key::{KeyRefusal, Revoked, create, revoke, rotate};
    let name = |name: &str| KeyName::new(name).unwrap();
    let key = |of: &str, hash: u8| KeyDocument {
        name: name(of),
        kind: KeyKind::Operator,
        hash: KeyHash([hash; 32]),
        scopes: vec![Scope::Admin],
        auto_enrol: None,
        previous: None,
        revoked: false,
    };
    for _ in 0..2 {
        assert_eq!(create(directory, &key("ann", 101)).await.unwrap(), Ok(key("ann", 101)), "also a repeat");
    }
    assert_eq!(create(directory, &key("ann", 102)).await.unwrap(), Err(KeyRefusal::Taken));
    assert_eq!(create(directory, &key("bob", 101)).await.unwrap(), Err(KeyRefusal::Taken));
    assert_eq!(revoke(directory, &name("ann"), Revoked::All).await.unwrap(), Err(KeyRefusal::LastOperator));
    assert_eq!(rotate(directory, &name("nobody"), KeyHash([1; 32])).await.unwrap(), Err(KeyRefusal::Unknown));
    let both = KeyDocument { previous: Some(KeyHash([101; 32])), ..key("ann", 103) };
    for _ in 0..2 {
        assert_eq!(rotate(directory, &name("ann"), KeyHash([103; 32])).await.unwrap(), Ok(both.clone()));
    }
    assert_eq!(rotate(directory, &name("ann"), KeyHash([104; 32])).await.unwrap(), Err(KeyRefusal::Rotating));
    assert_eq!(create(directory, &key("bob", 101)).await.unwrap(), Err(KeyRefusal::Taken), "it still counts");
    assert_eq!(revoke(directory, &name("ann"), Revoked::Old).await.unwrap(), Ok(key("ann", 103)));

    create(directory, &key("bob", 105)).await.unwrap().unwrap();
    let (ann, bob) = (name("ann"), name("bob"));
    let racing = [revoke(directory, &ann, Revoked::All), revoke(directory, &bob, Revoked::All)];
    let revoked = join_all(racing).await.into_iter().filter(|revoked| revoked.as_ref().unwrap().is_ok()).count();
    assert!(revoked <= 1);
    let left = catalog::read(directory).await.unwrap().keys.into_iter();
    let left = left.filter(|key| key.kind == KeyKind::Operator && !key.revoked).count();
    assert_eq!(left, 2 - revoked);
}

async fn of_racing_tiers_one_is_in_force(directory: &impl Directory) {
    let newest = catalog::read(directory).await.unwrap().tiers[0].revision;
    let puts =
        (0..RACERS as u64).map(|n| async move { catalog::put_tier(directory, &tier(100 + n), Some(newest)).await });
    let done = join_all(puts).await;
    let won = done.iter().filter(|put| matches!(put, Ok(catalog::Put::Done(_)))).count();
    // Who was held up by the others until the time-out does not know.
    let unsure = done.iter().any(Result::is_err);
    assert!(won == 1 || (won == 0 && unsure), "{done:?}");
    assert_eq!(catalog::read(directory).await.unwrap().tiers[0].revision, newest.next());
}

async fn an_artifact_is_there_before_its_version(directory: &impl Directory) {
    let name = PolicyName::new("gcra").unwrap();
    let entry = |bytes: &[u8]| PolicyEntry::unsigned(name.clone(), "1.0.0".into(), Digest::of(bytes));
    let first = entry(b"component");
    let put = catalog::put_policy(directory, &first, b"component").await.unwrap();
    assert_eq!(put, catalog::Put::Done(Revision(1)));
    let again = catalog::put_policy(directory, &first, b"component").await.unwrap();
    assert_eq!(again, put);
    let other = catalog::put_policy(directory, &entry(b"other"), b"other").await.unwrap();
    assert_eq!(other, catalog::Put::Stale(Some(Revision(1))), "a version never changes");
    assert!(catalog::put_policy(directory, &first, b"forged").await.is_err());

    let read = catalog::read(directory).await.unwrap();
    assert_eq!(read.policies, std::slice::from_ref(&first));
    let bytes = catalog::artifact(directory, &first.digest).await.unwrap();
    assert_eq!(bytes.as_deref(), Some(&b"component"[..]));
    assert_eq!(catalog::artifact(directory, &Digest::of(b"?")).await.unwrap(), None);

    // The same bytes are signed later, and by another key; that they come once more without is no change.
    let signed = |key: u8| {
        let signature = PolicySignature {
            name: name.clone(),
            version: VersionNumber::new(1, 0, 0),
            digest: first.digest,
            certificate: None,
            key: PolicyKey([key; 32]),
            signature: SignatureBytes([key; 64]),
        };
        PolicyEntry { signature: Some(signature), ..first.clone() }
    };
    for (entry, revision) in [(signed(1), 2), (signed(2), 3), (signed(2), 3), (first.clone(), 3)] {
        let put = catalog::put_policy(directory, &entry, b"component").await.unwrap();
        assert_eq!(put, catalog::Put::Done(Revision(revision)));
    }
    assert_eq!(catalog::read(directory).await.unwrap().policies, [signed(2)]);
}

async fn a_floor_is_raised_and_never_lowered(directory: &impl Directory) {
    let floor =
        |minor| PolicyFloor { name: PolicyName::new("floored").unwrap(), version: VersionNumber::new(1, minor, 0) };
    assert_eq!(floor::raise(directory, &floor(2)).await.unwrap(), Raised::Done);
    assert_eq!(floor::raise(directory, &floor(2)).await.unwrap(), Raised::Done);
    assert_eq!(floor::raise(directory, &floor(1)).await.unwrap(), Raised::Higher(floor(2).version));
    let races = join_all((3..3 + RACERS as u32).map(|n| async move { floor::raise(directory, &floor(n)).await })).await;
    let highest = catalog::read(directory).await.unwrap().floors[0].version;
    let done =
        (3..).zip(&races).filter(|(_, raised)| matches!(raised, Ok(Raised::Done))).map(|(n, _)| floor(n).version);
    assert!(done.max().is_some_and(|done| done <= highest) || races.iter().any(Result::is_err), "{races:?}");
}

/// A retry takes user and cell from the claim it meets, never from a new draw.
async fn a_repeated_sign_up_follows_its_claim(directory: &impl Directory) {
    let intent = Intent::random();
    let first = sign_up("draw-1", "eu-1", &intent, "draw@example.org");
    assert!(matches!(first.claim(directory, nobody).await.unwrap(), Claimed::Here(_)));

    let second = sign_up("draw-2", "eu-1", &intent, "Draw@Example.org");
    let Claimed::Here(placed) = second.claim(directory, nobody).await.unwrap() else {
        panic!("the claim is this intent's");
    };
    assert_eq!(placed.user(), &user("draw-1"));

    let third = sign_up("draw-3", "eu-2", &intent, "draw@example.org");
    let Claimed::Elsewhere { cell: at, user: id } = third.claim(directory, nobody).await.unwrap() else {
        panic!("the claim names another cell");
    };
    assert_eq!((at, id), (cell("eu-1"), user("draw-1")));

    let stranger = sign_up("draw-4", "eu-1", &Intent::random(), "draw@example.org");
    assert!(matches!(stranger.claim(directory, nobody).await.unwrap(), Claimed::EmailTaken { .. }));
}

async fn every_step_of_a_sign_up_may_be_repeated(directory: &impl Directory) {
    let intent = Intent::random();
    let sign_up = |id: &str, intent: &Intent| sign_up(id, "eu-1", intent, "steps@example.org");
    let steps = || async {
        let Claimed::Here(placed) = sign_up("steps", &intent).claim(directory, nobody).await.unwrap() else {
            panic!("claimed here");
        };
        let opened = placed.opening().open(directory).await.unwrap();
        placed.confirm(directory).await.unwrap();
        opened
    };
    // Several at once: a client that repeats before its first answer.
    let opened = join_all((0..8).map(|_| steps())).await;
    assert!(opened.contains(&Opened::Creating { epoch: Epoch(1) }));
    assert_eq!(steps().await, Opened::Settled { epoch: Epoch(1) });
    let home = directory.read_home(&user("steps")).await.unwrap().unwrap();
    assert_eq!((home.state, home.epoch), (HomeState::Active, Epoch(1)));
    let claim = directory.read_claim(&email("steps@example.org")).await.unwrap().unwrap();
    assert_eq!(claim.state, ClaimState::Held);

    let late = sign_up("later", &Intent::random()).claim(directory, nobody).await.unwrap();
    assert!(matches!(late, Claimed::EmailTaken { .. }));
}

async fn a_refused_sign_up_frees_its_email(directory: &impl Directory) {
    let taken = creating("taken", &Intent::random());
    assert!(directory.create_home(&taken).await.unwrap().is_applied());
    let other = sign_up("taken", "eu-1", &Intent::random(), "free@example.org");
    let Claimed::Here(placed) = other.claim(directory, nobody).await.unwrap() else {
        panic!("the e-mail is free");
    };
    let Opened::OfAnother(met) = placed.opening().open(directory).await.unwrap() else {
        panic!("the home is another's");
    };
    assert_eq!(met, taken);
    claim_steps::free(directory, &placed.claims()[0]).await.unwrap();
    assert_eq!(directory.read_claim(&email("free@example.org")).await.unwrap(), None);
}

async fn claimed(sign_up: &SignUp, directory: &impl Directory) -> Placed {
    match sign_up.claim(directory, nobody).await.unwrap() {
        Claimed::Here(placed) => placed,
        other => panic!("{other:?}"),
    }
}

async fn a_home_is_taken_over_only_from_the_intent_that_was_met(directory: &impl Directory) {
    let (first, second) = (Intent::random(), Intent::random());
    let refused = creating("over", &first);
    assert!(directory.create_home(&refused).await.unwrap().is_applied());
    let placed = claimed(&sign_up("over", "eu-1", &second, "over@example.org"), directory).await;
    assert_eq!(placed.opening().take_over(directory, &refused).await.unwrap(), Opened::Creating { epoch: Epoch(1) });
    assert_eq!(directory.read_home_serially(&user("over")).await.unwrap(), Some(creating("over", &second)));
    // By now it is another's again, and the one that was met is not there any more.
    let late = claimed(&sign_up("over", "eu-1", &Intent::random(), "late-over@example.org"), directory).await;
    let met = late.opening().take_over(directory, &refused).await.unwrap();
    assert_eq!(met, Opened::OfAnother(creating("over", &second)));
}

/// A change of e-mail to its end; then its release is run again by someone who is late.
async fn a_left_email_is_freed_and_no_other_claim_of_it(directory: &impl Directory) {
    let (first, second) = (Intent::random(), Intent::random());
    let placed = claimed(&sign_up("leaver", "eu-1", &first, "left@example.org"), directory).await;
    assert_eq!(placed.opening().open(directory).await.unwrap(), Opened::Creating { epoch: Epoch(1) });
    let change = EmailChange {
        user: user("leaver"),
        cell: cell("eu-1"),
        intent: second,
        emails: vec![email("new@example.org")],
    };
    let Claimed::Here(new) = change.claim(directory, nobody).await.unwrap() else { panic!("the e-mail is free") };
    EmailChange::hold(&new, directory).await.unwrap();
    let release = Release { email: email("left@example.org"), user: user("leaver"), intent: first };
    release.run(directory).await.unwrap();
    assert_eq!(directory.read_claim_serially(&release.email).await.unwrap(), None);
    // The sign-up had stopped before its home was ACTIVE.
    let home = directory.read_home_serially(&user("leaver")).await.unwrap().unwrap();
    assert_eq!(home.state, HomeState::Active);

    let next = claimed(&sign_up("next", "eu-1", &Intent::random(), "left@example.org"), directory).await;
    release.run(directory).await.unwrap();
    assert_eq!(directory.read_claim_serially(&release.email).await.unwrap().as_ref(), next.claims().first());
    let held = directory.read_claim_serially(&email("new@example.org")).await.unwrap().unwrap();
    assert_eq!(held.state, ClaimState::Held);
}

async fn only_the_claim_that_was_read_is_held_or_passed_on(directory: &impl Directory) {
    let once = sign_up("twice", "eu-1", &Intent::random(), "twice@example.org");
    let read = claimed(&once, directory).await;
    claim_steps::free(directory, &read.claims()[0]).await.unwrap();
    claim_steps::free(directory, &read.claims()[0]).await.unwrap();
    let again = claimed(&once, directory).await;
    // Written since: whoever read the first one has to look again.
    assert!(claim_steps::hold(directory, &read.claims()[0]).await.is_err());
    assert!(claim_steps::pass_on(directory, &read.claims()[0], cell("eu-2")).await.is_err());
    assert!(claim_steps::free(directory, &read.claims()[0]).await.is_err());
    claim_steps::pass_on(directory, &again.claims()[0], cell("eu-2")).await.unwrap();
    let passed = directory.read_claim_serially(&email("twice@example.org")).await.unwrap().unwrap();
    assert_eq!((passed.cell, passed.state), (cell("eu-2"), ClaimState::Creating));
}

/// Each process finds the others' claims, whichever peppers it has.
async fn under_two_peppers_an_email_is_claimed_under_both(directory: &impl Directory) {
    let (both, intent) = (emails("both@example.org"), Intent::random());
    let placed = claimed(&sign_up_under(&both, "both", "eu-1", &intent), directory).await;
    assert_eq!(placed.claims().iter().map(|claim| claim.email).collect::<Vec<_>>(), both);
    placed.opening().open(directory).await.unwrap();
    placed.confirm(directory).await.unwrap();
    for email in &both {
        assert_eq!(directory.read_claim_serially(email).await.unwrap().unwrap().state, ClaimState::Held);
        let stranger = sign_up_under(&[*email], "stranger", "eu-1", &Intent::random()).claim(directory, nobody).await;
        assert!(matches!(stranger.unwrap(), Claimed::EmailTaken { ours } if ours.is_empty()));
        let mine = claimed(&sign_up_under(&[*email], "another-draw", "eu-1", &intent), directory).await;
        assert_eq!(mine.user(), &user("both"));
    }
    // Taken under the next one only: what was got under the first is handed back to be freed.
    let half = emails("half@example.org");
    claimed(&sign_up_under(&half[1..], "half", "eu-1", &Intent::random()), directory).await;
    let late = sign_up_under(&half, "late", "eu-1", &Intent::random());
    let Claimed::EmailTaken { ours } = late.claim(directory, nobody).await.unwrap() else { panic!("it is taken") };
    assert_eq!(ours.iter().map(|claim| claim.email).collect::<Vec<_>>(), half[..1]);
    claim_steps::free(directory, &ours[0]).await.unwrap();
    assert_eq!(directory.read_claim_serially(&half[0]).await.unwrap(), None);
}

/// Who wins under the first pepper is not stopped under the second by those who lost.
async fn of_racing_sign_ups_under_two_peppers_one_has_both(directory: &impl Directory) {
    let both = emails("race-both@example.org");
    let racers = (0..RACERS).map(|n| {
        let sign_up = sign_up_under(&both, &format!("both-{n}"), "eu-1", &Intent::random());
        async move { sign_up.claim(directory, nobody).await }
    });
    let answers = join_all(racers).await;
    let won = answers.iter().filter(|answer| matches!(answer, Ok(Claimed::Here(_)))).count();
    // Who was held up by the others until the time-out does not know.
    let unsure = answers.iter().any(Result::is_err);
    assert!(won == 1 || (won == 0 && unsure), "{answers:?}");
    let losers = answers.iter().flatten().filter(|answer| !matches!(answer, Claimed::Here(_)));
    assert!(losers.into_iter().all(|answer| matches!(answer, Claimed::EmailTaken { ours } if ours.is_empty())));
}

/// Goal: an intent whose attempts came to processes of other peppers ends with claims of one user and cell.
async fn attempts_of_other_peppers_end_up_with_one_user_and_cell(directory: &impl Directory) {
    let attempt = |emails: &[EmailHash], id: &str, at: &str, intent: &Intent| {
        let sign_up = sign_up_under(emails, id, at, intent);
        async move { sign_up.claim(directory, nobody).await.unwrap() }
    };
    // One knew only the next pepper, another cell has both: that cell's first claim follows the other's.
    let (both, intent) = (emails("apart@example.org"), Intent::random());
    assert!(matches!(attempt(&both[1..], "apart-1", "eu-1", &intent).await, Claimed::Here(_)));
    let Claimed::Split { earlier, last } = attempt(&both, "apart-2", "eu-2", &intent).await else {
        panic!("the two name different cells");
    };
    claim_steps::follow(directory, &earlier, &last).await.unwrap();
    let Claimed::Elsewhere { cell: at, user: id } = attempt(&both, "apart-3", "eu-2", &intent).await else {
        panic!("both are the other cell's");
    };
    assert_eq!((at, id), (cell("eu-1"), user("apart-1")));
    let placed = claimed(&sign_up_under(&both, "apart-4", "eu-1", &intent), directory).await;
    assert!(placed.claims().len() == 2 && placed.claims().iter().all(|claim| claim.user == user("apart-1")));

    // Another's under the first pepper, this intent's under the next: it is told what is its own.
    let (both, intent) = (emails("crossed@example.org"), Intent::random());
    assert!(matches!(attempt(&both[..1], "crossed-1", "eu-1", &Intent::random()).await, Claimed::Here(_)));
    assert!(matches!(attempt(&both[1..], "crossed-2", "eu-1", &intent).await, Claimed::Here(_)));
    let Claimed::EmailTaken { ours } = attempt(&both, "crossed-3", "eu-1", &intent).await else {
        panic!("the first is another's");
    };
    assert_eq!(ours.iter().map(|claim| &claim.user).collect::<Vec<_>>(), [&user("crossed-2")]);
    assert!(matches!(attempt(&both, "crossed-4", "eu-2", &intent).await, Claimed::Elsewhere { .. }));
}

/// 3, 4: a write that was applied, and whose answer did not come, is unknown; a serial read decides it,
/// and so does the same write again.
pub(crate) async fn a_write_whose_answer_is_lost_is_unknown_and_decided(
    through: &impl Directory,
    directly: &impl Directory,
    proxy: &Proxy,
) {
    // Connections, proof and statements are there before the answers begin to be lost.
    let before = creating("before-the-loss", &Intent::random());
    assert!(through.create_home(&before).await.unwrap().is_applied());
    proxy.swallow_answers_to("lost-answer");
    let lost = creating("lost-answer", &Intent::random());
    let written = through.create_home(&lost).await.unwrap();
    assert!(matches!(written, Written::Unknown(_)), "{written:?}");
    assert_eq!(directly.read_home_serially(&lost.user).await.unwrap().as_ref(), Some(&lost));

    let again = directly.create_home(&lost).await.unwrap();
    assert!(matches!(&again, Written::Refused(Some(met)) if *met == lost), "{again:?}");
}

/// Every statement is one that the migrated schema understands.
#[tokio::test]
async fn every_statement_prepares() {
    let world = World::start().await;
    let pool = sqlx::PgPool::connect(&world.url()).await.unwrap();
    for statement in STATEMENTS {
        let prepared = (&pool).prepare(sqlx::SqlSafeStr::into_sql_str(*statement)).await;
        assert!(prepared.is_ok(), "{statement}: {:?}", prepared.err());
    }
}

/// 3: what the server has taken and not answered is unknown, and a serial read decides it; what
/// never left is an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_an_answer_is_unknown_and_one_not_sent_is_an_error() {
    let world = World::start().await;
    let pool = sqlx::PgPool::connect(&world.url()).await.unwrap();
    // The server breaks the connection between the write and its answer.
    pool.execute(
        "create function hang_up() returns trigger language plpgsql as $$
         begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(5); return new; end $$;
         create trigger hang_up before insert on user_home
         for each row when (new.user_id = 'unanswered') execute function hang_up()",
    )
    .await
    .unwrap();
    let home = creating("unanswered", &Intent::random());
    let written = world.directory.create_home(&home).await.unwrap();
    assert!(matches!(written, Written::Unknown(_)), "{written:?}");
    let read = world.directory.read_home_serially(&home.user).await.unwrap();
    assert_eq!(read, None, "a serial read decides it");

    let nobody = Secret::new("postgres://postgres@127.0.0.1:9/none".into());
    let away = PostgresDirectory::lazy(&nobody, 1).unwrap();
    let error = away.create_home(&home).await.unwrap_err();
    assert!(matches!(error.kind(), cellar_directory::ErrorKind::TryAgain { .. }), "{error:?}");
}

/// A store that ignores conditions is refused before anything relies on it.
#[tokio::test]
async fn a_directory_without_conditional_writes_is_refused() {
    let world = World::start().await;
    let pool = sqlx::PgPool::connect(&world.url()).await.unwrap();
    // Whatever is written, the row keeps its value: every condition on it holds forever.
    pool.execute(
        "create function forget() returns trigger language plpgsql as
         $$ begin new.value := old.value; return new; end $$;
         create trigger forget before update on canary for each row execute function forget()",
    )
    .await
    .unwrap();
    let url = Secret::new(world.url());
    let refused = PostgresDirectory::connect(&url, 1).await;
    assert!(matches!(refused, Err(cellar_directory::DirectoryError::Unconditional(_))));
}
