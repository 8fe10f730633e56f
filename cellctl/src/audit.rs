//! `cellctl audit`: ledger = record = copy, user by user.

use crate::books;
use crate::stack::Target;
use std::path::Path;
use std::process::ExitCode;

pub(crate) async fn run(folder: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let target = Target::find(folder)?;
    let users = match books::read(&target).await {
        Ok(users) => users,
        Err(error) => {
            // Not "they differ": nobody has compared them.
            eprintln!("cellctl: the books could not be compared: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    let mismatches: Vec<_> = users
        .iter()
        .filter_map(|(cell, user)| {
            let what = books::mismatch(user)?;
            Some(serde_json::json!({ "cell": cell, "user_id": user.user_id, "what": what }))
        })
        .collect();
    if json {
        println!("{}", serde_json::json!({ "users": users.len(), "mismatches": mismatches }));
    } else if mismatches.is_empty() {
        println!("the books of {} users agree: ledger = Redis = Postgres", users.len());
    } else {
        println!("{} of {} users' books do not agree:", mismatches.len(), users.len());
        for mismatch in &mismatches {
            println!("  {mismatch}");
        }
    }
    Ok(if mismatches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
