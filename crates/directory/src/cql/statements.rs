//! Every statement, in one place. A test prepares all of them against the migrated schema.

/// For the test that prepares them.
pub const CQL_STATEMENTS: &[&str] = &[
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

// Conditional writes answer with `[applied]`, and if it is false with columns of the row they met.

pub(super) const READ_HOME: &str =
    "select user_id, home, epoch, state, move_id, target from user_home where user_id = ?";

pub(super) const CREATE_HOME: &str = "\
    insert into user_home (user_id, placement_key, home, epoch, state, move_id, target)
    values (?, ?, ?, ?, ?, ?, ?) if not exists";

pub(super) const ACTIVATE_HOME: &str = "\
    update user_home set state = 'ACTIVE', move_id = '' where user_id = ?
    if state = 'CREATING' and move_id = ?";

pub(super) const CHANGE_HOME: &str = "\
    update user_home set home = ?, epoch = ?, state = ?, move_id = ?, target = ? where user_id = ?
    if home = ? and epoch = ? and state = ? and move_id = ?";

pub(super) const ERASE_HOME: &str = "\
    update user_home set epoch = ?, state = 'ERASED', move_id = '', target = '' where user_id = ?
    if home = ? and epoch = ? and state in ('ACTIVE', 'MOVING')";

// Pages are in the order of the partitions' tokens.
pub(super) const PAGE_HOMES: &str = "select user_id, home, epoch, state, move_id, target from user_home";

pub(super) const READ_CLAIM: &str = "\
    select scope, value_hash, user_id, cell, intent, state, op from claims
    where scope = ? and value_hash = ?";

pub(super) const CREATE_CLAIM: &str = "\
    insert into claims (scope, value_hash, user_id, cell, intent, state, op)
    values (?, ?, ?, ?, ?, ?, ?) if not exists";

pub(super) const CHANGE_CLAIM: &str = "\
    update claims set user_id = ?, cell = ?, intent = ?, state = ?, op = ?
    where scope = ? and value_hash = ? if op = ?";

pub(super) const REMOVE_CLAIM: &str = "delete from claims where scope = ? and value_hash = ? if op = ?";

/// E-mails, under whatever pepper, are all that is claimed; anything else needs a table for itself.
pub(super) const PAGE_CLAIMS: &str = "select scope, value_hash, user_id, cell, intent, state, op from claims";

pub(super) const READ_TOPOLOGY: &str = "select document from topology where id = 'topology'";

pub(super) const CREATE_TOPOLOGY: &str =
    "insert into topology (id, revision, document) values ('topology', ?, ?) if not exists";

pub(super) const CHANGE_TOPOLOGY: &str =
    "update topology set revision = ?, document = ? where id = 'topology' if revision = ?";

pub(super) const PUT_CELL: &str =
    "insert into cells (cell, incarnation, endpoints, shard_map, heartbeat) values (?, ?, ?, ?, ?)";

pub(super) const READ_CELLS: &str = "select cell, incarnation, endpoints, shard_map, heartbeat from cells";

/// The first row of each group is its newest.
pub(super) const READ_CATALOG: &str = "\
    select kind, name, revision, digest, document, signature from catalog where kind = ?
    group by kind, name";

pub(super) const READ_CATALOG_NEWEST: &str = "\
    select kind, name, revision, digest, document, signature from catalog
    where kind = ? and name = ? limit 1";

pub(super) const READ_CATALOG_REVISION: &str = "\
    select kind, name, revision, digest, document, signature from catalog
    where kind = ? and name = ? and revision = ?";

pub(super) const CREATE_CATALOG_ROW: &str = "\
    insert into catalog (kind, name, revision, digest, document, signature)
    values (?, ?, ?, ?, ?, ?) if not exists";

pub(super) const READ_ARTIFACT: &str = "select artifact from artifacts where digest = ?";

pub(super) const PUT_ARTIFACT: &str = "insert into artifacts (digest, artifact) values (?, ?)";

pub(super) const READ_CANARY: &str = "select value from canary where id = ?";

pub(super) const CREATE_CANARY: &str = "insert into canary (id, value) values (?, ?) if not exists";

pub(super) const CHANGE_CANARY: &str = "update canary set value = ? where id = ? if value = ?";
