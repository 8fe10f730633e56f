//! Every statement, in one place. A test prepares all of them against the migrated schema.

/// For the test that prepares them.
pub const STATEMENTS: &[&str] = &[
    READ_HOME,
    CREATE_HOME,
    ACTIVATE_HOME,
    CHANGE_HOME,
    ERASE_HOME,
    PAGE_HOMES,
    READ_CLAIM,
    CREATE_CLAIM,
    CHANGE_CLAIM,
    REMOVE_CLAIM,
    PAGE_CLAIMS,
    READ_TOPOLOGY,
    CREATE_TOPOLOGY,
    CHANGE_TOPOLOGY,
    PUT_CELL,
    READ_CELLS,
    READ_CATALOG,
    READ_CATALOG_NEWEST,
    READ_CATALOG_REVISION,
    CREATE_CATALOG_ROW,
    READ_ARTIFACT,
    PUT_ARTIFACT,
    READ_CANARY,
    CREATE_CANARY,
    CHANGE_CANARY,
];

// Conditional writes answer with a row if they were applied and with none if not.

pub(super) const READ_HOME: &str =
    "select user_id, home, epoch, state, move_id, target from user_home where user_id = $1";

pub(super) const CREATE_HOME: &str = "\
    insert into user_home (user_id, placement_key, home, epoch, state, move_id, target)
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict do nothing returning true";

pub(super) const ACTIVATE_HOME: &str = "\
    update user_home set state = 'ACTIVE', move_id = null
    where user_id = $1 and state = 'CREATING' and move_id = $2
    returning true";

pub(super) const CHANGE_HOME: &str = "\
    update user_home set home = $6, epoch = $7, state = $8, move_id = $9, target = $10
    where user_id = $1 and home = $2 and epoch = $3 and state = $4
      and move_id is not distinct from $5
    returning true";

pub(super) const ERASE_HOME: &str = "\
    update user_home set epoch = epoch + 1, state = 'ERASED', move_id = null, target = null
    where user_id = $1 and home = $2 and epoch = $3 and state in ('ACTIVE', 'MOVING')
    returning true";

pub(super) const PAGE_HOMES: &str = "\
    select user_id, home, epoch, state, move_id, target from user_home
    where user_id > $1 order by user_id limit $2";

pub(super) const READ_CLAIM: &str = "\
    select scope, value_hash, user_id, cell, intent, state, op from claims
    where scope = $1 and value_hash = $2";

pub(super) const CREATE_CLAIM: &str = "\
    insert into claims (scope, value_hash, user_id, cell, intent, state, op)
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict do nothing returning true";

pub(super) const CHANGE_CLAIM: &str = "\
    update claims set user_id = $3, cell = $4, intent = $5, state = $6, op = $7
    where scope = $1 and value_hash = $2 and op = $8
    returning true";

pub(super) const REMOVE_CLAIM: &str = "\
    delete from claims where scope = $1 and value_hash = $2 and op = $3
    returning true";

pub(super) const PAGE_CLAIMS: &str = "\
    select scope, value_hash, user_id, cell, intent, state, op from claims
    where (scope, value_hash) > ($1, $2) order by scope, value_hash limit $3";

pub(super) const READ_TOPOLOGY: &str = "select document from topology where id = 'topology'";

pub(super) const CREATE_TOPOLOGY: &str = "\
    insert into topology (id, revision, document) values ('topology', $1, $2)
    on conflict do nothing returning true";

pub(super) const CHANGE_TOPOLOGY: &str = "\
    update topology set revision = $1, document = $2 where id = 'topology' and revision = $3
    returning true";

pub(super) const PUT_CELL: &str = "\
    insert into cells (cell, incarnation, endpoints, shard_map, heartbeat)
    values ($1, $2, $3, $4, $5)
    on conflict (cell) do update set incarnation = excluded.incarnation,
        endpoints = excluded.endpoints, shard_map = excluded.shard_map,
        heartbeat = excluded.heartbeat
    returning true";

pub(super) const READ_CELLS: &str =
    "select cell, incarnation, endpoints, shard_map, heartbeat from cells order by cell";

pub(super) const READ_CATALOG: &str = "\
    select distinct on (kind, name) kind, name, revision, digest, document, signature
    from catalog where kind in ('tier', 'policy', 'policy-floor', 'key')
    order by kind, name, revision desc";

pub(super) const READ_CATALOG_NEWEST: &str = "\
    select kind, name, revision, digest, document, signature from catalog
    where kind = $1 and name = $2 order by revision desc limit 1";

pub(super) const READ_CATALOG_REVISION: &str = "\
    select kind, name, revision, digest, document, signature from catalog
    where kind = $1 and name = $2 and revision = $3";

pub(super) const CREATE_CATALOG_ROW: &str = "\
    insert into catalog (kind, name, revision, digest, document, signature)
    values ($1, $2, $3, $4, $5, $6)
    on conflict do nothing returning true";

pub(super) const READ_ARTIFACT: &str =
    "select artifact from catalog where kind = 'artifact' and name = $1 and revision = 1";

pub(super) const PUT_ARTIFACT: &str = "\
    insert into catalog (kind, name, revision, digest, artifact) values ('artifact', $1, 1, $2, $3)
    on conflict do nothing returning true";

pub(super) const READ_CANARY: &str = "select value from canary where id = 'canary'";

pub(super) const CREATE_CANARY: &str = "\
    insert into canary (id, value) values ('canary', $1) on conflict do nothing returning true";

pub(super) const CHANGE_CANARY: &str = "update canary set value = $1 where id = 'canary' and value = $2 returning true";
