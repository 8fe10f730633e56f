//! `cellctl audit`: ledger = record = copy, user by user, while the cells go on serving.

use crate::books;
use crate::stack::Target;
use std::path::Path;
use std::process::ExitCode;

/// The books could not be read, or not all of them: nobody can say whether they agree.
const NOT_COMPARED: u8 = 2;

pub(crate) async fn run(folder: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let target = Target::find(folder)?;
    let live = match books::read_live(&target).await {
        Ok(live) => live,
        Err(error) => {
            eprintln!("cellctl: the books could not be compared: {error:#}");
            return Ok(ExitCode::from(NOT_COMPARED));
        }
    };
    if json {
        let mismatch =
            |(cell, user, what): &(_, _, _)| serde_json::json!({ "cell": cell, "user_id": user, "what": what });
        let mismatches: Vec<_> = live.mismatches.iter().map(mismatch).collect();
        let unread = live.unread.iter().map(|(cell, shard)| serde_json::json!({ "cell": cell, "shard": shard }));
        let (users, ahead, stores, unread) = (live.users, live.ahead, &live.stores, unread.collect::<Vec<_>>());
        println!(
            "{}",
            serde_json::json!({
                "users": users, "mismatches": mismatches, "ahead": ahead, "stores": stores, "unread": unread
            })
        );
    } else {
        say(&live);
    }
    Ok(match (live.mismatches.is_empty(), live.unread.is_empty()) {
        (false, _) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(NOT_COMPARED),
        (true, true) => ExitCode::SUCCESS,
    })
}

fn say(live: &books::Live) {
    let s = if live.users == 1 { "" } else { "s" };
    if live.mismatches.is_empty() {
        let stores = live.stores.iter().map(|store| store.as_str()).collect::<Vec<_>>().join(" = ");
        println!("the books of {} user{s} agree: {stores}", live.users);
    } else {
        println!("{} of {} user{s} have books that do not agree:", live.mismatches.len(), live.users);
        for (cell, user, what) in &live.mismatches {
            println!("  {cell} {}: {what}", user.as_str());
        }
    }
    for (cell, shard) in &live.unread {
        println!("{cell} shard {shard}: its Redis does not answer, and was left out");
    }
    if live.ahead > 0 {
        println!("{} charged at every look: of them ledger and copy were compared, Redis not", live.ahead);
    }
}
