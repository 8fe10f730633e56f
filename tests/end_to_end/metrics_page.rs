//! The reference page of metrics is what processes say, and nothing else.

use crate::metrics::Scraped;
use crate::open_metrics::Family;
use crate::support::World;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

const PAGE: &str = "docs/operations/metrics.md";

const HEAD: &str = "# Metrics

Routers and cells serve them at `/metrics` of their admin listener, as OpenMetrics text, whatever a scraper says it takes. Made from what real processes answer; `CELLAR_UPDATE=1 cargo test --workspace --test end_to_end the_page_of_metrics` writes it anew.

- Every series stands at 0 (or at what its line says) from the start; those by tier, slot or policy from the moment the tier is in force until it goes, those by cell as long as the topology names it.
- No label is an id of a user, or anything that a caller chooses. Families by tier, slot, policy or cell have a most of label sets; what is beyond is counted under `other`, and `cellar_label_overflow_total` says so. How many series a process has does not grow with its users.
- Times are in seconds, in classes from 0.1 ms to 3.2 s; 20 ms is one of their bounds. Where spans are collected, `cellar_request_seconds` and `cellar_quota_commit_seconds` carry the id of a sampled trace beside each class.
- A counter is named as queries name it, a histogram by what its `_bucket`, `_sum` and `_count` begin with.

| name | type | unit | labels | of | what it says |
|---|---|---|---|---|---|
";

/// A family, as every process has it.
struct Row {
    kind: String,
    unit: String,
    labels: BTreeSet<String>,
    /// What each says of it: what a name stands for may differ in a word.
    helps: BTreeMap<&'static str, String>,
}

/// A tier whose policies have everything that can be counted of policies: a shadow and a candidate.
const TIER: &str = r#"
name = "watched"
[[policy]]
slot = "monthly"
use = "monthly-bucket@1"
unit = "tokens"
settings = { limit = 1000 }
[[policy]]
slot = "tried"
use = "monthly-bucket@1"
unit = "tokens"
mode = "shadow"
settings = { limit = 10 }
[rollout]
percent = 10
[[rollout.policy]]
slot = "monthly"
use = "monthly-bucket@1"
unit = "tokens"
settings = { limit = 2000 }
"#;

/// Goal: the page has every family that a router or a cell has, with its labels, and none besides.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_is_what_routers_and_cells_serve() {
    let world = World::up(&["up", "--regions", "1", "--cells", "1"]);
    world.tier(TIER).await;
    let mut rows = BTreeMap::new();
    for process in Scraped::all(&world) {
        let until = Instant::now() + Duration::from_secs(30);
        let page = loop {
            let page = process.page().await;
            let empty = page.families.iter().filter(|family| family.samples.is_empty());
            let empty: Vec<_> = empty.map(|family| family.name.as_str()).collect();
            if empty.is_empty() {
                break page;
            }
            assert!(Instant::now() < until, "{} has no series of {empty:?}", process.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        page.families.iter().for_each(|family| add(&mut rows, family, process.role));
    }
    let text: String = rows.iter().map(|(name, row)| line(name, row)).collect();
    let text = format!("{HEAD}{text}");
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE);
    if std::env::var_os("CELLAR_UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let held = std::fs::read_to_string(&file).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (held_lines, lines) = (lines(&held), lines(&text));
    let missing: Vec<_> = lines.difference(&held_lines).collect();
    let gone: Vec<_> = held_lines.difference(&lines).collect();
    assert!(
        held == text,
        "{PAGE} is stale: CELLAR_UPDATE=1 writes it anew\nnot there: {missing:#?}\ntoo much: {gone:#?}"
    );
}

fn add(rows: &mut BTreeMap<String, Row>, family: &Family, role: &'static str) {
    let row = rows.entry(family.queried_as()).or_insert_with(|| Row {
        kind: family.kind.clone(),
        unit: unit(family),
        labels: BTreeSet::new(),
        helps: BTreeMap::new(),
    });
    assert_eq!(row.kind, family.kind, "{} is one thing everywhere", family.name);
    row.labels.extend(family.label_names().into_iter().map(str::to_owned));
    row.helps.insert(role, family.help.clone());
}

/// Some are named by their unit without saying it apart.
fn unit(family: &Family) -> String {
    let named = ["seconds", "bytes"].into_iter().find(|unit| family.name.ends_with(&format!("_{unit}")));
    family.unit.clone().or(named.map(str::to_owned)).unwrap_or_default()
}

fn line(name: &str, row: &Row) -> String {
    let labels = row.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    let of = row.helps.keys().copied().collect::<Vec<_>>().join(", ");
    let said: BTreeSet<&String> = row.helps.values().collect();
    let help = match said.len() {
        1 => said.into_iter().cloned().collect(),
        _ => row.helps.iter().map(|(role, help)| format!("Of a {role}: {help}")).collect::<Vec<_>>().join(" "),
    };
    let help = help.replace('|', "\\|");
    format!("| `{name}` | {} | {} | {labels} | {of} | {help} |\n", row.kind, row.unit)
}
