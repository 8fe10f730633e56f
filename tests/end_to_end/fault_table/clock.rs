//! The cell's wall clock is set wrong.

use super::row::{OpenRow, Row};
use crate::support::World;
use cellar_client::{Consume, Decision};
use cellar_devstack::Cellctl;
use cellar_model::wire::ConsumeBody;
use std::time::Duration;
use tokio::time::Instant;

/// One a second, five at once.
const TIER: &str = r#"
name = "paced"
[[policy]]
slot = "per-minute"
use = "gcra@1"
unit = "requests"
settings = { limit = 60, period_s = 60, burst = 5 }
"#;
/// How far a step may go unnoticed: what is then admitted too much is the rate times this.
const TOLERANCE: Duration = Duration::from_millis(500);
/// After each step: longer than the clocks of Redis and Postgres are asked in.
const LOOK: Duration = Duration::from_secs(3);

/// Goal: a cell whose clock alone jumps by an hour goes on at its old time, and admits what it would have.
/// Method: a user at his rate's limit asks all the time, while the clock goes ahead by an hour, back by an
/// hour from where it was, and right again.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_by_an_hour_is_not_believed() {
    let open = OpenRow::new("the cell's clock jumps an hour ahead, then an hour back");
    let mut cellctl = Cellctl::new().unwrap();
    let skew = cellctl.folder().join("skew");
    std::fs::write(&skew, "0").unwrap();
    cellctl.environment("CELLAR_CELL__CLOCK_SKEW_FILE", &skew.display().to_string());
    cellctl.keep(&["cell", "up"]).unwrap();
    let world = World::of(cellctl);
    world.tier(TIER).await;
    let user = world.user("paced@example.org", "paced").await;
    let body = ConsumeBody { user_id: Some(user), ..ConsumeBody::default() };
    let request = Consume { body, idempotency_key: None };
    let since = Instant::now();
    let (mut row, mut admitted) = (Row::default(), 0);
    for by_ms in ["0", "3600000", "-3600000", "0"] {
        std::fs::write(&skew, by_ms).unwrap();
        let until = Instant::now() + LOOK;
        while Instant::now() < until {
            match world.client.consume(&request).await {
                Ok(Decision::Allowed(_)) => admitted += 1,
                Ok(Decision::Denied(_)) => {}
                Err(_) => row.failed += 1,
            }
            row.answered += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let allowed = 5 + (since.elapsed() + TOLERANCE).as_secs();
    row.over_admitted = u64::saturating_sub(admitted, allowed);
    assert!(admitted >= 5 + 3 * LOOK.as_secs(), "{admitted} admitted: policy time stood still");
    open.close(&row);
    assert_eq!((row.failed, row.over_admitted), (0, 0), "{admitted} admitted");
}
