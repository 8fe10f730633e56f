//! What each type of problem means, and what its receiver does about it.

use cellar_model::ProblemType;

pub(super) struct Guidance {
    pub(super) meaning: &'static str,
    pub(super) what_to_do: &'static str,
}

pub(super) fn guidance(kind: ProblemType) -> Guidance {
    let (meaning, what_to_do) = words(kind);
    Guidance { meaning, what_to_do }
}

fn words(kind: ProblemType) -> (&'static str, &'static str) {
    match kind {
        ProblemType::Malformed => (
            "The body is not JSON or not UTF-8, or a header, the path or the query cannot be read. `detail` says which.",
            "Mend the request: a repeat gets the same answer.",
        ),
        ProblemType::Unauthorized => (
            "There is no credential, or it is none of this service, or it is not in force: the key was revoked, or the \
             session has expired or was revoked. Which of them is not said. Of a log-in: no account has this e-mail and \
             password.",
            "Log in again, or ask an operator for a key.",
        ),
        ProblemType::InvalidSession => (
            "The service key is good; what came as `session_token` is no token of this service, or its session has been \
             revoked or has expired. Nothing was charged.",
            "Let the person log in again.",
        ),
        ProblemType::Forbidden => (
            "The credential is good, and is not for this: a service key without the scope, a session where a service key \
             is asked for, an operator key anywhere but at the admin listener.",
            "Use a key with the scope that the reference names for this operation.",
        ),
        ProblemType::Blocked => (
            "An operator or the application has blocked this account. It can do nothing until it is unblocked.",
            "Tell the person whom to ask. A repeat does not help.",
        ),
        ProblemType::NotFound => (
            "There is no such path, or nothing at it: of a session, the user has none with this id.",
            "Check the path and the id.",
        ),
        ProblemType::UnknownUser => (
            "Nobody has this user id, or who had it has been erased.",
            "Sign the user up first, or use a key that enrols users whom it sees for the first time.",
        ),
        ProblemType::UnknownCharge => (
            "The user has no charge with this id among those of the last 40 days.",
            "Check that user and charge belong together.",
        ),
        ProblemType::MethodNotAllowed => (
            "The path is served, and not with this method. The header `Allow` names those that are.",
            "Use one of them.",
        ),
        ProblemType::EmailTaken => (
            "Another account has this e-mail. Addresses that differ in the case of letters alone are one.",
            "Let the person log in, or use another address.",
        ),
        ProblemType::ChargeClosed => (
            "The charge was settled, refunded, or given back when its reservation expired, and this asks for something \
             else.",
            "Nothing: the first outcome stands.",
        ),
        ProblemType::NotReserved => (
            "The charge was made by a consume. Only a reservation can be settled.",
            "Refund it, and consume what was really used.",
        ),
        ProblemType::TooManyReservations => (
            "The user has 64 open reservations, the most there can be.",
            "Settle or refund one, or wait until one expires.",
        ),
        ProblemType::RecordFull => (
            "Too many grants or overrides are in force for this user, or reservations over too many slots are open.",
            "Wait until one ends, or settle a reservation.",
        ),
        ProblemType::Conflict => (
            "The request contradicts what is there: a user id that is somebody's, or an idempotency key that was refused \
             before.",
            "Look at what is there; ask for something else, or under another key.",
        ),
        ProblemType::PreconditionFailed => (
            "What `If-Match` names is no longer the present state: somebody has changed it since it was read. Nothing was \
             changed by this request.",
            "Read it again, apply the change to what is there now, and send that with the new `ETag`.",
        ),
        ProblemType::TooLarge => (
            "The body is larger than is read: 1 MiB, or 64 KiB where the router reads it itself. The connection is closed.",
            "Send less, or in several requests.",
        ),
        ProblemType::Misdirected => (
            "Another cell, or another process of this one, is this user's home. Routers see this, and follow; callers never \
             do.",
            "Ask a router.",
        ),
        ProblemType::Invalid => (
            "The request can be read and makes no sense: a member is missing, unknown, of the wrong type or out of bounds. \
             `errors` points at each.",
            "Mend what is pointed at: a repeat gets the same answer.",
        ),
        ProblemType::UnknownUnit => (
            "The cost names a unit that no policy of the user's tier meters. Nothing was charged.",
            "Name units of the tier; `GET /v1/user/quota` lists them.",
        ),
        ProblemType::AboveLimit => (
            "The cost is more than a limit could ever admit, however long one waits. Nothing was charged.",
            "Ask for less, or give the user an override. A repeat does not help.",
        ),
        ProblemType::KeyReused => (
            "This `Idempotency-Key` came before with another request. Nothing was done.",
            "Use a key of its own for each intended effect.",
        ),
        ProblemType::ClockNotVirtual => {
            ("`at_us` is the time of a virtual clock, and this service runs on the wall clock.", "Leave `at_us` out.")
        }
        ProblemType::UnknownSlot => (
            "The user's tier has no such slot, or one that only shadows.",
            "Name a slot that `GET /v1/user/quota` lists.",
        ),
        ProblemType::UnknownTier => (
            "The catalog has no tier of this name, or this cell has not read it yet, which takes seconds.",
            "Check the name; if the tier is new, ask again in a few seconds.",
        ),
        ProblemType::Moving => (
            "The user is under way to another cell, which takes milliseconds. Routers see this, and wait; callers never do.",
            "Ask a router.",
        ),
        ProblemType::QuotaExceeded => (
            "A policy of the user's tier denies this now. It is an answer, not a failure: nothing was charged. The document \
             has the members of an admission, and `violated-policies` and `resets_at` besides.",
            "Wait for `Retry-After`. Beyond 60 seconds `X-Should-Retry: false` says that a client should not wait by itself.",
        ),
        ProblemType::TooManyAttempts => {
            ("Too many log-ins failed for this account or from this address.", "Wait for `Retry-After`.")
        }
        ProblemType::Internal => (
            "The service failed: a fault of ours, which is in its log.",
            "Report it. A repeat under the same `Idempotency-Key` is safe.",
        ),
        ProblemType::TryAgain => (
            "Whether the request had its effect is unknown: something it needs does not answer now, or not in time. This \
             is never a no.",
            "Repeat after `Retry-After`, with the same `Idempotency-Key`: it has its effect once.",
        ),
    }
}
