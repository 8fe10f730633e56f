//! `cellctl run`: a world, a trace through it, and how to go on.

use super::given_keys::KeysGiven;
use super::{bring_up, end_interrupted, signals};
use crate::trace::{self, PlayArguments};
use cellar_devstack::{Clock, Stack, StackError, Tether, World};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct RunArguments {
    /// A trace to play; without one, a generated one of the same shape
    #[arg(long, value_name = "FILE", default_value = "")]
    trace: String,
    /// Take the world down afterwards
    #[arg(long)]
    once: bool,
    #[arg(long, default_value_t = 2)]
    regions: usize,
    #[arg(long, default_value_t = 2)]
    cells: usize,
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(folder: &Path, arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let world = World { clock: Clock::Virtual, ..World::of(arguments.regions, arguments.cells) };
    // A world for one play ends with us, whatever ends us.
    let tether = if arguments.once { Tether::ToUs } else { Tether::Free };
    let signals = signals()?;
    let play =
        PlayArguments::of((!arguments.trace.is_empty()).then(|| PathBuf::from(&arguments.trace)), arguments.json);
    // A trace that cannot be read is said before anything starts.
    let requests = trace::requests(&play)?;
    let keys = KeysGiven::default();
    let (stack, ours) = tokio::select! {
        up = bring_up(folder, &world, tether, None, &keys, false) => match up {
            Ok(stack) => (stack, true),
            Err(error) if matches!(error.downcast_ref(), Some(StackError::AlreadyUp { .. })) => (Stack::open(folder)?, false),
            Err(error) => return Err(error),
        },
        () = signals.wait() => {
            end_interrupted(folder).await;
            anyhow::bail!("interrupted while starting; nothing is left running");
        }
    };
    let played = tokio::select! {
        played = trace::play(folder, play, requests) => played,
        () = signals.wait() => Err(anyhow::anyhow!("interrupted")),
    };
    if arguments.once && ours {
        stack.delete().await?;
        eprintln!("the world is down again");
        return played;
    }
    let code = played?;
    if arguments.once {
        eprintln!("the stack was up before, so it stays: `cellctl down --stack {}` ends it", folder.display());
    }
    if !arguments.json {
        how_to_go_on(&stack);
    }
    Ok(code)
}

fn how_to_go_on(stack: &Stack) {
    let state = stack.state();
    let (Some(region), Some(key)) = (state.regions.first(), state.service_key.as_deref()) else { return };
    let url = &region.router_url;
    println!("\nThe world is up. Regions:");
    for region in &state.regions {
        println!("  {:<4} {}   admin {}", region.name, region.router_url, region.admin_url);
    }
    println!("\nTry:");
    println!("  KEY={key}");
    println!(
        "  U=$(curl -s {url}/v1/users -H \"Authorization: Bearer $KEY\" -d \"{{\\\"email\\\":\\\"me-$RANDOM@example.org\\\",\\\"tier\\\":\\\"free\\\"}}\" | sed 's/.*\"user_id\":\"\\([^\"]*\\)\".*/\\1/')"
    );
    println!(
        "  curl -si {url}/v1/internal/quota/consume -H \"Authorization: Bearer $KEY\" -d '{{\"user_id\":\"'$U'\",\"cost\":1280}}'"
    );
    println!("  curl -s {url}/v1/user/quota -H \"Authorization: Bearer $KEY\" -H \"Cellar-User: $U\"");
    println!("  curl -s {url}/v1/user/profile -H \"Authorization: Bearer $KEY\" -H \"Cellar-User: $U\"");
    println!("\n`target/debug/cellctl status` shows what runs, `target/debug/cellctl down --delete` ends it.");
}
