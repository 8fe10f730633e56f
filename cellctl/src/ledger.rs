//! `cellctl ledger`: the books by months, and their export.

use crate::books;
use crate::stack::Target;
use anyhow::{Context, bail};
use cellar_model::CellName;
use cellar_model::wire::LedgerExport;
use clap::Subcommand;
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum LedgerCommand {
    /// The months each cell has, their size, and whether they are exported
    List {
        #[arg(long)]
        json: bool,
    },
    /// Write a month of every cell (or of one) into a folder, a gzipped file of JSON lines each
    ///
    /// A month that is exported may be dropped by its cell, if its retention_months say so.
    Export {
        /// Of policy time, in UTC: 2023-11
        #[arg(long)]
        month: String,
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[arg(long)]
        cell: Option<CellName>,
    },
}

pub(crate) async fn run(folder: &Path, command: LedgerCommand) -> anyhow::Result<()> {
    let target = Target::find(folder)?;
    match command {
        LedgerCommand::List { json } => list(&target, json).await,
        LedgerCommand::Export { month, out, cell } => {
            std::fs::create_dir_all(&out).with_context(|| format!("cannot write to {}", out.display()))?;
            let mut cells = books::cells(&target).await?;
            if let Some(cell) = &cell {
                cells.retain(|(name, _)| name == cell);
                if cells.is_empty() {
                    bail!("there is no cell {cell}");
                }
            }
            for (cell, by_router) in cells {
                export(&target, &cell, by_router, &month, &out).await?;
            }
            Ok(())
        }
    }
}

async fn list(target: &Target, json: bool) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for (cell, by_router) in books::cells(target).await? {
        for month in target.admin.ledger_months(by_router.then_some(&cell)).await? {
            all.push((cell.clone(), month));
        }
    }
    if json {
        let months: Vec<_> =
            all.iter().map(|(cell, month)| serde_json::json!({ "cell": cell, "month": month })).collect();
        println!("{}", serde_json::Value::from(months));
        return Ok(());
    }
    println!("{:<16} {:<8} {:>12} {:>12}  exported rows", "cell", "month", "rows (est.)", "KiB");
    for (cell, month) in all {
        let exported = month.exported_rows.map_or_else(|| "-".into(), |rows| rows.to_string());
        println!(
            "{:<16} {:<8} {:>12} {:>12}  {exported}",
            cell.to_string(),
            month.month,
            month.rows,
            month.bytes / 1024
        );
    }
    Ok(())
}

/// Writes beside and renames when whole: a file under its name is a complete one.
async fn export(target: &Target, cell: &CellName, by_router: bool, month: &str, out: &Path) -> anyhow::Result<()> {
    let asked = by_router.then_some(cell);
    let path = out.join(format!("{cell}-{month}.jsonl.gz"));
    let beside = path.with_extension("gz.part");
    let file = File::create(&beside).with_context(|| format!("cannot write {}", beside.display()))?;
    let mut lines = GzEncoder::new(BufWriter::new(file), Compression::default());
    let (mut hash, mut rows, mut after) = (Sha256::new(), 0i64, None);
    let style = ProgressStyle::with_template("{spinner} {msg}: {pos} rows")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style).with_message(format!("{cell} {month}"));
    loop {
        let page = target.admin.ledger_page(asked, month, after.as_ref()).await?;
        for row in &page.rows {
            let mut line = serde_json::to_vec(row)?;
            line.push(b'\n');
            hash.update(&line);
            lines.write_all(&line).with_context(|| format!("cannot write {}", beside.display()))?;
            rows += 1;
        }
        bar.set_position(rows.unsigned_abs());
        after = page.rows.into_iter().last().or(after);
        if page.last {
            break;
        }
    }
    bar.finish_and_clear();
    let file = lines.finish().and_then(|buffer| buffer.into_inner().map_err(|error| error.into_error()));
    file.and_then(|file| file.sync_all()).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::rename(&beside, &path).with_context(|| format!("cannot write {}", path.display()))?;
    let export = LedgerExport { rows, sha256: hex::encode(hash.finalize()) };
    target.admin.ledger_exported(asked, month, &export).await?;
    println!("{cell}: {rows} rows in {}, sha256 {} of its lines", path.display(), export.sha256);
    Ok(())
}
