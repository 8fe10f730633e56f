//! What is put before who watches a stack: the rules and dashboards that ship, as this build has them.

use cellar_devstack::{Observing, Stack};

const SHIPPED: Observing<'static> = Observing {
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

/// Has the stack watched, and returns what of it cannot be had, in sentences: no stack fails for who watches it.
pub(super) async fn observe(stack: &mut Stack) -> Vec<String> {
    match stack.observe(SHIPPED).await {
        Ok(missing) => missing,
        Err(error) => vec![format!("nobody watches the stack: {error}")],
    }
}
