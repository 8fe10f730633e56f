-- Ownership, users, and the books of the quota engine of one cell.

-- A cell serves a user because it holds an OWNED row for that epoch; every writer of a user's rows
-- holds this one FOR SHARE.
create table ownership (
    user_id text primary key,
    state   text not null check (state in ('OWNED', 'FROZEN', 'FORWARD', 'RECEIVING', 'READY', 'ERASED')),
    epoch   bigint not null,
    home    text not null,
    move_id text
);

create table users (
    user_id       text primary key,
    email         text not null,
    email_intent  text not null,
    name          text,
    password_hash text,
    tier_id       text not null,
    state         text not null default 'active' check (state in ('active', 'blocked', 'erased')),
    session_epoch bigint not null default 0,
    version       bigint not null default 1,
    created_at    timestamptz not null default now(),
    last_login_at timestamptz
);

-- `fence` and `taker` say who is turning; everything from `opened` on describes the last finished
-- turn and is written by a turn's last step only (`drained_seq`: by the ledger). The shard is closed
-- while fence > opened. `late` is the fence of the turn that last charged late entries: above `opened`,
-- that turn did not finish, and what it charged may stand in Redis's stream as well.
create table shard (
    shard       smallint primary key,
    fence       bigint not null,
    taker       text not null,
    opened      bigint not null default 0,
    owner       text,
    mode        text check (mode in ('redis', 'postgres')),
    run_id      text,
    fence_key   text,
    valid_from  bigint not null default 0,
    valid_at    timestamptz,
    drained_seq bigint not null default -1,
    late        bigint not null default 0
);

-- The watermark of each earlier fence.
create table fences (
    shard    smallint not null,
    fence    bigint not null,
    last_seq bigint not null,
    primary key (shard, fence)
);

-- One row a life of a process. It owns shards while its heartbeat is young, it does not say that it is
-- leaving, and nobody who knows has said that it is over (`fenced`).
create table instances (
    instance  text primary key,
    endpoint  text not null,
    heartbeat timestamptz not null,
    leaving   boolean not null default false,
    fenced    boolean not null default false
);

-- A process's own word that it acknowledges nothing more under this fence.
create table stopped (
    shard smallint not null,
    fence bigint not null,
    primary key (shard, fence)
);

-- Charges of ended fences that no turn has charged yet; `fence` is that under which who put them here
-- served, or turned. Not `answered`: a call to Redis of which nobody knows whether it was written.
create table late (
    shard    smallint not null,
    fence    bigint not null,
    n        bigint not null,
    user_id  text not null,
    entry    bytea not null,
    answered boolean not null default true,
    primary key (shard, fence, n)
);

-- One row a user's commit. `at_us` is policy time in microseconds since the epoch; partitions are
-- calendar months of it, made by the drain when it first needs them. `charges` sums the commit's
-- `places` checks by unit; `checks` packs each with what a repeat of its idempotency key is answered.
create table ledger (
    shard   smallint not null,
    fence   bigint not null,
    seq     bigint not null,
    n       integer not null,
    at_us   bigint not null,
    user_id text not null,
    epoch   bigint not null,
    version bigint not null,
    kind    smallint not null,
    places  integer not null,
    charges jsonb not null,
    checks  bytea not null,
    primary key (at_us, shard, fence, seq, n)
) partition by range (at_us);

create index ledger_user on ledger (user_id, at_us);

-- Where in the ledger an idempotency key's answer stands, for as long as its window lasts.
create table ledger_keys (
    key_id     bytea primary key,
    at_us      bigint not null,
    shard      smallint not null,
    fence      bigint not null,
    seq        bigint not null,
    n          integer not null,
    place      integer not null,
    expires_at timestamptz not null
);

create index ledger_keys_expiry on ledger_keys (expires_at);

-- Each user's latest record, as of the last drain. Pages are left half empty: a record is replaced
-- again and again, and a new row in the same page touches no index.
create table quota_state (
    user_id text primary key,
    shard   smallint not null,
    fence   bigint not null,
    epoch   bigint not null,
    version bigint not null,
    record  bytea not null
) with (fillfactor = 50);
