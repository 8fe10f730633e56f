//! `cellctl users export`: every user of every cell, page by page.

use crate::books;
use crate::stack::Target;
use crate::table::grouped;
use anyhow::Context;
use clap::Args;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SAY_EVERY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct ExportArguments {
    /// A new file, which only its owner may read: it is full of persons. It is there when it is whole
    file: PathBuf,
    /// With each user's password hash
    #[arg(long)]
    password_hashes: bool,
    /// Print the counts as a document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(folder: &Path, arguments: ExportArguments) -> anyhow::Result<()> {
    let target = Target::find(folder)?;
    let file = &arguments.file;
    anyhow::ensure!(!file.exists(), "{} is there already", file.display());
    let mut partial = file.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let cannot = || format!("cannot write {}", partial.display());
    // What an export that was killed has left is begun anew.
    let made = File::options().create(true).truncate(true).write(true).mode(0o600).open(&partial);
    let mut out = BufWriter::new(made.with_context(cannot)?);
    let (began, mut said) = (Instant::now(), Instant::now());
    let (mut users, mut left_out) = (0, 0);
    for (cell, by_router) in books::cells(&target).await? {
        let (of, mut after) = (by_router.then_some(&cell), None);
        loop {
            let page = target.admin.users_page(of, after.as_ref(), arguments.password_hashes).await?;
            users += page.users.len() as u64;
            left_out += page.left_out;
            for user in &page.users {
                serde_json::to_writer(&mut out, user).with_context(cannot)?;
                out.write_all(b"\n").with_context(cannot)?;
            }
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                eprintln!("{} users in {:.0} s", grouped(users), began.elapsed().as_secs_f64());
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    let whole = out.into_inner().map_err(anyhow::Error::from).and_then(|file| file.sync_all().map_err(Into::into));
    whole.with_context(cannot)?;
    std::fs::rename(&partial, file).with_context(|| format!("cannot write {}", file.display()))?;
    if arguments.json {
        let seconds = began.elapsed().as_secs_f64();
        println!("{}", serde_json::json!({ "users": users, "left_out": left_out, "seconds": seconds }));
    } else {
        println!("{} users are in {}", grouped(users), file.display());
        if left_out > 0 {
            println!("{} were left out: blocked, or without an e-mail", grouped(left_out));
        }
    }
    Ok(())
}
