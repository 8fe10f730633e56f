//! Who is owned here, one by one and in pages.

#[cfg(test)]
pub(super) const ALL: &[&str] = &[OWNERSHIPS, HOLD_OWNED, EMAILS, ACCOUNTS, EXPORT_PAGE, LOCK_OWNERSHIP];

pub(in crate::accounts) const OWNERSHIPS: &str =
    "select user_id, state, epoch, home from ownership where user_id = any($1)";

pub(in crate::accounts) const HOLD_OWNED: &str =
    "select epoch from ownership where user_id = $1 and state = 'OWNED' for share";

/// A page of who is owned here and has an e-mail, in the order of the index.
pub(in crate::accounts) const EMAILS: &str = "\
    select o.user_id, u.email, u.email_intent
    from ownership o join users u on u.user_id = o.user_id
    where o.user_id > $1 and o.state = 'OWNED' and u.email is not null
    order by o.user_id limit $2";

/// A page of whom this cell has, in the order of bytes; or one of them.
pub(in crate::accounts) const ACCOUNTS: &str = "\
    select o.user_id, o.state as ownership, o.epoch, o.home, u.email, u.email_intent, u.tier_id, u.state,
        (extract(epoch from u.created_at) * 1000000)::bigint as created_at_us,
        array(select r.pepper || ':' || encode(r.value_hash, 'hex') from releases r where r.user_id = o.user_id)
            as releases,
        exists (select from forwards_due d where d.user_id = o.user_id) as forward_due
    from ownership o left join users u on u.user_id = o.user_id
    where o.user_id collate \"C\" > $1 and ($2::text is null or o.user_id = $2)
    order by o.user_id collate \"C\" limit $3";

/// A page of who is owned here with what is exported of them; password hashes if $3.
pub(in crate::accounts) const EXPORT_PAGE: &str = "\
    select o.user_id, u.email, u.name, u.tier_id, u.state,
        case when $3 then u.password_hash end as password_hash,
        coalesce((select jsonb_object_agg(p.key, p.value) from preferences p
                  where p.user_id = u.user_id), '{}')::text as preferences
    from ownership o join users u on u.user_id = o.user_id
    where o.user_id collate \"C\" > $1 and o.state = 'OWNED' and u.state <> 'erased'
    order by o.user_id collate \"C\" limit $2";

pub(in crate::accounts) const LOCK_OWNERSHIP: &str = "\
    select user_id, state, epoch, home from ownership where user_id = $1 for update";
