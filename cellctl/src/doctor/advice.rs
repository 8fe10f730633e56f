//! What to do next: the first steps of the runbook, with the names of this stack in them.

use super::causes::{Cause, SILENT};

/// `local`: this machine's own stack, whose processes `cellctl` starts and stops.
pub(super) fn next(cause: &Cause, local: bool) -> Vec<String> {
    let mut steps = Vec::new();
    if let Some(process) = cause.process.as_ref().filter(|_| local) {
        if cause.kind != "disk-full" {
            steps.push(format!("cellctl logs {process}    # why it ended, or hangs"));
        }
        if cause.kind == "disk-full" {
            steps.push(format!("make room on the disk of {process}, then"));
        }
        steps.push(format!("cellctl restart {process}"));
    }
    let cell = cause.cells.first().map_or("CELL", String::as_str);
    match cause.kind.as_str() {
        "redis-away" => {
            steps.push(format!(
                "start the quota Redis of {cell} on the folder it had: the shards go back by themselves within a minute"
            ));
        }
        "postgres-away" => {
            steps.push(format!("start or promote the Postgres of {cell} within two minutes: then its shards close"));
            steps.push("cellctl shard list    # what waits for it".to_owned());
        }
        "directory-away" if cause.process.is_none() => {
            steps.push("look at the directory's servers, and at the network between them and who says so".to_owned());
        }
        "clock-disputed" => {
            steps.push(format!(
                "set the clock of {cell}'s machine (chronyc tracking, timedatectl): it is believed again by itself"
            ));
        }
        "policy-faulting" => {
            steps.push("cellctl tier history TIER    # what was put in force last".to_owned());
            steps.push("cellctl tier rollback TIER, or publish a version that does not fault".to_owned());
        }
        "disk-full" if cause.process.is_none() => {
            steps.push("df on the machine named above: make room, beginning with old backups and exports".to_owned());
            steps.push("cellctl ledger list    # what has been exported and may go".to_owned());
        }
        "overloaded" => {
            steps.push("cellctl top    # who asks, and which shard is behind".to_owned());
            steps.push(
                "one hot user: a limit of the caller; all users: more cells, or more processes of this one".to_owned(),
            );
        }
        "catalog-unfit" => {
            steps.push("cellctl tier show, cellctl policy show NAME: the cell's log says what is refused".to_owned())
        }
        "cell-away" if cause.process.is_none() || !local => {
            steps.push(format!("look whether the processes of {cell} run, and can be reached by the routers"));
        }
        "shard-closed" => {
            steps.push("cellctl shard list    # which, since which fence, and who has them".to_owned());
            steps.push("cellctl instance list    # a life that is over for certain: cellctl instance fence".to_owned());
        }
        _ => {}
    }
    if cause.symptoms.iter().any(|symptom| symptom.condition == SILENT) && !local {
        steps.push("a process that runs and does not answer: take its stack before it is restarted".to_owned());
    }
    steps
}
