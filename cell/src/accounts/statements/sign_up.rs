//! Intents, claims, and the rows that a sign-up writes.

#[cfg(test)]
pub(super) const ALL: &[&str] = &[
    INSERT_INTENT,
    SIGN_UP,
    READ_INTENT,
    INTENT_STATE,
    WHOSE_INTENTS,
    INTENT_BODY,
    CLAIM_ROWS,
    HELD_ROWS,
    INSERT_RELEASE,
    RELEASES,
    RELEASES_OF_USER,
    DELETE_RELEASE,
    OPENINGS,
    DELETE_OPENING,
];

pub(in crate::accounts) const INSERT_INTENT: &str = "\
    insert into intents (intent, user_id, state, body) values ($1, $2, $3, $4)
    on conflict do nothing returning true";

/// Everything of a new user in one statement: the intent; if it is the first to, the OWNED row; if that is new, the
/// user; and with it the first preferences ($13, $14), that the home is to be made ACTIVE if nobody has a claim
/// (no e-mail), and that other cells are to be told: if they are to know ($11), or if the user was judged by other
/// rings than all others were ($12; `$10` says that there are other cells at all). What was left out is seen in the
/// answer, and then nothing of it may stay.
pub(in crate::accounts) const SIGN_UP: &str = "\
    with intent as (
        insert into intents (intent, user_id, state, body) values ($1, $2, 'committed', $3)
        on conflict do nothing returning true
    ), owned as (
        insert into ownership (user_id, state, epoch, home)
        select $2, 'OWNED', $4, $5 where exists (select from intent)
        on conflict do nothing returning true
    ), made as (
        insert into users (user_id, email, email_intent, name, password_hash, tier_id)
        select $2, $6::text, case when $6::text is not null then $1 end, $7::text, $8::text, $9
        where exists (select from owned)
        on conflict do nothing returning true
    ), opening as (
        insert into openings (user_id, intent)
        select $2, $1 where $6::text is null and exists (select from made)
        on conflict do nothing
    ), counted as (
        insert into preference_versions (user_id, version)
        select $2, 1 where cardinality($13::text[]) > 0 and exists (select from made)
    ), preferred as (
        insert into preferences (user_id, key, value)
        select $2, key, value::jsonb from unnest($13::text[], $14::text[]) as t (key, value)
        where exists (select from made)
    ), rings as (
        select digest from forward_rings where $10::boolean and exists (select from made) for share
    ), due as (
        insert into forwards_due (user_id)
        select $2 from rings where $11::boolean or rings.digest <> $12
        on conflict do nothing returning true
    )
    select exists (select from intent) as first, exists (select from made) as made, exists (select from due) as due";

pub(in crate::accounts) const READ_INTENT: &str = "\
    select i.user_id, i.state, i.body, u.tier_id, u.email, u.email_intent
    from intents i left join users u on u.user_id = i.user_id where i.intent = $1";

pub(in crate::accounts) const INTENT_STATE: &str = "select state from intents where intent = $1";

pub(in crate::accounts) const WHOSE_INTENTS: &str = "select intent, user_id, state from intents where intent = any($1)";

pub(in crate::accounts) const INTENT_BODY: &str = "select state, body from intents where intent = $1";

/// Everything that a claim is judged by, as of one moment.
pub(in crate::accounts) const CLAIM_ROWS: &str = "\
    select i.state as decided, o.state as ownership, o.home, u.email, u.email_intent
    from (values ($1, $2)) as claim (intent, user_id)
    left join intents i on i.intent = claim.intent
    left join ownership o on o.user_id = claim.user_id
    left join users u on u.user_id = claim.user_id";

/// The present e-mails of users who have held claims here, with whose they are.
pub(in crate::accounts) const HELD_ROWS: &str = "\
    select o.user_id, o.state as ownership, u.email, u.email_intent
    from ownership o left join users u on u.user_id = o.user_id where o.user_id = any($1)";

pub(in crate::accounts) const INSERT_RELEASE: &str = "\
    insert into releases (place, pepper, value_hash, intent, user_id) values ($1, $2, $3, $4, $5)
    on conflict do nothing returning true";

/// Within an e-mail the last pepper's claim first: who finds the first one gone finds none of the others.
pub(in crate::accounts) const RELEASES: &str = "\
    select pepper, value_hash, intent, user_id from releases order by user_id, intent, place desc limit $1";

pub(in crate::accounts) const RELEASES_OF_USER: &str = "\
    select pepper, value_hash, intent, user_id from releases where user_id = $1
    order by intent, place desc limit $2";

pub(in crate::accounts) const DELETE_RELEASE: &str = "\
    delete from releases where value_hash = $1 and intent = $2 returning true";

pub(in crate::accounts) const OPENINGS: &str = "select user_id, intent from openings order by user_id limit $1";

pub(in crate::accounts) const DELETE_OPENING: &str = "\
    delete from openings where user_id = $1 and intent = $2 returning true";
