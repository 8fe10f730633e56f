//! Every statement of accounts. A test prepares all of them against the migrated schema.
//!
//! Whatever writes a user's rows holds the user's OWNED row `for share` while it does, and writes
//! nothing without it. Times leave as microseconds since the Unix epoch.

#[cfg(test)]
pub(super) const ALL: &[&str] = &[
    OWNERSHIPS,
    HOLD_OWNED,
    PERSON,
    RENAME,
    INSERT_INTENT,
    READ_INTENT,
    INTENT_STATE,
    WHOSE_INTENT,
    INTENT_BODY,
    CLAIM_ROWS,
    HELD_ROWS,
    EMAILS,
    PRESENT_EMAIL,
    LOCK_EMAIL,
    CHANGE_EMAIL,
    RESPELL,
    INSERT_RELEASE,
    RELEASES,
    RELEASES_OF_USER,
    DELETE_RELEASE,
    ACCOUNTS,
    EXPORT_PAGE,
    INSERT_OWNED,
    INSERT_USER,
    INSERT_OPENING,
    OPENINGS,
    DELETE_OPENING,
    WRITE_FORWARD,
    INSERT_FORWARD_DUE,
    INSERT_FORWARDS_DUE,
    FORWARD_DUE,
    FORWARDS_DUE,
    DELETE_FORWARD_DUE,
    FORWARD_RINGS,
    BEGIN_PASS,
    OWNED_PAGE,
    GO_ON_WITH_PASS,
    CREDENTIALS,
    LOCK_USER,
    REPLACE_HASH,
    MAKE_ROOM,
    INSERT_SESSION,
    LOGGED_IN,
    LOGGED_IN_FROM,
    CHECK_SESSIONS,
    LIST_SESSIONS,
    LAST_LOGIN,
    REVOKE_SESSION,
    REVOKE_ALL,
    NOTE_ACTIVITY,
    DETAILS,
    CHANGE_TERMS,
    INSERT_TERMS_DUE,
    TERMS,
    TERMS_DUE,
    DELETE_TERMS_DUE,
    CHANGE_PASSWORD,
    RESTAMP_SESSION,
    LOCK_OWNERSHIP,
    LEAVE_EMAIL,
    SESSION_IDS,
    INSERT_ERASURE,
    ERASE_ROWS,
    ERASED,
    INSERT_ERASED,
    ERASURE,
    ERASURES,
    DELETE_ERASURE,
    ALL_SESSIONS,
    LOCK_PREFERENCES,
    MARK_PATCHED,
    READ_PREFERENCES,
    WRITE_PREFERENCES,
];

pub(super) const OWNERSHIPS: &str = "select user_id, state, epoch, home from ownership where user_id = any($1)";

pub(super) const HOLD_OWNED: &str = "select epoch from ownership where user_id = $1 and state = 'OWNED' for share";

pub(super) const PERSON: &str = "\
    select u.email, u.name, u.tier_id, u.state, u.version,
        (extract(epoch from u.created_at) * 1000000)::bigint as created_at_us,
        coalesce(v.version, 0) as preferences_version,
        coalesce((select jsonb_object_agg(p.key, p.value) from preferences p
                  where p.user_id = u.user_id), '{}')::text as preferences
    from users u left join preference_versions v on v.user_id = u.user_id
    where u.user_id = $1";

pub(super) const RENAME: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    )
    update users u set name = $2, version = version + 1
    from owned where u.user_id = owned.user_id and u.state = 'active'
      and ($3::bigint is null or u.version = $3)
    returning u.version";

pub(super) const INSERT_INTENT: &str = "\
    insert into intents (intent, user_id, state, body) values ($1, $2, $3, $4)
    on conflict do nothing returning true";

pub(super) const READ_INTENT: &str = "\
    select i.user_id, i.state, i.body, u.tier_id, u.email, u.email_intent
    from intents i left join users u on u.user_id = i.user_id where i.intent = $1";

pub(super) const INTENT_STATE: &str = "select state from intents where intent = $1";

pub(super) const WHOSE_INTENT: &str = "select user_id, state from intents where intent = $1";

pub(super) const INTENT_BODY: &str = "select state, body from intents where intent = $1";

/// Everything that a claim is judged by, as of one moment.
pub(super) const CLAIM_ROWS: &str = "\
    select i.state as decided, o.state as ownership, o.home, u.email, u.email_intent
    from (values ($1, $2)) as claim (intent, user_id)
    left join intents i on i.intent = claim.intent
    left join ownership o on o.user_id = claim.user_id
    left join users u on u.user_id = claim.user_id";

/// The present e-mails of users who have held claims here, with whose they are.
pub(super) const HELD_ROWS: &str = "\
    select o.user_id, o.state as ownership, u.email, u.email_intent
    from ownership o left join users u on u.user_id = o.user_id where o.user_id = any($1)";

/// A page of who is owned here and has an e-mail, in the order of the index.
pub(super) const EMAILS: &str = "\
    select o.user_id, u.email, u.email_intent
    from ownership o join users u on u.user_id = o.user_id
    where o.user_id > $1 and o.state = 'OWNED' and u.email is not null
    order by o.user_id limit $2";

pub(super) const PRESENT_EMAIL: &str = "select email, email_intent, state, version from users where user_id = $1";

pub(super) const LOCK_EMAIL: &str = "\
    select email, email_intent, state, version from users where user_id = $1 for no key update";

pub(super) const CHANGE_EMAIL: &str = "\
    update users set email = $2, email_intent = $3, name = case when $4 then $5 else name end,
        version = version + 1
    where user_id = $1 returning true";

/// Another spelling of the same address: no claim changes hands.
pub(super) const RESPELL: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    )
    update users u set email = $2, name = case when $3 then $4 else name end, version = version + 1
    from owned where u.user_id = owned.user_id and u.state = 'active'
      and ($5::bigint is null or u.version = $5)
    returning true";

pub(super) const INSERT_RELEASE: &str = "\
    insert into releases (place, pepper, value_hash, intent, user_id) values ($1, $2, $3, $4, $5)
    on conflict do nothing returning true";

/// Within an e-mail the last pepper's claim first: who finds the first one gone finds none of the others.
pub(super) const RELEASES: &str = "\
    select pepper, value_hash, intent, user_id from releases order by user_id, intent, place desc limit $1";

pub(super) const RELEASES_OF_USER: &str = "\
    select pepper, value_hash, intent, user_id from releases where user_id = $1
    order by intent, place desc limit $2";

pub(super) const DELETE_RELEASE: &str = "\
    delete from releases where value_hash = $1 and intent = $2 returning true";

/// A page of whom this cell has, in the order of bytes; or one of them.
pub(super) const ACCOUNTS: &str = "\
    select o.user_id, o.state as ownership, o.epoch, o.home, u.email, u.email_intent, u.tier_id, u.state,
        (extract(epoch from u.created_at) * 1000000)::bigint as created_at_us,
        array(select r.pepper || ':' || encode(r.value_hash, 'hex') from releases r where r.user_id = o.user_id)
            as releases,
        exists (select from forwards_due d where d.user_id = o.user_id) as forward_due
    from ownership o left join users u on u.user_id = o.user_id
    where o.user_id collate \"C\" > $1 and ($2::text is null or o.user_id = $2)
    order by o.user_id collate \"C\" limit $3";

/// A page of who is owned here with what is exported of them; password hashes if $3.
pub(super) const EXPORT_PAGE: &str = "\
    select o.user_id, u.email, u.name, u.tier_id, u.state,
        case when $3 then u.password_hash end as password_hash,
        coalesce((select jsonb_object_agg(p.key, p.value) from preferences p
                  where p.user_id = u.user_id), '{}')::text as preferences
    from ownership o join users u on u.user_id = o.user_id
    where o.user_id collate \"C\" > $1 and o.state = 'OWNED' and u.state <> 'erased'
    order by o.user_id collate \"C\" limit $2";

pub(super) const INSERT_OWNED: &str = "\
    insert into ownership (user_id, state, epoch, home) values ($1, 'OWNED', $2, $3)
    on conflict do nothing returning true";

pub(super) const INSERT_USER: &str = "\
    insert into users (user_id, email, email_intent, name, password_hash, tier_id)
    values ($1, $2, $3, $4, $5, $6)
    on conflict do nothing returning true";

pub(super) const INSERT_OPENING: &str = "\
    insert into openings (user_id, intent) values ($1, $2)
    on conflict do nothing returning true";

pub(super) const OPENINGS: &str = "select user_id, intent from openings order by user_id limit $1";

pub(super) const DELETE_OPENING: &str = "\
    delete from openings where user_id = $1 and intent = $2 returning true";

/// In place of nothing, or of an older forward.
pub(super) const WRITE_FORWARD: &str = "\
    insert into ownership (user_id, state, epoch, home) values ($1, 'FORWARD', $2, $3)
    on conflict (user_id) do update set epoch = excluded.epoch, home = excluded.home
        where ownership.state = 'FORWARD' and ownership.epoch < excluded.epoch
    returning true";

/// A user is due if other cells are to know ($2), and if they are judged by other rings than all others were.
pub(super) const INSERT_FORWARD_DUE: &str = "\
    with rings as (select digest from forward_rings for share)
    insert into forwards_due (user_id)
    select $1::text from rings where $2::boolean or rings.digest <> $3
    on conflict do nothing returning true";

pub(super) const INSERT_FORWARDS_DUE: &str = "\
    insert into forwards_due (user_id) select unnest($1::text[])
    on conflict do nothing returning true";

pub(super) const FORWARD_DUE: &str = "\
    select o.epoch from forwards_due d join ownership o on o.user_id = d.user_id
    where d.user_id = $1 and o.state = 'OWNED'";

pub(super) const FORWARDS_DUE: &str = "\
    select d.user_id, o.epoch from forwards_due d join ownership o on o.user_id = d.user_id
    where d.user_id > $1 and o.state = 'OWNED' order by d.user_id limit $2";

/// Told by rings that are not those of now, the user stays due.
pub(super) const DELETE_FORWARD_DUE: &str = "\
    with rings as (select digest from forward_rings where digest = $2 for share)
    delete from forwards_due d using rings where d.user_id = $1 returning true";

pub(super) const FORWARD_RINGS: &str = "select revision, digest, after from forward_rings";

/// By the rings of a newer topology all users are looked at anew; the same rings under another revision ask for
/// nothing.
pub(super) const BEGIN_PASS: &str = "\
    update forward_rings
    set revision = $1, digest = $2, after = case when digest = $2 then after else '' end
    where revision < $1 returning true";

pub(super) const OWNED_PAGE: &str = "\
    select user_id from ownership where user_id > $1 and state in ('OWNED', 'FROZEN')
    order by user_id limit $2";

pub(super) const GO_ON_WITH_PASS: &str = "\
    update forward_rings set after = $3 where revision = $1 and after = $2 returning true";

pub(super) const CREDENTIALS: &str = "select email, password_hash, session_epoch from users where user_id = $1";

pub(super) const LOCK_USER: &str = "\
    select password_hash, session_epoch, state from users where user_id = $1 for no key update";

/// Of the same password, by our own parameters. Sessions stay.
pub(super) const REPLACE_HASH: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    )
    update users u set password_hash = $3 from owned
    where u.user_id = owned.user_id and u.password_hash = $2
    returning true";

/// Dead sessions go, those that nobody has used for $4 seconds too, and of the living ones all but the newest $3.
pub(super) const MAKE_ROOM: &str = "\
    with living as (
        select s.session_id, row_number() over (order by s.created_at desc, s.session_id desc) as place
        from sessions s left join session_activity a on a.session_id = s.session_id
        where s.user_id = $1 and s.revoked_at is null and s.expires_at > now() and s.session_epoch = $2
          and coalesce(a.last_active, s.created_at) > now() - make_interval(secs => $4)
    )
    delete from sessions where user_id = $1
      and session_id not in (select session_id from living where place <= $3)
    returning true";

pub(super) const INSERT_SESSION: &str = "\
    with made as (
        insert into sessions (session_id, user_id, secret_hash, session_epoch, device_info, expires_at)
        values ($1, $2, $3, $4, $5::text::jsonb, now() + make_interval(secs => $6))
        returning session_id, expires_at
    ), active as (
        insert into session_activity (session_id, last_active) select session_id, now() from made
    )
    select (extract(epoch from expires_at) * 1000000)::bigint from made";

pub(super) const LOGGED_IN: &str = "update users set last_login_at = now() where user_id = $1 returning true";

/// Whether the user has a session in force that was opened from this address.
pub(super) const LOGGED_IN_FROM: &str = "\
    select exists (
        select from sessions s join users u on u.user_id = s.user_id
        where s.user_id = $1 and s.device_info->>'address' = $2
          and s.revoked_at is null and s.expires_at > now() and s.session_epoch = u.session_epoch)";

/// `unused_s`: since it was last active, as far as it is written.
pub(super) const CHECK_SESSIONS: &str = "\
    select a.n, s.secret_hash, u.state, extract(epoch from s.expires_at - now())::bigint as left_s,
        extract(epoch from now() - coalesce(t.last_active, s.created_at))::bigint as unused_s
    from unnest($1::text[], $2::text[]) with ordinality as a (session_id, user_id, n)
    join sessions s on s.session_id = a.session_id and s.user_id = a.user_id
    join users u on u.user_id = s.user_id
    left join session_activity t on t.session_id = s.session_id
    where s.revoked_at is null and s.expires_at > now() and s.session_epoch = u.session_epoch";

pub(super) const LIST_SESSIONS: &str = "\
    select s.session_id, s.device_info::text as device,
        (extract(epoch from s.created_at) * 1000000)::bigint as created_at_us,
        (extract(epoch from coalesce(a.last_active, s.created_at)) * 1000000)::bigint
            as last_active_us,
        (extract(epoch from now()) * 1000000)::bigint as now_us
    from sessions s join users u on u.user_id = s.user_id
    left join session_activity a on a.session_id = s.session_id
    where s.user_id = $1 and s.revoked_at is null and s.expires_at > now()
      and s.session_epoch = u.session_epoch
    order by s.created_at desc limit $2";

pub(super) const LAST_LOGIN: &str =
    "select (extract(epoch from last_login_at) * 1000000)::bigint from users where user_id = $1";

/// One row if the session is the user's, revoked now or before; `held` says whether the user is.
pub(super) const REVOKE_SESSION: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    ), revoked as (
        update sessions s set revoked_at = coalesce(s.revoked_at, now())
        from owned where s.user_id = owned.user_id and s.session_id = $2
        returning true
    )
    select exists (select from owned) as held, exists (select from revoked) as revoked";

/// Every session of an earlier epoch is out of force; the kept one, if it was in force, is restamped.
pub(super) const REVOKE_ALL: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    ), raised as (
        update users u set session_epoch = session_epoch + 1
        from owned where u.user_id = owned.user_id
        returning u.user_id, u.session_epoch
    ), kept as (
        update sessions s set session_epoch = raised.session_epoch
        from raised where s.user_id = raised.user_id and s.session_id = $2
          and s.revoked_at is null and s.session_epoch = raised.session_epoch - 1
    )
    select session_epoch from raised";

pub(super) const NOTE_ACTIVITY: &str = "\
    insert into session_activity (session_id, last_active)
    select s.session_id, now() - make_interval(secs => t.age_s)
    from unnest($1::text[], $2::float8[]) as t (session_id, age_s)
    join sessions s on s.session_id = t.session_id
    order by s.session_id
    on conflict (session_id) do update
        set last_active = greatest(session_activity.last_active, excluded.last_active)";

pub(super) const LOCK_PREFERENCES: &str = "\
    insert into preference_versions (user_id, version) values ($1, 0)
    on conflict (user_id) do update set version = preference_versions.version
    returning version, patched_fence, patched_n";

/// What waited is applied up to here.
pub(super) const MARK_PATCHED: &str = "\
    update preference_versions set patched_fence = $2, patched_n = $3 where user_id = $1 returning true";

pub(super) const READ_PREFERENCES: &str = "select key, value::text from preferences where user_id = $1 order by key";

/// Upserts keys with values, deletes the others, and counts.
pub(super) const WRITE_PREFERENCES: &str = "\
    with gone as (
        delete from preferences where user_id = $1 and key = any($2::text[])
    ), put as (
        insert into preferences (user_id, key, value)
        select $1, key, value::jsonb from unnest($3::text[], $4::text[]) as t (key, value)
        on conflict (user_id, key) do update set value = excluded.value
    )
    update preference_versions set version = version + 1 where user_id = $1 returning version";

/// Whoever is owned here, blocked or not.
pub(super) const DETAILS: &str = "\
    select u.email, u.name, u.tier_id, u.state, u.version, u.password_hash is not null as has_password,
        (extract(epoch from u.created_at) * 1000000)::bigint as created_at_us,
        (extract(epoch from u.last_login_at) * 1000000)::bigint as last_login_us
    from users u join ownership o on o.user_id = u.user_id
    where u.user_id = $1 and o.state = 'OWNED'";

/// Another tier, another state, or neither (null). A row that says so already keeps its version.
pub(super) const CHANGE_TERMS: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    )
    update users u set tier_id = coalesce($2, tier_id), state = coalesce($3, state),
        version = version + ((tier_id, state) is distinct from (coalesce($2, tier_id), coalesce($3, state)))::int
    from owned where u.user_id = owned.user_id and ($4::bigint is null or u.version = $4)
    returning u.version";

pub(super) const INSERT_TERMS_DUE: &str = "\
    insert into terms_due (user_id, version) values ($1, $2)
    on conflict (user_id) do update set version = excluded.version returning true";

pub(super) const TERMS: &str = "\
    select u.tier_id, u.state, u.version from users u join ownership o on o.user_id = u.user_id
    where u.user_id = $1 and o.state = 'OWNED'";

pub(super) const TERMS_DUE: &str = "\
    select user_id from terms_due where user_id > $1 order by user_id limit $2";

/// What was told is of this version of the row, or of a later one.
pub(super) const DELETE_TERMS_DUE: &str = "\
    delete from terms_due where user_id = $1 and version <= $2 returning true";

/// Ends every session, of whatever epoch.
pub(super) const CHANGE_PASSWORD: &str = "\
    update users set password_hash = $2, session_epoch = session_epoch + 1, version = version + 1
    where user_id = $1 returning session_epoch";

/// The session that is kept, if it is in force.
pub(super) const RESTAMP_SESSION: &str = "\
    update sessions set session_epoch = $3
    where session_id = $2 and user_id = $1 and session_epoch = $3 - 1 and revoked_at is null
    returning true";

pub(super) const LOCK_OWNERSHIP: &str = "\
    select user_id, state, epoch, home from ownership where user_id = $1 for update";

/// The e-mail of who goes, the intent it came by, and that by which the home may not be open yet.
pub(super) const LEAVE_EMAIL: &str = "\
    select u.email, u.email_intent, p.intent as opening
    from users u left join openings p on p.user_id = u.user_id where u.user_id = $1 for update of u";

pub(super) const SESSION_IDS: &str = "select session_id from sessions where user_id = $1";

pub(super) const INSERT_ERASURE: &str = "\
    insert into erasures (user_id, anonymous, epoch, intents) values ($1, $2, $3, $4)
    on conflict do nothing returning true";

/// Sessions, activity, preferences and what is due of the account go with its row. What became of intents stays;
/// what was asked under them goes.
pub(super) const ERASE_ROWS: &str = "\
    with emptied as (
        update intents set body = '' where user_id = $1
    ), opened as (
        delete from openings where user_id = $1
    ), told as (
        delete from forwards_due where user_id = $1
    )
    delete from users where user_id = $1 returning true";

pub(super) const ERASED: &str = "\
    update ownership set state = 'ERASED', home = '', move_id = null where user_id = $1 returning true";

/// Of a user whom the directory places here and this cell has lost.
pub(super) const INSERT_ERASED: &str = "\
    insert into ownership (user_id, state, epoch, home) values ($1, 'ERASED', $2, '')
    on conflict do nothing returning true";

pub(super) const ERASURE: &str = "select anonymous, epoch, intents from erasures where user_id = $1";

pub(super) const ERASURES: &str = "select user_id from erasures where user_id > $1 order by user_id limit $2";

pub(super) const DELETE_ERASURE: &str = "delete from erasures where user_id = $1 returning true";

/// Also those that are over.
pub(super) const ALL_SESSIONS: &str = "\
    select s.session_id, s.device_info::text as device,
        (extract(epoch from s.created_at) * 1000000)::bigint as created_at_us,
        (extract(epoch from coalesce(a.last_active, s.created_at)) * 1000000)::bigint as last_active_us,
        (extract(epoch from s.expires_at) * 1000000)::bigint as expires_at_us,
        (extract(epoch from s.revoked_at) * 1000000)::bigint as revoked_at_us
    from sessions s left join session_activity a on a.session_id = s.session_id
    where s.user_id = $1 order by s.created_at, s.session_id";
