//! Verdict to HTTP, once.

use crate::metrics::Shed;
use crate::problem::{HttpProblem, problem_response};
use bytes::Bytes;
use cellar_model::wire::{ConsumeAnswer, DeniedBody, QuotaBody, home_header};
use cellar_model::{
    Answer, Check, Degraded, Denial, Problem, ProblemType, Refusal, SessionId, SettingProblem, TryAgain, UserId,
    Verdict, header as ours,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::Full;
use std::fmt::Write as _;

/// A wait above this is not worth a client's automatic retry.
const SHOULD_RETRY_MAX_S: u64 = 60;

/// Whom an admit was about, which its answer says.
pub(crate) struct SessionOf {
    user: UserId,
    session: SessionId,
}

impl SessionOf {
    pub(crate) fn check(check: &Check) -> Option<Self> {
        let session = check.session.as_ref()?.id.clone();
        Some(Self { user: check.user.clone(), session })
    }

    fn put(of: Option<&Self>, answer: ConsumeAnswer) -> ConsumeAnswer {
        match of {
            Some(of) => answer.of_session(&of.user, &of.session),
            None => answer,
        }
    }
}

/// The answer to a consume.
pub fn verdict_response(verdict: &Verdict) -> http::Response<Full<Bytes>> {
    response_of(verdict, None)
}

/// The answer to a consume, or to an admit.
pub(crate) fn response_of(verdict: &Verdict, of: Option<&SessionOf>) -> http::Response<Full<Bytes>> {
    match verdict {
        Verdict::Admitted { answer, replayed, degraded } => {
            let mut response = json(&SessionOf::put(of, ConsumeAnswer::new(true, answer)));
            rate_limit_fields(response.headers_mut(), answer);
            degraded_fields(response.headers_mut(), *degraded);
            if *replayed {
                put(response.headers_mut(), ours::IDEMPOTENCY_REPLAYED, "true");
            }
            response
        }
        Verdict::Denied { denial, degraded } => denied(denial, *degraded, of),
        Verdict::Seen { answer, degraded } => {
            let mut response = json(&SessionOf::put(of, ConsumeAnswer::new(true, answer)));
            rate_limit_fields(response.headers_mut(), answer);
            degraded_fields(response.headers_mut(), *degraded);
            response
        }
        Verdict::Refused(refusal) => refused(refusal),
    }
}

/// The answer to `GET /v1/user/quota`.
pub fn quota_response(user: &UserId, verdict: &Verdict) -> http::Response<Full<Bytes>> {
    match verdict {
        Verdict::Seen { answer, degraded } | Verdict::Admitted { answer, degraded, .. } => {
            let mut response = json(&QuotaBody::new(user, answer));
            rate_limit_fields(response.headers_mut(), answer);
            degraded_fields(response.headers_mut(), *degraded);
            response
        }
        other => verdict_response(other),
    }
}

/// One item of a batch's results: its status among the members of its body.
pub(crate) fn batch_item(verdict: &Verdict) -> serde_json::Value {
    let with_status = |status: u16, body: serde_json::Value| {
        let mut item = serde_json::Map::new();
        item.insert("status".into(), status.into());
        if let serde_json::Value::Object(members) = body {
            item.extend(members);
        }
        serde_json::Value::Object(item)
    };
    match verdict {
        Verdict::Admitted { answer, .. } | Verdict::Seen { answer, .. } => {
            with_status(200, serde_json::to_value(ConsumeAnswer::new(true, answer)).unwrap_or_default())
        }
        Verdict::Denied { denial, .. } => {
            with_status(429, serde_json::to_value(DeniedBody::new(denial)).unwrap_or_default())
        }
        Verdict::Refused(refusal) => {
            let problem = refusal_problem(refusal);
            with_status(problem.kind.status(), problem.to_json().into())
        }
    }
}

/// The metric's labels.
pub(crate) const VERDICTS: [&str; 6] = ["allowed", "replayed", "denied", "seen", "refused", "unknown"];

/// Which of [`VERDICTS`] it is.
pub(crate) fn place(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Admitted { replayed: false, .. } => 0,
        Verdict::Admitted { replayed: true, .. } => 1,
        Verdict::Denied { .. } => 2,
        Verdict::Seen { .. } => 3,
        Verdict::Refused(Refusal::TryAgain { .. }) => 5,
        Verdict::Refused(_) => 4,
    }
}

/// Which degraded path it took, if any.
pub(crate) fn degraded(verdict: &Verdict) -> Option<Degraded> {
    match verdict {
        Verdict::Admitted { degraded, .. } | Verdict::Denied { degraded, .. } | Verdict::Seen { degraded, .. } => {
            *degraded
        }
        Verdict::Refused(_) => None,
    }
}

fn json(body: &impl serde::Serialize) -> http::Response<Full<Bytes>> {
    // Bodies are plain data with string keys: nothing in them can fail to serialize.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut response = http::Response::new(Full::new(Bytes::from(bytes)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn denied(denial: &Denial, degraded: Option<Degraded>, of: Option<&SessionOf>) -> http::Response<Full<Bytes>> {
    let body = DeniedBody::new(denial);
    let body = DeniedBody { answer: SessionOf::put(of, body.answer), ..body };
    let body = serde_json::to_string(&body).unwrap_or_default();
    let mut response = problem_response(ProblemType::QuotaExceeded, body);
    let headers = response.headers_mut();
    rate_limit_fields(headers, &denial.answer);
    degraded_fields(headers, degraded);
    let retry_after_s = denial.retry_after_us.div_ceil(1_000_000);
    headers.insert(header::RETRY_AFTER, retry_after_s.into());
    if retry_after_s > SHOULD_RETRY_MAX_S {
        put(headers, ours::SHOULD_RETRY, "false");
    }
    response
}

fn refused(refusal: &Refusal) -> http::Response<Full<Bytes>> {
    let mut response = HttpProblem(refusal_problem(refusal)).into_http();
    if let Refusal::Elsewhere { home: Some(home), epoch } = refusal {
        put(response.headers_mut(), ours::HOME, &home_header(home, *epoch));
    }
    if let Refusal::OtherInstance { endpoint } = refusal {
        put(response.headers_mut(), ours::INSTANCE, endpoint);
    }
    if let Refusal::TryAgain { reason: TryAgain::Overloaded } = refusal {
        response.extensions_mut().insert(Shed::Queue);
    }
    response
}

fn refusal_problem(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::UnknownUser => Problem::new(ProblemType::UnknownUser),
        Refusal::Blocked => Problem::new(ProblemType::Blocked),
        Refusal::Elsewhere { .. } => Problem::new(ProblemType::Misdirected),
        Refusal::OtherInstance { .. } => {
            Problem::new(ProblemType::Misdirected).detail("another process of this cell has the user's shard")
        }
        Refusal::Frozen => Problem::new(ProblemType::Moving).retry_after_s(1),
        Refusal::UnknownUnit(unit) => {
            let error = SettingProblem::new(&format!("/cost/{unit}"), "no policy of the tier meters this unit");
            Problem::new(ProblemType::UnknownUnit).errors(vec![error])
        }
        Refusal::AboveLimit { slot, limit, unit } => {
            let message = format!("{slot} can admit at most {} {unit} at once", limit.get());
            Problem::new(ProblemType::AboveLimit).errors(vec![SettingProblem::new(&format!("/cost/{unit}"), &message)])
        }
        Refusal::KeyReused => Problem::new(ProblemType::KeyReused),
        Refusal::ClockNotVirtual => Problem::new(ProblemType::ClockNotVirtual),
        Refusal::UnknownTier(tier) => {
            let detail =
                format!("there is no tier {tier}, in which this key enrols users whom it sees for the first time");
            Problem::new(ProblemType::UnknownTier).detail(detail)
        }
        Refusal::UnknownCharge => Problem::new(ProblemType::UnknownCharge),
        Refusal::NotReserved => Problem::new(ProblemType::NotReserved).detail("only a reservation can be settled"),
        Refusal::ChargeClosed => Problem::new(ProblemType::ChargeClosed),
        Refusal::TooManyReservations => Problem::new(ProblemType::TooManyReservations).detail("settle one, or wait"),
        Refusal::RecordFull => Problem::new(ProblemType::RecordFull)
            .detail("too many grants or overrides are in force, or reservations over too many slots are open"),
        Refusal::UnknownSlot(slot) => {
            let error = SettingProblem::new("/slot", &format!("the user's tier has no slot {slot} that enforces"));
            Problem::new(ProblemType::UnknownSlot).errors(vec![error])
        }
        Refusal::Undrained { .. } => Problem::new(ProblemType::TryAgain).detail(TryAgain::Undrained.label()),
        Refusal::Invalid(errors) => Problem::new(ProblemType::Invalid).errors(errors.clone()),
        Refusal::TryAgain { reason } => Problem::new(ProblemType::TryAgain).detail(reason.label()),
        Refusal::InvalidSession => Problem::new(ProblemType::InvalidSession),
    }
}

/// Both live dialects of the draft read this form: a quoted name and plain parameters, an item a slot.
fn rate_limit_fields(headers: &mut HeaderMap, answer: &Answer) {
    if answer.slots.is_empty() {
        return;
    }
    let (mut limits, mut policies) = (String::with_capacity(64), String::with_capacity(48));
    for slot in &answer.slots {
        let comma = if limits.is_empty() { "" } else { ", " };
        let resets_s = slot.resets_at.since(answer.at).div_ceil(1_000_000);
        let (name, left) = (&slot.slot, slot.remaining);
        // Writing into a string cannot fail.
        let _ = write!(limits, "{comma}\"{name}\";r={left};t={resets_s};a={left};w={resets_s}");
        let _ = write!(policies, "{comma}\"{name}\";q={}", slot.limit);
    }
    put(headers, ours::RATE_LIMIT, &limits);
    put(headers, ours::RATE_LIMIT_POLICY, &policies);
}

fn degraded_fields(headers: &mut HeaderMap, degraded: Option<Degraded>) {
    let Some(degraded) = degraded else { return };
    put(headers, ours::DEGRADED, degraded.label());
    if degraded == Degraded::PolicyFault {
        put(headers, ours::POLICY_FAULT, "true");
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Slot names, numbers and fixed words: always plain characters.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::{Effect, Micros, Revision, SlotAnswer, SlotName, TierName, Unit, Version};
    use http_body_util::BodyExt;

    fn answer() -> Answer {
        Answer {
            charge: None,
            version: Version(18),
            tier: TierName::new("pro").unwrap(),
            catalog_revision: Revision(7),
            at: Micros(1_700_158_546_000_000),
            slots: vec![SlotAnswer {
                slot: SlotName::new("per-minute").unwrap(),
                unit: Unit::requests(),
                limit: 600,
                remaining: 412,
                resets_at: Micros(1_700_158_568_500_000),
                granted: 0,
            }],
            effect: Effect::Plain,
        }
    }

    async fn body(response: http::Response<Full<Bytes>>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_admission_has_the_documented_body_and_fields() {
        let response = verdict_response(&Verdict::Admitted { answer: answer(), replayed: true, degraded: None });
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["ratelimit"], r#""per-minute";r=412;t=23;a=412;w=23"#);
        assert_eq!(response.headers()["ratelimit-policy"], r#""per-minute";q=600"#);
        assert_eq!(response.headers()["idempotency-replayed"], "true");
        assert_eq!(
            body(response).await,
            r#"{"allowed":true,"version":18,"tier":"pro","catalog_revision":7,"policies":[{"slot":"per-minute","unit":"requests","limit":600,"remaining":412,"resets_at":"2023-11-16T18:16:08.5Z"}]}"#
        );
    }

    #[tokio::test]
    async fn a_denial_is_a_problem_with_the_same_members() {
        let denial = Denial {
            answer: answer(),
            violated: vec![SlotName::new("per-minute").unwrap()],
            retry_after_us: 61_000_001,
        };
        let response = verdict_response(&Verdict::Denied { denial, degraded: None });
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "62");
        assert_eq!(response.headers()["x-should-retry"], "false");
        let body = body(response).await;
        assert!(
            body.starts_with(r#"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded""#),
            "{body}"
        );
        assert!(body.contains(r#""violated-policies":["per-minute"],"retryable":true"#), "{body}");
        assert!(body.contains(r#""allowed":false"#), "{body}");
    }

    #[test]
    fn unknown_is_503_with_a_wait() {
        let response = verdict_response(&Verdict::try_again(cellar_model::TryAgain::Unknown));
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
    }
}
