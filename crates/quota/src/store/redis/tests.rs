//! The store's calls, on each shape of server it is used with.

use super::*;
use crate::patches::{KeptPatch, PatchSeq, ShardWriter};
use crate::store::servers::Servers;
use cellar_devstack::{QuotaRedis, RedisShape};
use cellar_model::Secret;

#[test]
fn old_servers_are_refused() {
    assert!(check_version("6.2.7").is_err());
    assert!(check_version("7.0.15").is_ok());
    assert!(check_version("8.0.0").is_ok());
}

#[tokio::test]
async fn a_replica_is_refused() {
    let primary = cellar_devstack::Redis::start_quota().await.unwrap();
    let replica = cellar_devstack::Redis::start_replica(&primary).await.unwrap();
    let connected = RedisStore::connect(&replica.url(), ShardId(0), Duration::from_secs(2), false).await;
    assert!(matches!(connected, Err(QuotaError::RedisRole(role)) if role == "slave"));
}

const SHAPES: [RedisShape; 3] = [RedisShape::Single, RedisShape::Sentinel, RedisShape::Cluster];

struct Shard {
    _servers: QuotaRedis,
    store: RedisStore,
    key: FenceKey,
}

/// On servers of a shape, as a cell is told of them.
async fn shard(shape: RedisShape, fence: u64) -> Shard {
    let servers = QuotaRedis::start(shape).await.unwrap();
    let found = Servers::of(&Secret::new(servers.url())).unwrap();
    let mut store = found.connect(ShardId(3), Duration::from_secs(2), false).await.ok().unwrap();
    let key = FenceKey { fence: Fence(fence), text: format!("{fence}:{}", nonce()) };
    assert_eq!(store.fence(&key).await.unwrap(), None);
    Shard { _servers: servers, store, key }
}

fn group(user: &str, record: &str, keys: &[(u8, Option<&str>)]) -> Group {
    let keyed = |(id, outcome): &(u8, Option<&str>)| KeyedCheck {
        id: KeyId([*id; 16]),
        outcome: outcome.map(|text| outcome_of(5, text)),
        expiry_s: 60,
    };
    Group {
        user: UserId::new(user).unwrap(),
        write: (!record.is_empty()).then(|| (record.into(), format!("<{user}>").into())),
        keys: keys.iter().map(keyed).collect(),
    }
}

fn outcome_of(fence: u64, text: &str) -> Vec<u8> {
    [&fence.to_be_bytes()[..], text.as_bytes()].concat()
}

async fn records(shard: &mut Shard, users: [&str; 2]) -> [Option<String>; 2] {
    let users = users.map(|user| UserId::new(user).unwrap());
    let records = shard.store.records(&users).await.unwrap();
    let mut texts = records.into_iter().map(|record| record.map(|bytes| String::from_utf8(bytes).unwrap()));
    [texts.next().unwrap(), texts.next().unwrap()]
}

#[tokio::test]
async fn batches_are_numbered_from_zero_without_a_gap_and_denials_take_no_number() {
    for shape in SHAPES {
        let mut shard = shard(shape, 5).await;
        for expected in [Some(Seq(0)), Some(Seq(1))] {
            let groups = [group("a", "r", &[]), group("b", "r", &[])];
            let committed = shard.store.commit(&shard.key, Fence(5), &groups).await.unwrap();
            assert_eq!(committed, Committed { seq: expected, replayed: Vec::new() });
        }
        let denied = shard.store.commit(&shard.key, Fence(5), &[group("a", "", &[])]).await.unwrap();
        assert_eq!(denied.seq, None);
        let stream = shard.store.stream_after(None).await.unwrap();
        assert_eq!(stream.iter().map(|batch| batch.seq.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(stream[0].packed, b"<a><b>");
    }
}

#[tokio::test]
async fn a_deposed_writer_writes_nothing() {
    for shape in SHAPES {
        let mut shard = shard(shape, 5).await;
        let newer = FenceKey { fence: Fence(6), text: "6:new".into() };
        assert_eq!(shard.store.fence(&newer).await.unwrap(), Some(shard.key.text.clone()));
        let refused = shard.store.commit(&shard.key, Fence(5), &[group("a", "r", &[])]).await;
        assert!(matches!(refused, Err(StoreError::Fenced)));
        assert!(matches!(shard.store.fence(&shard.key).await, Err(StoreError::Fenced)), "and cannot come back");
        assert_eq!(records(&mut shard, ["a", "b"]).await, [None, None]);
    }
}

#[tokio::test]
async fn of_a_group_with_a_known_key_nothing_is_written_and_its_neighbours_are() {
    for shape in SHAPES {
        let mut shard = shard(shape, 5).await;
        let first = [group("a", "first", &[(1, Some("one"))])];
        shard.store.commit(&shard.key, Fence(5), &first).await.unwrap();
        // A denied check's key is known too, if it was admitted before.
        let second = [group("a", "second", &[(2, Some("two")), (1, None)]), group("b", "other", &[])];
        let committed = shard.store.commit(&shard.key, Fence(5), &second).await.unwrap();
        assert_eq!(committed.replayed, [(0, vec![None, Some(outcome_of(5, "one"))])]);
        assert_eq!(committed.seq, Some(Seq(1)));
        assert_eq!(records(&mut shard, ["a", "b"]).await, [Some("first".into()), Some("other".into())]);
    }
}

#[tokio::test]
async fn an_outcome_of_a_life_that_is_not_believed_is_a_miss() {
    for shape in SHAPES {
        let mut shard = shard(shape, 5).await;
        let keyed = || [group("a", "r", &[(1, Some("one"))])];
        shard.store.commit(&shard.key, Fence(5), &keyed()).await.unwrap();
        let again = shard.store.commit(&shard.key, Fence(6), &keyed()).await.unwrap();
        assert!(again.replayed.is_empty());
    }
}

#[tokio::test]
async fn drained_batches_leave_the_stream_and_only_drained_records_may_expire() {
    for shape in SHAPES {
        let mut shard = shard(shape, 5).await;
        let head = Head { fence: Fence(5), ..Head::default() };
        let record = String::from_utf8(head.to_bytes().to_vec()).unwrap();
        let groups = [group("a", &record, &[]), group("b", "newer than what was drained", &[])];
        let seq = shard.store.commit(&shard.key, Fence(5), &groups).await.unwrap().seq.unwrap();
        let drained: Vec<_> = ["a", "b"].map(|user| (UserId::new(user).unwrap(), head)).into();
        shard.store.drained(&shard.key, Some(Some(seq)), 100, &drained).await.unwrap();
        assert!(shard.store.stream_after(None).await.unwrap().is_empty());
        let mut lives = Vec::new();
        for (user, _) in &drained {
            let name = shard.store.record_name(user);
            let left: i64 = redis::cmd("TTL").arg(name).query_async(&mut shard.store.connection).await.unwrap();
            lives.push(left);
        }
        assert!((99..=100).contains(&lives[0]) && lives[1] == -1, "{lives:?}");
    }
}

/// Goal: patches are kept and dropped under the fence only, in order, and are those of one's own shard.
#[tokio::test]
async fn patches_are_kept_until_the_writer_drops_them_and_a_deposed_owner_writes_nothing() {
    for shape in SHAPES {
        let mut shard = shard(shape, 5).await;
        let patch = |fence: u64, n: u64| KeptPatch {
            seq: PatchSeq { fence: Fence(fence), n },
            user: UserId::new("ada").unwrap(),
            json: format!("{{\"n\":{n}}}").into_bytes(),
        };
        let first = ShardWriter::new(shard.store.clone(), shard.key.clone());
        for n in [10, 9, 2] {
            first.keep_patch(&patch(5, n)).await.unwrap();
        }
        first.keep_patch(&patch(5, 9)).await.unwrap();
        assert_eq!(first.patches().await.unwrap(), [2, 9, 10].map(|n| patch(5, n)));

        let key = FenceKey { fence: Fence(6), text: format!("6:{}", nonce()) };
        shard.store.fence(&key).await.unwrap();
        let second = ShardWriter::new(shard.store.clone(), key);
        assert!(matches!(first.keep_patch(&patch(5, 11)).await, Err(StoreError::Fenced)));
        assert!(matches!(first.drop_patches(&[patch(5, 2).seq]).await, Err(StoreError::Fenced)));
        second.keep_patch(&patch(6, 1)).await.unwrap();
        second.drop_patches(&[patch(5, 2).seq, patch(5, 10).seq, patch(5, 77).seq]).await.unwrap();
        assert_eq!(second.patches().await.unwrap(), [patch(5, 9), patch(6, 1)]);
    }
}
