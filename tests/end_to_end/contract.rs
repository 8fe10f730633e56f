//! The document is whole, is true, and is the same at both doors.

use crate::served::{Came, DOORS, Operation, Served, parameters};
use crate::support::World;
use cellar_model::ProblemType;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Operation and example of an earlier exchange, and the link of it that fills a later one.
type Filling = (&'static str, &'static str, &'static str);

/// The examples in the order in which they make sense, and the link that fills each from an earlier one.
const STEPS: &[(&str, &str, Option<Filling>)] = &[
    ("signUp", "person", None),
    ("signUp", "brought", None),
    ("signUp", "leaving", None),
    ("logIn", "trusted", None),
    ("logIn", "password", None),
    ("listSessions", "sessions", Some(("logIn", "trusted", "listSessions"))),
    ("readProfile", "profile", None),
    ("patchProfile", "name", Some(("readProfile", "profile", "patchProfile"))),
    ("patchPreferences", "theme", None),
    ("readPreferences", "preferences", None),
    ("consume", "tokens", None),
    ("consume", "ask", None),
    ("batch", "two", None),
    ("admit", "session", Some(("logIn", "trusted", "admit"))),
    ("reserve", "tokens", None),
    ("settle", "less", Some(("reserve", "tokens", "settle"))),
    ("refund", "charge", Some(("consume", "tokens", "refund"))),
    ("grant", "tokens", None),
    ("overrideSlot", "limit", None),
    ("readQuota", "quota", None),
    ("readUsage", "month", None),
    ("revokeSession", "session", Some(("logIn", "trusted", "revokeSession"))),
    ("revokeSessions", "everywhere", None),
    ("readUser", "account", None),
    ("changeTier", "tier", None),
    ("changeOwnPassword", "given", None),
    ("changePassword", "given", None),
    ("exportOwn", "person", None),
    ("exportUser", "person", None),
    ("block", "block", None),
    ("unblock", "unblock", None),
    ("eraseOwn", "end", None),
    ("eraseUser", "end", None),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_router_and_a_public_cell_serve_one_document_whose_examples_get_their_documented_answers() {
    let mut documents = Vec::new();
    for door in DOORS {
        let world = World::up(door);
        let served = Served::of(&world).await;
        // A cell takes sign-ups once it has read the tier.
        world.user("first@example.org", "free").await;
        send_examples(&served).await;
        documents.push(served.document);
    }
    assert_eq!(documents[0], documents[1]);
}

async fn send_examples(served: &Served) {
    let all: BTreeSet<(String, String)> = served
        .operations()
        .iter()
        .flat_map(|operation| operation.examples().into_iter().map(|(name, _)| (operation.id.clone(), name)))
        .collect();
    let sent = STEPS.iter().map(|(operation, example, _)| ((*operation).to_owned(), (*example).to_owned()));
    assert_eq!(all, sent.collect(), "every example is sent");

    let mut exchanges: BTreeMap<(&str, &str), Value> = BTreeMap::new();
    for (id, name, filled_by) in STEPS {
        let operation = served.operation(id);
        let mut example = operation.examples()[*name].clone();
        assert_is_described(served, &operation, &example);
        if let Some((earlier, of, link)) = filled_by {
            let exchange = &exchanges[&(*earlier, *of)];
            fill(&mut example, &exchange["links"][*link], exchange);
        }
        let mut request = served.request(&operation, &parameters(&example));
        // A password is a credential.
        if *id != "logIn" || example["body"]["password"].is_null() {
            request = request.bearer_auth(&served.key);
        }
        if !example["body"].is_null() {
            request = request.header("content-type", "application/json").body(example["body"].to_string());
        }
        let came = Came::of(request).await;
        assert_eq!(came.status, operation.success(), "{id} {name}: {}", came.text);
        assert_eq!(served.fault(&operation, &came), None, "{id} {name}");
        let documented = example["answer"].as_object().into_iter().flatten();
        for (member, _) in documented.filter(|_| *id != "readUsage") {
            assert!(came.body.get(member).is_some(), "{id} {name} has no {member}: {}", came.text);
        }
        let links = &operation.document["responses"][operation.success().to_string()]["links"];
        let etag = came.header("etag");
        let exchange = json!({
            "request": {"parameters": example["parameters"], "body": example["body"]},
            "response": {"body": came.body, "headers": {"ETag": etag}},
            "links": links,
        });
        exchanges.insert((*id, *name), exchange);
    }
}

/// The example's own parts fit what the document says of them.
fn assert_is_described(served: &Served, operation: &Operation, example: &Value) {
    let path = operation.path.replace('/', "~1").replace('{', "%7B").replace('}', "%7D");
    let at = format!("/paths/{path}/{}", operation.method.as_str().to_lowercase());
    let content = "content/application~1json/schema";
    if !example["body"].is_null() {
        let fits = served.validate(&format!("{at}/requestBody/{content}"), &example["body"]);
        assert_eq!(fits, Ok(()), "the body of {}", operation.id);
    }
    if !example["answer"].is_null() {
        let fits = served.validate(&format!("{at}/responses/{}/{content}", operation.success()), &example["answer"]);
        assert_eq!(fits, Ok(()), "the answer of {}", operation.id);
    }
    for (n, parameter) in operation.document["parameters"].as_array().unwrap().iter().enumerate() {
        let place = format!("{}.{}", parameter["in"].as_str().unwrap(), parameter["name"].as_str().unwrap());
        if let Some(value) = example["parameters"].get(&place) {
            assert_eq!(served.validate(&format!("{at}/parameters/{n}/schema"), value), Ok(()), "{place}");
        }
    }
}

/// Puts what a link says into an example.
fn fill(example: &mut Value, link: &Value, exchange: &Value) {
    for (name, expression) in link["parameters"].as_object().into_iter().flatten() {
        example["parameters"][name] = evaluated(expression, exchange);
    }
    for (name, expression) in link["requestBody"].as_object().into_iter().flatten() {
        example["body"][name] = evaluated(expression, exchange);
    }
}

/// A runtime expression of OpenAPI.
fn evaluated(expression: &Value, exchange: &Value) -> Value {
    let text = expression.as_str().unwrap().strip_prefix('$').unwrap();
    let (place, pointer) = text.split_once('#').unwrap_or((text, ""));
    match place.split('.').collect::<Vec<_>>()[..] {
        [side, "body"] => exchange[side]["body"].pointer(pointer).unwrap().clone(),
        ["response", "header", name] => exchange["response"]["headers"][name].clone(),
        ["request", "header", name] => exchange["request"]["parameters"][format!("header.{name}")].clone(),
        _ => panic!("{expression}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_documented_whole_and_every_type_of_problem_has_its_page() {
    let world = World::cell();
    let served = Served::of(&world).await;
    let mut answered = BTreeSet::new();
    for operation in served.operations() {
        for part in ["summary", "security", "responses"] {
            assert!(!operation.document[part].is_null(), "{} has no {part}: it has no row", operation.id);
        }
        for (status, answer) in operation.document["responses"].as_object().unwrap() {
            let types =
                &answer["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["type"]["enum"];
            assert_eq!(types.is_array(), status.starts_with(['4', '5']), "{} {status}", operation.id);
            answered.extend(types.as_array().into_iter().flatten().map(|kind| kind.as_str().unwrap().to_owned()));
        }
    }
    let known: BTreeSet<String> = ProblemType::ALL.iter().map(|kind| kind.uri()).collect();
    assert!(answered.is_subset(&known), "{answered:?}");
    for kind in ProblemType::ALL {
        let page = page(&served, &format!("/problems/{}", kind.slug())).await;
        for said in [kind.uri(), kind.status().to_string(), "What to do".into(), "Example".into()] {
            assert!(page.contains(&said), "{}: {said}", kind.slug());
        }
        if *kind != ProblemType::QuotaExceeded {
            assert_eq!(kind.uri(), format!("/problems/{}", kind.slug()), "a type is documented at its own path");
        }
    }
    let missing = Came::of(served.http.get(format!("{}/problems/no-such", served.url))).await;
    assert_eq!((missing.status, missing.kind()), (404, "/problems/not-found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_need_nothing_from_elsewhere_and_their_links_lead_somewhere() {
    let world = World::cell();
    let served = Served::of(&world).await;
    let mut paths = vec!["/docs".to_owned(), "/problems".to_owned()];
    paths.extend(ProblemType::ALL.iter().map(|kind| format!("/problems/{}", kind.slug())));
    let reference = page(&served, "/docs").await;
    for operation in served.operations() {
        assert!(reference.contains(&format!("id=\"{}\"", operation.id)), "{}", operation.id);
    }
    for path in paths {
        let page = page(&served, &path).await;
        for foreign in ["<script", "<img", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(foreign), "{path} has {foreign}");
        }
        for target in page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let (to, anchor) = target.split_once('#').unwrap_or((target, ""));
            assert!(to.is_empty() || to.starts_with('/'), "{path} leads to {target}");
            let there = if to.is_empty() { page.clone() } else { text(&served, to).await };
            assert!(anchor.is_empty() || there.contains(&format!("id=\"{anchor}\"")), "{path} leads to {target}");
        }
    }
}

async fn text(served: &Served, path: &str) -> String {
    let came = Came::of(served.http.get(format!("{}{path}", served.url))).await;
    assert_eq!(came.status, 200, "{path}");
    came.text
}

async fn page(served: &Served, path: &str) -> String {
    let came = Came::of(served.http.get(format!("{}{path}", served.url))).await;
    assert_eq!((came.status, came.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
    assert!(came.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
    came.text
}
