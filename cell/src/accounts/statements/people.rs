//! A user's row, the e-mail and the terms.

#[cfg(test)]
pub(super) const ALL: &[&str] = &[
    PERSON,
    RENAME,
    PRESENT_EMAIL,
    LOCK_EMAIL,
    CHANGE_EMAIL,
    RESPELL,
    DETAILS,
    CHANGE_TERMS,
    INSERT_TERMS_DUE,
    TERMS,
    TERMS_DUE,
    DELETE_TERMS_DUE,
];

pub(in crate::accounts) const PERSON: &str = "\
    select u.email, u.name, u.tier_id, u.state, u.version,
        (extract(epoch from u.created_at) * 1000000)::bigint as created_at_us,
        coalesce(v.version, 0) as preferences_version,
        coalesce((select jsonb_object_agg(p.key, p.value) from preferences p
                  where p.user_id = u.user_id), '{}')::text as preferences
    from users u left join preference_versions v on v.user_id = u.user_id
    where u.user_id = $1";

pub(in crate::accounts) const RENAME: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    )
    update users u set name = $2, version = version + 1
    from owned where u.user_id = owned.user_id and u.state = 'active'
      and ($3::bigint is null or u.version = $3)
    returning u.version";

pub(in crate::accounts) const PRESENT_EMAIL: &str =
    "select email, email_intent, state, version from users where user_id = $1";

pub(in crate::accounts) const LOCK_EMAIL: &str = "\
    select email, email_intent, state, version from users where user_id = $1 for no key update";

pub(in crate::accounts) const CHANGE_EMAIL: &str = "\
    update users set email = $2, email_intent = $3, name = case when $4 then $5 else name end,
        version = version + 1
    where user_id = $1 returning true";

/// Another spelling of the same address: no claim changes hands.
pub(in crate::accounts) const RESPELL: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    )
    update users u set email = $2, name = case when $3 then $4 else name end, version = version + 1
    from owned where u.user_id = owned.user_id and u.state = 'active'
      and ($5::bigint is null or u.version = $5)
    returning true";

/// Whoever is owned here, blocked or not.
pub(in crate::accounts) const DETAILS: &str = "\
    select u.email, u.name, u.tier_id, u.state, u.version, u.password_hash is not null as has_password,
        (extract(epoch from u.created_at) * 1000000)::bigint as created_at_us,
        (extract(epoch from u.last_login_at) * 1000000)::bigint as last_login_us
    from users u join ownership o on o.user_id = u.user_id
    where u.user_id = $1 and o.state = 'OWNED'";

/// Another tier, another state, or neither (null). A row that says so already keeps its version.
pub(in crate::accounts) const CHANGE_TERMS: &str = "\
    with owned as (
        select user_id from ownership where user_id = $1 and state = 'OWNED' for share
    )
    update users u set tier_id = coalesce($2, tier_id), state = coalesce($3, state),
        version = version + ((tier_id, state) is distinct from (coalesce($2, tier_id), coalesce($3, state)))::int
    from owned where u.user_id = owned.user_id and ($4::bigint is null or u.version = $4)
    returning u.version";

pub(in crate::accounts) const INSERT_TERMS_DUE: &str = "\
    insert into terms_due (user_id, version) values ($1, $2)
    on conflict (user_id) do update set version = excluded.version returning true";

pub(in crate::accounts) const TERMS: &str = "\
    select u.tier_id, u.state, u.version from users u join ownership o on o.user_id = u.user_id
    where u.user_id = $1 and o.state = 'OWNED'";

pub(in crate::accounts) const TERMS_DUE: &str = "\
    select user_id from terms_due where user_id > $1 order by user_id limit $2";

/// What was told is of this version of the row, or of a later one.
pub(in crate::accounts) const DELETE_TERMS_DUE: &str = "\
    delete from terms_due where user_id = $1 and version <= $2 returning true";
