//! The interface is frozen: its text is what it was, and a component that was written against it is served.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

use cellar_policy_host::{ConfigureError, Digest, Fault, Host, HostLimits, Operation, Outcome, Request, Stores};

const WIT: &[u8] = include_bytes!("../../../../wit/policy.wit");
const COMPONENT: &str = include_str!("policy-1.0.0.wat");

/// Of `cellar:policy@1.0.0`. What is built against it is out there: no field, case or function is ever added to it,
/// removed or moved, and a change is a package of the next major in a file of its own (`wit/README.md`). A comment
/// that was made more exact may change this line, and nothing else may.
const WIT_DIGEST: &str = "sha256:8724fbe7cf9f77c7e617b04c737bc1f3180b36594f7749febe69d88646019d39";

#[test]
fn the_text_of_version_1_is_what_it_was() {
    assert_eq!(Digest::of(WIT).to_string(), WIT_DIGEST, "wit/policy.wit has changed: see the comment on WIT_DIGEST");
}

fn request(operation: Operation, cost: u64, held: u64) -> Request<'static> {
    Request { operation, now_us: 1_700_000_000_000_000, cost, held, held_at_us: 0, attributes: &[] }
}

#[test]
fn a_component_written_against_1_0_0_describes_and_configures_itself() {
    let host = Host::new(HostLimits::default()).unwrap();
    let policy = host.load(&wat::parse_str(COMPONENT).unwrap()).unwrap();
    let description = policy.description();
    assert_eq!((description.name.as_str(), description.version.as_str()), ("frozen", "1.0.0"));
    assert_eq!((description.unit.as_str(), description.state_schema), ("requests", 1));
    assert_eq!(policy.configure(r#"{"limit":10}"#), Ok(10_u64.to_le_bytes().to_vec()));
    let Err(ConfigureError::Refused(problems)) = policy.configure("{}") else { panic!("it takes no limit") };
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].pointer.as_str(), problems[0].message.as_str()), ("/limit", "must be a number above 0"));
}

#[test]
fn a_component_written_against_1_0_0_decides_and_migrates() {
    let host = Host::new(HostLimits::default()).unwrap();
    let policy = host.load(&wat::parse_str(COMPONENT).unwrap()).unwrap();
    let parameters = policy.configure(r#"{"limit":10}"#).unwrap();
    let (mut stores, mut state) = (Stores::new(&host), Vec::new());
    let calls = [
        (request(Operation::Consume, 3, 0), true, Some(3_u64), 7),
        (request(Operation::Reserve, 7, 0), true, Some(10), 0),
        (request(Operation::Consume, 1, 0), false, None, 0),
        (request(Operation::Settle, 2, 7), true, Some(5), 5),
        (request(Operation::Peek, 0, 0), true, None, 5),
        (request(Operation::Consume, 0, 0), true, None, 5),
        (request(Operation::Settle, 20, 0), true, Some(25), 0),
    ];
    for (request, admitted, spent, remaining) in calls {
        let outcome = stores.decide(&policy, &parameters, &state, &request).unwrap();
        let next = spent.map(|spent| spent.to_le_bytes().to_vec());
        let expected = Outcome {
            admitted,
            state: next.clone(),
            limit: 10,
            remaining,
            retry_after_us: 0,
            reset_after_us: 0,
            note: 0,
        };
        assert_eq!(outcome, expected, "{request:?}");
        state = next.unwrap_or(state);
    }
    let attributes = [("model", "large"), ("region", "eu")];
    let said = Request { attributes: &attributes, ..request(Operation::Peek, 0, 0) };
    assert_eq!(stores.decide(&policy, &parameters, &state, &said).unwrap().note, 5);
    assert_eq!(stores.migrate(&policy, 1, &parameters, &state).unwrap(), state);
    let refused = stores.migrate(&policy, 2, &parameters, &state).unwrap_err();
    let message = "only schema 1 was ever written".to_owned();
    assert_eq!(refused, Fault::NotMigrated { from_schema: 2, message });
}
