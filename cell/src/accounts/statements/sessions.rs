//! Passwords, sessions and their activity.

#[cfg(test)]
pub(super) const ALL: &[&str] = &[
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
    CHANGE_PASSWORD,
    RESTAMP_SESSION,
    SESSION_IDS,
    ALL_SESSIONS,
];

pub(in crate::accounts) const CREDENTIALS: &str =
    "select email, password_hash, session_epoch from users where user_id = $1";

pub(in crate::accounts) const LOCK_USER: &str = "\
    select password_hash, session_epoch, state from users where user_id = $1 for no key update";

/// Of the same password, by our own parameters. Sessions stay.
pub(in crate::accounts) const REPLACE_HASH: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    )
    update users u set password_hash = $3 from owned
    where u.user_id = owned.user_id and u.password_hash = $2
    returning true";

/// Dead sessions go, those that nobody has used for $4 seconds too, and of the living ones all but the newest $3.
pub(in crate::accounts) const MAKE_ROOM: &str = "\
    with living as (
        select s.session_id, row_number() over (order by s.created_at desc, s.session_id desc) as place
        from sessions s left join session_activity a on a.session_id = s.session_id
        where s.user_id = $1 and s.revoked_at is null and s.expires_at > now() and s.session_epoch = $2
          and coalesce(a.last_active, s.created_at) > now() - make_interval(secs => $4)
    )
    delete from sessions where user_id = $1
      and session_id not in (select session_id from living where place <= $3)
    returning true";

pub(in crate::accounts) const INSERT_SESSION: &str = "\
    with made as (
        insert into sessions (session_id, user_id, secret_hash, session_epoch, device_info, expires_at)
        values ($1, $2, $3, $4, $5::text::jsonb, now() + make_interval(secs => $6))
        returning session_id, expires_at
    ), active as (
        insert into session_activity (session_id, last_active) select session_id, now() from made
    )
    select (extract(epoch from expires_at) * 1000000)::bigint from made";

pub(in crate::accounts) const LOGGED_IN: &str =
    "update users set last_login_at = now() where user_id = $1 returning true";

/// Whether the user has a session in force that was opened from this address.
pub(in crate::accounts) const LOGGED_IN_FROM: &str = "\
    select exists (
        select from sessions s join users u on u.user_id = s.user_id
        where s.user_id = $1 and s.device_info->>'address' = $2
          and s.revoked_at is null and s.expires_at > now() and s.session_epoch = u.session_epoch)";

/// `unused_s`: since it was last active, as far as it is written.
pub(in crate::accounts) const CHECK_SESSIONS: &str = "\
    select a.n, s.secret_hash, u.state, extract(epoch from s.expires_at - now())::bigint as left_s,
        extract(epoch from now() - coalesce(t.last_active, s.created_at))::bigint as unused_s
    from unnest($1::text[], $2::text[]) with ordinality as a (session_id, user_id, n)
    join sessions s on s.session_id = a.session_id and s.user_id = a.user_id
    join users u on u.user_id = s.user_id
    left join session_activity t on t.session_id = s.session_id
    where s.revoked_at is null and s.expires_at > now() and s.session_epoch = u.session_epoch";

pub(in crate::accounts) const LIST_SESSIONS: &str = "\
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

pub(in crate::accounts) const LAST_LOGIN: &str =
    "select (extract(epoch from last_login_at) * 1000000)::bigint from users where user_id = $1";

/// One row if the session is the user's, revoked now or before; `held` says whether the user is.
pub(in crate::accounts) const REVOKE_SESSION: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    ), revoked as (
        update sessions s set revoked_at = coalesce(s.revoked_at, now())
        from owned where s.user_id = owned.user_id and s.session_id = $2
        returning true
    )
    select exists (select from owned) as held, exists (select from revoked) as revoked";

/// Every session of an earlier epoch is out of force; the kept one, if it was in force, is restamped.
pub(in crate::accounts) const REVOKE_ALL: &str = "\
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

pub(in crate::accounts) const NOTE_ACTIVITY: &str = "\
    insert into session_activity (session_id, last_active)
    select s.session_id, now() - make_interval(secs => t.age_s)
    from unnest($1::text[], $2::float8[]) as t (session_id, age_s)
    join sessions s on s.session_id = t.session_id
    order by s.session_id
    on conflict (session_id) do update
        set last_active = greatest(session_activity.last_active, excluded.last_active)";

/// Ends every session, of whatever epoch.
pub(in crate::accounts) const CHANGE_PASSWORD: &str = "\
    update users set password_hash = $2, session_epoch = session_epoch + 1, version = version + 1
    where user_id = $1 returning session_epoch";

/// The session that is kept, if it is in force.
pub(in crate::accounts) const RESTAMP_SESSION: &str = "\
    update sessions set session_epoch = $3
    where session_id = $2 and user_id = $1 and session_epoch = $3 - 1 and revoked_at is null
    returning true";

pub(in crate::accounts) const SESSION_IDS: &str = "select session_id from sessions where user_id = $1";

/// Also those that are over.
pub(in crate::accounts) const ALL_SESSIONS: &str = "\
    select s.session_id, s.device_info::text as device,
        (extract(epoch from s.created_at) * 1000000)::bigint as created_at_us,
        (extract(epoch from coalesce(a.last_active, s.created_at)) * 1000000)::bigint as last_active_us,
        (extract(epoch from s.expires_at) * 1000000)::bigint as expires_at_us,
        (extract(epoch from s.revoked_at) * 1000000)::bigint as revoked_at_us
    from sessions s left join session_activity a on a.session_id = s.session_id
    where s.user_id = $1 order by s.created_at, s.session_id";
