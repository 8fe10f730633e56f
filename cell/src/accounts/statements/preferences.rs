//! Preferences, and how far those that waited are applied.

#[cfg(test)]
pub(super) const ALL: &[&str] = &[LOCK_PREFERENCES, MARK_PATCHED, READ_PREFERENCES, WRITE_PREFERENCES];

pub(in crate::accounts) const LOCK_PREFERENCES: &str = "\
    insert into preference_versions (user_id, version) values ($1, 0)
    on conflict (user_id) do update set version = preference_versions.version
    returning version, patched_fence, patched_n";

/// What waited is applied up to here.
pub(in crate::accounts) const MARK_PATCHED: &str = "\
    update preference_versions set patched_fence = $2, patched_n = $3 where user_id = $1 returning true";

pub(in crate::accounts) const READ_PREFERENCES: &str =
    "select key, value::text from preferences where user_id = $1 order by key";

/// Upserts keys with values, deletes the others, and counts.
pub(in crate::accounts) const WRITE_PREFERENCES: &str = "\
    with gone as (
        delete from preferences where user_id = $1 and key = any($2::text[])
    ), put as (
        insert into preferences (user_id, key, value)
        select $1, key, value::jsonb from unnest($3::text[], $4::text[]) as t (key, value)
        on conflict (user_id, key) do update set value = excluded.value
    )
    update preference_versions set version = version + 1 where user_id = $1 returning version";
