//! The end of an account, and what is left of it.

#[cfg(test)]
pub(super) const ALL: &[&str] =
    &[LEAVE_EMAIL, INSERT_ERASURE, ERASE_ROWS, ERASED, INSERT_ERASED, ERASURE, ERASURES, DELETE_ERASURE];

/// The e-mail of who goes, the intent it came by, and that by which the home may not be open yet.
pub(in crate::accounts) const LEAVE_EMAIL: &str = "\
    select u.email, u.email_intent, p.intent as opening
    from users u left join openings p on p.user_id = u.user_id where u.user_id = $1 for update of u";

pub(in crate::accounts) const INSERT_ERASURE: &str = "\
    insert into erasures (user_id, anonymous, epoch, intents) values ($1, $2, $3, $4)
    on conflict do nothing returning true";

/// Sessions, activity, preferences and what is due of the account go with its row. What became of intents stays;
/// what was asked under them goes.
pub(in crate::accounts) const ERASE_ROWS: &str = "\
    with emptied as (
        update intents set body = '' where user_id = $1
    ), opened as (
        delete from openings where user_id = $1
    ), told as (
        delete from forwards_due where user_id = $1
    )
    delete from users where user_id = $1 returning true";

pub(in crate::accounts) const ERASED: &str = "\
    update ownership set state = 'ERASED', home = '', move_id = null where user_id = $1 returning true";

/// Of a user whom the directory places here and this cell has lost.
pub(in crate::accounts) const INSERT_ERASED: &str = "\
    insert into ownership (user_id, state, epoch, home) values ($1, 'ERASED', $2, '')
    on conflict do nothing returning true";

pub(in crate::accounts) const ERASURE: &str = "select anonymous, epoch, intents from erasures where user_id = $1";

pub(in crate::accounts) const ERASURES: &str =
    "select user_id from erasures where user_id > $1 order by user_id limit $2";

pub(in crate::accounts) const DELETE_ERASURE: &str = "delete from erasures where user_id = $1 returning true";
