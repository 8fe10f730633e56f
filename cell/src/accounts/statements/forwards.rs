//! Who is to be made known to other cells.

#[cfg(test)]
pub(super) const ALL: &[&str] = &[
    WRITE_FORWARD,
    INSERT_FORWARDS_DUE,
    FORWARD_DUE,
    FORWARDS_DUE,
    DELETE_FORWARD_DUE,
    FORWARD_RINGS,
    BEGIN_PASS,
    OWNED_PAGE,
    GO_ON_WITH_PASS,
];

/// In place of nothing, or of an older forward.
pub(in crate::accounts) const WRITE_FORWARD: &str = "\
    insert into ownership (user_id, state, epoch, home) values ($1, 'FORWARD', $2, $3)
    on conflict (user_id) do update set epoch = excluded.epoch, home = excluded.home
        where ownership.state = 'FORWARD' and ownership.epoch < excluded.epoch
    returning true";

pub(in crate::accounts) const INSERT_FORWARDS_DUE: &str = "\
    insert into forwards_due (user_id) select unnest($1::text[])
    on conflict do nothing returning true";

pub(in crate::accounts) const FORWARD_DUE: &str = "\
    select o.epoch from forwards_due d join ownership o on o.user_id = d.user_id
    where d.user_id = $1 and o.state = 'OWNED'";

pub(in crate::accounts) const FORWARDS_DUE: &str = "\
    select d.user_id, o.epoch from forwards_due d join ownership o on o.user_id = d.user_id
    where d.user_id > $1 and o.state = 'OWNED' order by d.user_id limit $2";

/// Told by rings that are not those of now, the user stays due.
pub(in crate::accounts) const DELETE_FORWARD_DUE: &str = "\
    with rings as (select digest from forward_rings where digest = $2 for share)
    delete from forwards_due d using rings where d.user_id = $1 returning true";

pub(in crate::accounts) const FORWARD_RINGS: &str = "select revision, digest, after from forward_rings";

/// By the rings of a newer topology all users are looked at anew; the same rings under another revision ask for
/// nothing.
pub(in crate::accounts) const BEGIN_PASS: &str = "\
    update forward_rings
    set revision = $1, digest = $2, after = case when digest = $2 then after else '' end
    where revision < $1 returning true";

pub(in crate::accounts) const OWNED_PAGE: &str = "\
    select user_id from ownership where user_id > $1 and state in ('OWNED', 'FROZEN')
    order by user_id limit $2";

pub(in crate::accounts) const GO_ON_WITH_PASS: &str = "\
    update forward_rings set after = $3 where revision = $1 and after = $2 returning true";
