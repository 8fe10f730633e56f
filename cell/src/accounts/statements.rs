//! Every statement of accounts. A test prepares all of them against the migrated schema.
//!
//! Whatever writes a user's rows holds the user's OWNED row `for share` while it does, and writes
//! nothing without it. Times leave as microseconds since the Unix epoch.

mod erasures;
mod forwards;
mod owned;
mod people;
mod preferences;
mod sessions;
mod sign_up;

pub(super) use erasures::{
    DELETE_ERASURE, ERASE_ROWS, ERASED, ERASURE, ERASURES, INSERT_ERASED, INSERT_ERASURE, LEAVE_EMAIL,
};
pub(super) use forwards::{
    BEGIN_PASS, DELETE_FORWARD_DUE, FORWARD_DUE, FORWARD_RINGS, FORWARDS_DUE, GO_ON_WITH_PASS, INSERT_FORWARDS_DUE,
    OWNED_PAGE, WRITE_FORWARD,
};
pub(super) use owned::{ACCOUNTS, EMAILS, EXPORT_PAGE, HOLD_OWNED, LOCK_OWNERSHIP, OWNERSHIPS};
pub(super) use people::{
    CHANGE_EMAIL, CHANGE_TERMS, DELETE_TERMS_DUE, DETAILS, INSERT_TERMS_DUE, LOCK_EMAIL, PERSON, PRESENT_EMAIL, RENAME,
    RESPELL, TERMS, TERMS_DUE,
};
pub(super) use preferences::{LOCK_PREFERENCES, MARK_PATCHED, READ_PREFERENCES, WRITE_PREFERENCES};
pub(super) use sessions::{
    ALL_SESSIONS, CHANGE_PASSWORD, CHECK_SESSIONS, CREDENTIALS, INSERT_SESSION, LAST_LOGIN, LIST_SESSIONS, LOCK_USER,
    LOGGED_IN, LOGGED_IN_FROM, MAKE_ROOM, NOTE_ACTIVITY, REPLACE_HASH, RESTAMP_SESSION, REVOKE_ALL, REVOKE_SESSION,
    SESSION_IDS,
};
pub(super) use sign_up::{
    CLAIM_ROWS, DELETE_OPENING, DELETE_RELEASE, HELD_ROWS, INSERT_INTENT, INSERT_RELEASE, INTENT_BODY, INTENT_STATE,
    OPENINGS, READ_INTENT, RELEASES, RELEASES_OF_USER, SIGN_UP, WHOSE_INTENTS,
};

#[cfg(test)]
pub(super) const ALL: &[&[&str]] =
    &[erasures::ALL, forwards::ALL, owned::ALL, people::ALL, preferences::ALL, sessions::ALL, sign_up::ALL];
