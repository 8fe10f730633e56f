//! The bodies of admit, reserve, settle, refund, grant and override, made checks of.

use crate::body::parse_json;
use crate::quota::{check_attributes, invalid, policy_time};
use cellar_model::wire::{AdmitBody, GrantBody, OverrideBody, RefundBody, ReserveBody, SettleBody, attributes};
use cellar_model::{
    BodyHash, ChargeId, Check, Cost, DeadlineMs, GrantTerms, IdempotencyKey, KeyId, KeyName, MacKeys, Micros,
    OVERRIDE_BYTES_MAX, Operation, OverrideTerms, Problem, ProblemType, RESERVATION_S_DEFAULT, RESERVATION_S_MAX,
    SessionToken, UserId,
};
use serde::Serialize;

/// What a request says outside its body.
pub(crate) struct Asked<'a> {
    pub(crate) caller: &'a KeyName,
    pub(crate) key: Option<&'a str>,
    pub(crate) deadline: DeadlineMs,
}

impl Asked<'_> {
    /// The caller's key, if he has sent one, with what was asked and not how it was spelled: a repeat may
    /// order its members otherwise.
    pub(crate) fn key_of(&self, operation: &str, user: &UserId, said: &impl Serialize) -> Option<IdempotencyKey> {
        let key = self.key?;
        // Plain data into memory: this cannot fail.
        let said = postcard::to_allocvec(said).unwrap_or_default();
        Some(IdempotencyKey { id: KeyId::new(self.caller, user, operation, key), body: BodyHash::of(&[&said]) })
    }
}

/// Makes a check of a body.
pub(crate) type Read = Box<dyn FnOnce(&[u8], &Asked<'_>) -> Result<Check, Problem> + Send>;

/// A consume of the session's user. The MAC is checked here, so that junk never reaches a cell.
pub(crate) fn admit(mac: &MacKeys, body: &[u8], asked: &Asked<'_>) -> Result<Check, Problem> {
    let body: AdmitBody = parse_json(body)?;
    let token = body.session_token.ok_or_else(|| invalid("/session_token", "names the session, and is missing"))?;
    let attributes = attributes(&body.attributes);
    check_attributes(&attributes, "")?;
    let at = policy_time(body.at_us, "")?;
    let token = SessionToken::verify(&token, mac).map_err(|_| Problem::new(ProblemType::InvalidSession))?;
    let cost = body.cost.unwrap_or_else(Cost::one_request);
    let key = asked.key_of("admit", &token.user, &(&token.session, &cost, &attributes, at));
    let session = Some(Box::new(token.presented()));
    let (operation, deadline) = (Operation::Consume, asked.deadline);
    Ok(Check { user: token.user, operation, cost, attributes, key, at, deadline, session, origin: None })
}

pub(crate) fn reserve(body: &[u8], asked: &Asked<'_>) -> Result<Check, Problem> {
    let body: ReserveBody = parse_json(body)?;
    let expires_in_s = body.expires_in_s.unwrap_or(RESERVATION_S_DEFAULT);
    if !(1..=RESERVATION_S_MAX).contains(&expires_in_s) {
        return Err(invalid("/expires_in_s", &format!("must be 1 to {RESERVATION_S_MAX} seconds")));
    }
    let attributes = attributes(&body.attributes);
    check_attributes(&attributes, "")?;
    let check = Check {
        user: named(body.user_id)?,
        operation: Operation::Reserve { expires_in_s },
        cost: body.cost.unwrap_or_else(Cost::one_request),
        attributes,
        key: None,
        at: policy_time(body.at_us, "")?,
        deadline: asked.deadline,
        session: None,
        origin: None,
    };
    Ok(keyed(check, "reserve", asked))
}

/// The charge is the key of a settle and of a refund, whoever asks, and the cell puts it there. A header
/// beside it is read and adds nothing.
pub(crate) fn settle(body: &[u8], asked: &Asked<'_>) -> Result<Check, Problem> {
    let body: SettleBody = parse_json(body)?;
    let attributes = attributes(&body.attributes);
    check_attributes(&attributes, "")?;
    Ok(Check {
        user: named(body.user_id)?,
        operation: Operation::Settle { charge: charge(&body.charge_id)? },
        cost: body.cost.ok_or_else(|| invalid("/cost", "says what was used, and is missing"))?,
        attributes,
        key: None,
        at: policy_time(body.at_us, "")?,
        deadline: asked.deadline,
        session: None,
        origin: None,
    })
}

pub(crate) fn refund(body: &[u8], asked: &Asked<'_>) -> Result<Check, Problem> {
    let body: RefundBody = parse_json(body)?;
    let operation = Operation::Refund { charge: charge(&body.charge_id)? };
    Ok(plain(named(body.user_id)?, operation, policy_time(body.at_us, "")?, asked))
}

pub(crate) fn grant(body: &[u8], asked: &Asked<'_>) -> Result<Check, Problem> {
    let body: GrantBody = parse_json(body)?;
    if body.amount.get() == 0 {
        return Err(invalid("/amount", "must be at least 1"));
    }
    let terms = GrantTerms { slot: body.slot, amount: body.amount, until: until(&body.until)? };
    let operation = Operation::Grant(Box::new(terms));
    Ok(keyed(plain(named(body.user_id)?, operation, policy_time(body.at_us, "")?, asked), "grant", asked))
}

pub(crate) fn override_slot(id: &str, body: &[u8], asked: &Asked<'_>) -> Result<Check, Problem> {
    let user = UserId::new(id).map_err(|error| invalid("", &error.to_string()))?;
    let body: OverrideBody = parse_json(body)?;
    let settings = body.settings.to_string();
    if settings.len() > OVERRIDE_BYTES_MAX {
        return Err(invalid("/settings", &format!("at most {OVERRIDE_BYTES_MAX} bytes of JSON")));
    }
    let terms = OverrideTerms { slot: body.slot, settings, until: until(&body.until)? };
    let operation = Operation::Override(Box::new(terms));
    Ok(keyed(plain(user, operation, policy_time(body.at_us, "")?, asked), "override", asked))
}

/// Of what costs nothing.
fn plain(user: UserId, operation: Operation, at: Option<Micros>, asked: &Asked<'_>) -> Check {
    let cost = Cost::one_request();
    Check {
        user,
        operation,
        cost,
        attributes: Vec::new(),
        key: None,
        at,
        deadline: asked.deadline,
        session: None,
        origin: None,
    }
}

/// Under the caller's key, if he has sent one.
fn keyed(mut check: Check, operation: &str, asked: &Asked<'_>) -> Check {
    let said = (&check.operation, &check.cost, &check.attributes, check.at);
    check.key = asked.key_of(operation, &check.user, &said);
    check
}

fn named(user: Option<UserId>) -> Result<UserId, Problem> {
    user.ok_or_else(|| invalid("/user_id", "names the user, and is missing"))
}

fn charge(text: &str) -> Result<ChargeId, Problem> {
    text.parse().map_err(|_| invalid("/charge_id", "must be the charge_id of an earlier answer"))
}

fn until(text: &str) -> Result<Micros, Problem> {
    Micros::from_rfc3339(text).ok_or_else(|| invalid("/until", "must be a time as RFC 3339 writes it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<R>(key: Option<&str>, ask: impl FnOnce(&Asked<'_>) -> R) -> R {
        ask(&Asked { caller: &KeyName::new("app").unwrap(), key, deadline: DeadlineMs::QUOTA })
    }

    #[test]
    fn every_member_that_makes_no_sense_is_pointed_at() {
        type Reading = fn(&[u8], &Asked<'_>) -> Result<Check, Problem>;
        let over: Reading = |body, asked| override_slot("u", body, asked);
        for (read, body, pointer) in [
            (reserve as Reading, r#"{"cost":1}"#, "/user_id"),
            (reserve, r#"{"user_id":"u","expires_in_s":0}"#, "/expires_in_s"),
            (reserve, r#"{"user_id":"u","expires_in_s":3601}"#, "/expires_in_s"),
            (reserve, r#"{"user_id":"u","cost":-1}"#, "/cost"),
            (settle, r#"{"user_id":"u","charge_id":"c1-1-1-0"}"#, "/cost"),
            (settle, r#"{"user_id":"u","charge_id":"c1","cost":1}"#, "/charge_id"),
            (refund, r#"{"user_id":"u"}"#, "/charge_id"),
            (refund, r#"{"user_id":"u","charge_id":"c1-1-1-0","at_us":253402207200000001}"#, "/at_us"),
            (grant, r#"{"user_id":"u","slot":"m","amount":0,"until":"2030-01-01T00:00:00Z"}"#, "/amount"),
            (grant, r#"{"user_id":"u","slot":"m","amount":1,"until":"soon"}"#, "/until"),
            (grant, r#"{"user_id":"u","slot":"M","amount":1,"until":"2030-01-01T00:00:00Z"}"#, "/slot"),
            (over, r#"{"slot":"m","settings":{},"until":""}"#, "/until"),
        ] {
            let problem = asked(None, |asked| read(body.as_bytes(), asked)).unwrap_err();
            assert_eq!((problem.kind.status(), problem.errors[0].pointer.as_str()), (422, pointer), "{body}");
        }
    }

    #[test]
    fn a_key_covers_everything_that_was_asked() {
        let key = |body: &str| asked(Some("k"), |asked| reserve(body.as_bytes(), asked)).unwrap().key.unwrap();
        let one = key(r#"{"user_id":"u","cost":5}"#);
        assert_eq!(one, key(r#"{"cost":{"tokens":5},"expires_in_s":60,"user_id":"u"}"#));
        let other = key(r#"{"user_id":"u","cost":5,"expires_in_s":61}"#);
        assert_eq!(one.id, other.id);
        assert_ne!(one.body, other.body);
        assert_ne!(
            one.id,
            asked(Some("k"), |asked| grant(
                br#"{"user_id":"u","slot":"m","amount":1,"until":"2030-01-01T00:00:00Z"}"#,
                asked
            ))
            .unwrap()
            .key
            .unwrap()
            .id
        );
    }
}
