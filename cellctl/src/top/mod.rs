//! `cellctl top`: regions, cells and shards as they are this second, from two looks at everybody's metrics.

mod rows;
mod screen;
mod terminal;

use crate::fleet::{Fleet, FleetArguments, Said};
use crate::metrics_text::Scrape;
use anyhow::bail;
use cellar_client::Probe;
use clap::Args;
use futures::future::join_all;
use rows::Frame;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use terminal::{Key, Terminal};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// A process that needs longer is left out of the frame: the next one is due.
const ANSWER_MAX: Duration = Duration::from_millis(900);
/// Where no terminal says how wide it is.
const WIDTH: usize = 120;

#[derive(Args)]
pub(crate) struct TopArguments {
    /// Print one frame, of one second, and end
    #[arg(long)]
    once: bool,
    /// The same as a document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    fleet: FleetArguments,
}

/// What all said at one moment, in the order of the members; none of one that did not answer.
pub(crate) struct Look {
    at: Instant,
    said: Vec<Option<(Scrape, Said)>>,
}

pub(crate) async fn run(folder: &Path, arguments: TopArguments) -> anyhow::Result<()> {
    let fleet = Fleet::find(folder, &arguments.fleet).await?;
    let probe = Probe::new(ANSWER_MAX)?;
    if !arguments.once && !arguments.json && !std::io::stdout().is_terminal() {
        bail!("this is no terminal to draw on: --once prints one frame, --json one document");
    }
    let first = look(&fleet, &probe).await;
    if arguments.once || arguments.json {
        tokio::time::sleep(EVERY).await;
        let frame = Frame::of(&fleet, &first, &look(&fleet, &probe).await);
        match arguments.json {
            true => println!("{}", serde_json::to_string_pretty(&frame)?),
            false => print!("{}", screen::draw(&frame, WIDTH, usize::MAX)),
        }
        return Ok(());
    }
    live(&fleet, &probe, first).await
}

/// Redraws in place until somebody has seen enough.
async fn live(fleet: &Fleet, probe: &Probe, mut before: Look) -> anyhow::Result<()> {
    let mut terminal = Terminal::take()?;
    loop {
        tokio::select! {
            key = terminal.key() => if key == Key::End { return Ok(()) },
            () = tokio::time::sleep(EVERY.saturating_sub(before.at.elapsed())) => {
                let now = look(fleet, probe).await;
                let (width, height) = terminal.size();
                let drawn = screen::draw(&Frame::of(fleet, &before, &now), width, height);
                let mut out = std::io::stdout().lock();
                // Home, each line to its end, then what is below: nothing flickers.
                write!(out, "\x1b[H{}\x1b[J", drawn.replace('\n', "\x1b[K\n"))?;
                out.flush()?;
                before = now;
            }
        }
    }
}

async fn look(fleet: &Fleet, probe: &Probe) -> Look {
    let at = Instant::now();
    let metrics = join_all(fleet.members.iter().map(|member| member.metrics(probe)));
    let (metrics, said) = tokio::join!(metrics, fleet.ask(probe));
    let said = metrics.into_iter().zip(said).map(|(metrics, said)| Some((Scrape::parse(&metrics.ok()?), said.ok()?)));
    Look { at, said: said.collect() }
}
