//! What watches a stack is shown: the rules and dashboards that ship, as this build has them.

use cellar_devstack::{Observing, Stack};

const SHIPPED: Observing<'_> = Observing {
    rules: &[
        ("recording.yml", include_str!("../../../deploy/prometheus/rules/recording.yml")),
        ("alerts.yml", include_str!("../../../deploy/prometheus/rules/alerts.yml")),
    ],
    dashboards: &[
        ("fleet.json", include_str!("../../../deploy/grafana/dashboards/fleet.json")),
        ("cell.json", include_str!("../../../deploy/grafana/dashboards/cell.json")),
        ("policies.json", include_str!("../../../deploy/grafana/dashboards/policies.json")),
        ("directory.json", include_str!("../../../deploy/grafana/dashboards/directory.json")),
    ],
};

pub(super) async fn observe(stack: &mut Stack) -> anyhow::Result<()> {
    for missing in stack.observe(SHIPPED).await? {
        eprintln!("note: {missing}");
    }
    Ok(())
}
