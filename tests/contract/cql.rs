//! The directory on a CQL cluster, on real nodes of Apache Cassandra.

use crate::directory::{
    a_write_whose_answer_is_lost_is_unknown_and_decided, creating, keeps_the_contract, one_was_applied, user,
};
use crate::proxy::{Proxy, address_in};
use cellar_devstack::Cassandra;
use cellar_directory::{
    CQL_STATEMENTS, CqlDirectory, DirectoryError, ErrorKind, Homes, Intent, Replicas, UserHome, Written,
};
use cellar_model::Secret;
use futures::future::join_all;
use scylla::client::session_builder::SessionBuilder;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// One node for the tests of this binary; each has a keyspace of its own. It ends with the binary.
static NODE: OnceCell<Cassandra> = OnceCell::const_new();

/// The URL of a keyspace on that node, which is not there yet.
async fn fresh(keyspace: &str) -> String {
    let node = NODE.get_or_init(|| async { Cassandra::start(&["eu"]).await.expect("Cassandra starts") });
    node.await.url("eu").replace("/cellar?", &format!("/{keyspace}?"))
}

async fn migrated(keyspace: &str) -> (String, CqlDirectory) {
    let url = fresh(keyspace).await;
    let secret = Secret::new(url.clone());
    CqlDirectory::migrate(&secret, &Replicas::EveryDatacenter).await.expect("migrates");
    (url, CqlDirectory::connect(&secret).await.expect("connects"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cql_directory_keeps_the_contract() {
    let (url, directory) = migrated("contract").await;
    keeps_the_contract(&directory).await;
    let proxy = Proxy::before(address_in(&url)).await;
    let url = url.replace(&address_in(&url), &proxy.address);
    let through = CqlDirectory::connect(&Secret::new(url)).await.unwrap();
    a_write_whose_answer_is_lost_is_unknown_and_decided(&through, &directory, &proxy).await;
}

/// Every statement is one that the migrated schema understands.
#[tokio::test]
async fn every_cql_statement_prepares() {
    let (url, _) = migrated("prepares").await;
    let builder = SessionBuilder::new().known_node(address_in(&url)).use_keyspace("prepares", false);
    let session = builder.build().await.unwrap();
    for statement in CQL_STATEMENTS {
        let prepared = session.prepare(*statement).await;
        assert!(prepared.is_ok(), "{statement}: {:?}", prepared.err());
    }
}

/// Method: three begin at once, and a fourth comes later.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_applied_once_however_many_run_it() {
    let url = Secret::new(fresh("migrated").await);
    let untold = CqlDirectory::migrate(&url, &Replicas::AsTheyAre).await.unwrap_err();
    assert!(matches!(&untold, DirectoryError::Migration(cause) if cause.to_string().contains("--replicas")));
    let unknown: Replicas = "eu=1,mars=1".parse().unwrap();
    assert!(CqlDirectory::migrate(&url, &unknown).await.is_err(), "there is no such datacenter");

    let replicas: Replicas = "eu=1".parse().unwrap();
    // The keyspace and the table of migrations are made by whoever is first, without a race over them.
    let first = CqlDirectory::migrate(&url, &replicas).await.unwrap();
    assert_eq!((first.version, first.applied.as_slice()), (1, &[1][..]));
    let more = join_all((0..3).map(|_| CqlDirectory::migrate(&url, &Replicas::AsTheyAre))).await;
    for migrated in more {
        assert_eq!(migrated.unwrap().applied, Vec::<u32>::new());
    }
}

/// What would let two writers both be told "applied" is refused before anything relies on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_decided_by_one_serial_level() {
    let (url, _) = migrated("levels").await;
    let other = Secret::new(format!("{url}&serial=LOCAL_SERIAL"));
    let refused = CqlDirectory::connect(&other).await.unwrap_err();
    assert!(matches!(refused, DirectoryError::Unconditional(_)), "{refused:?}");

    // Alone in its keyspace it is as good.
    let alone = Secret::new(format!("{}&serial=LOCAL_SERIAL", fresh("alone").await));
    CqlDirectory::migrate(&alone, &Replicas::EveryDatacenter).await.unwrap();
    let directory = CqlDirectory::connect(&alone).await.unwrap();
    let home = creating("local", &Intent::random());
    assert!(directory.create_home(&home).await.unwrap().is_applied());
    assert_eq!(directory.read_home_serially(&home.user).await.unwrap(), Some(home));
}

/// What is not there yet is an error that says what to do, and nothing was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_away_or_not_migrated_is_a_certain_error() {
    let home = creating("nobody", &Intent::random());
    let nobody = CqlDirectory::lazy(&Secret::new("cql://127.0.0.1:9/none".into())).unwrap();
    let error = nobody.create_home(&home).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TryAgain { .. }), "{error:?}");

    let error = CqlDirectory::connect(&Secret::new(fresh("absent").await)).await.unwrap_err();
    assert!(matches!(&error, DirectoryError::Rejected(cause) if cause.to_string().contains("migrate")), "{error:?}");
    let elsewhere = fresh("contract").await.replace("datacenter=eu", "datacenter=mars");
    let error = CqlDirectory::connect(&Secret::new(elsewhere)).await.unwrap_err();
    assert!(matches!(error, DirectoryError::Rejected(_)), "{error:?}");
}

/// How long two nodes may take to find each other again.
const BACK_MAX: Duration = Duration::from_secs(60);

/// Goal: two regions decide together, and one of them alone decides nothing but still reads.
/// Method: one node a region, a copy of every row in each; races over one row from both, then one node
/// is killed, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn two_regions_decide_together_and_one_alone_only_reads() {
    let mut cluster = Cassandra::start(&["eu", "us"]).await.expect("Cassandra starts");
    let (eu, us) = (Secret::new(cluster.url("eu")), Secret::new(cluster.url("us")));
    let replicas: Replicas = "eu=1,us=1".parse().unwrap();
    CqlDirectory::migrate(&eu, &replicas).await.expect("migrates");
    let url = cluster.url("eu").replace("/cellar?", "/eu_only?");
    let eu_only: Replicas = "eu=1".parse().unwrap();
    CqlDirectory::migrate(&Secret::new(url.clone()), &eu_only).await.expect("migrates");
    let unheld = Secret::new(url.replace("datacenter=eu", "datacenter=us"));
    let refused = CqlDirectory::connect(&unheld).await.unwrap_err();
    assert!(matches!(refused, DirectoryError::Rejected(_)), "{refused:?}");
    let one_sided = Secret::new(format!("{}&serial=LOCAL_SERIAL", cluster.url("eu")));
    let refused = CqlDirectory::connect(&one_sided).await.unwrap_err();
    assert!(matches!(refused, DirectoryError::Unconditional(_)), "{refused:?}");
    let (eu, us) = (CqlDirectory::connect(&eu).await.unwrap(), CqlDirectory::connect(&us).await.unwrap());

    let winner = raced(&eu, &us).await;
    for region in [&eu, &us] {
        assert_eq!(region.read_home_serially(&winner.user).await.unwrap().as_ref(), Some(&winner));
    }

    cluster.kill9("us").await;
    let late = creating("while-us-is-dead", &Intent::random());
    match eu.create_home(&late).await {
        Err(error) => assert!(matches!(error.kind(), ErrorKind::TryAgain { .. }), "{error:?}"),
        Ok(Written::Unknown(_)) => {}
        Ok(written) => panic!("one region of two decided: {written:?}"),
    }
    assert_eq!(eu.read_home(&winner.user).await.unwrap().as_ref(), Some(&winner), "a region alone reads");

    cluster.restart("us").await.unwrap();
    goes_on(&eu, &late).await;
    goes_on(&us, &creating("after-us-is-back", &Intent::random())).await;
    assert_eq!(us.read_home_serially(&late.user).await.unwrap().as_ref(), Some(&late));
}

/// Both regions insert the same row at once; exactly one insert took effect.
async fn raced(eu: &CqlDirectory, us: &CqlDirectory) -> UserHome {
    let racers = (0..12).map(|n| async move {
        let home = creating("raced", &Intent::random());
        let written = if n % 2 == 0 { eu } else { us }.create_home(&home).await;
        (written.unwrap(), home)
    });
    let written = join_all(racers).await;
    let row = eu.read_home_serially(&user("raced")).await.unwrap().expect("somebody has won");
    one_was_applied(&written, &row);
    row
}

/// The write takes effect once the cluster is whole again, and only once.
async fn goes_on(region: &CqlDirectory, home: &UserHome) {
    let until = Instant::now() + BACK_MAX;
    loop {
        match region.create_home(home).await {
            Ok(Written::Applied) => return,
            Ok(Written::Refused(met)) => return assert_eq!(met.as_ref(), Some(home), "an earlier try was applied"),
            Ok(Written::Unknown(_)) | Err(_) => {}
        }
        assert!(Instant::now() < until, "the cluster did not go on");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
