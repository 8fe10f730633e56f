//! Who is hit by a cause: cells by their weight on the ring, and what those users notice.

use super::causes::Cause;
use crate::fleet::Fleet;
use cellar_model::Topology;

pub(super) fn hit(cause: &Cause, fleet: &Fleet) -> String {
    let users = users(cause, fleet.topology.as_ref(), fleet.local.as_ref().is_some_and(|state| state.world.single));
    let notice = match (cause.kind.as_str(), cause.failing) {
        ("redis-away", false) => "they are answered by Postgres, slower, with Cellar-Degraded: postgres",
        ("postgres-away", false) => {
            "their checks go on within autonomy (two minutes); sign-ups, log-ins and changes are refused"
        }
        ("directory-away", _) => {
            "nobody who has an account and asks as ever; sign-ups, log-ins by an e-mail not seen lately and changes of one are refused"
        }
        ("cache-away", _) => "profiles and sessions are slower; nothing is refused",
        ("clock-disputed", _) => "nobody yet: policy time goes on by the other clocks",
        ("policy-faulting", true) => "those of the tier that is named are denied by its on_fault",
        ("policy-faulting", false) => "those of the tier that is named are admitted without the policy",
        ("disk-full", false) => "nobody yet; what has to be written down next will fail",
        ("overloaded", _) => "some of their checks are refused with 503, tiers with shed = \"early\" first",
        ("catalog-unfit", false) => "those whose tier is not in force as it was meant: its predecessor decides",
        ("router-away", true) => "whoever asks at that region's door; another region's serves the same users",
        ("store-away", _) => "nobody; the next fault of the quota Redis would be worse",
        (_, true) => "they are refused with 503",
        (_, false) => "they are served, less well",
    };
    if notice.starts_with("nobody") { notice.to_owned() } else { format!("{users}: {notice}") }
}

fn users(cause: &Cause, topology: Option<&Topology>, single: bool) -> String {
    let cells: Vec<&str> = cause.cells.iter().map(String::as_str).collect();
    if cells.is_empty() {
        let regions: Vec<&str> = cause.regions.iter().map(String::as_str).filter(|region| !region.is_empty()).collect();
        return if regions.is_empty() { "all users".into() } else { format!("users of region {}", regions.join(", ")) };
    }
    if single {
        return "all users".into();
    }
    let shares = cells.iter().map(|cell| match topology.and_then(|topology| share(topology, cell)) {
        Some((region, percent)) => format!("{cell} ({percent:.0} % of region {region} by ring weight)"),
        None => (*cell).to_owned(),
    });
    format!("users of {}", shares.collect::<Vec<_>>().join(", "))
}

/// A cell's region, and its part of that region's ring.
fn share(topology: &Topology, cell: &str) -> Option<(String, f64)> {
    let (region, entry) = topology.cells().find(|(_, entry)| entry.name.as_str() == cell)?;
    let all: u32 = region.cells.iter().map(|cell| cell.weight).sum();
    Some((region.name.to_string(), 100.0 * f64::from(entry.weight) / f64::from(all.max(1))))
}
