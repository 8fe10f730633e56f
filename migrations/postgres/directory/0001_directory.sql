-- The directory: which cell is each user's home. Every conditional write decides one row, so that a
-- CQL cluster with lightweight transactions can hold the same tables.

-- Rows are never deleted: an erased user's row stays, so that an id never starts again at epoch 1.
-- Collation "C": pages are in the order of bytes, whatever the server's locale.
create table user_home (
    user_id       text collate "C" primary key,
    placement_key text not null,
    home          text not null,
    epoch         bigint not null,
    state         text not null check (state in ('CREATING', 'ACTIVE', 'MOVING', 'ERASED')),
    -- Of CREATING the intent, of MOVING the move.
    move_id       text,
    target        text
);

-- What is unique over the world, by keyed hash. `op` is fresh with every write, and every change
-- names the one it read.
create table claims (
    scope      text not null,
    value_hash bytea not null,
    user_id    text not null,
    cell       text not null,
    intent     text not null,
    state      text not null check (state in ('creating', 'held', 'releasing')),
    op         text not null,
    primary key (scope, value_hash)
);

-- One row.
create table topology (
    id       text primary key,
    revision bigint not null,
    document text not null
);

create table cells (
    cell        text primary key,
    incarnation bigint not null,
    endpoints   text[] not null,
    shard_map   text not null,
    heartbeat   bigint not null
);

-- Progress of moves, never authority: who owns a user is decided in user_home alone.
create table moves (
    move_id text primary key,
    user_id text not null,
    source  text not null,
    target  text not null,
    epoch   bigint not null,
    step    text not null,
    owner   text not null,
    beat    bigint not null
);

-- Tiers, policies, keys: a row a revision, the highest counts, earlier ones are for going back.
-- Artifacts: a row each, named by their digest.
create table catalog (
    kind      text not null check (kind in ('tier', 'policy', 'key', 'artifact')),
    name      text not null,
    revision  bigint not null,
    digest    bytea not null,
    document  text,
    artifact  bytea,
    signature bytea,
    primary key (kind, name, revision)
);

-- Where a starting client proves that conditional writes work.
create table canary (
    id    text primary key,
    value text not null
);
