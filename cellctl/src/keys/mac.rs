//! `cellctl keys mac`: the keys of session tokens, of a local stack.
//!
//! Every process checks tokens with both keys of the file and signs with the first. So a rotation has two steps: the
//! new key is written second, and once every process has it, first. No process ever meets a token whose key it does
//! not know. The key to come stands in a file of its own until the end, so that a command that was killed is gone on
//! with by the next one.

use crate::stack::Target;
use anyhow::{Context, bail, ensure};
use cellar_artifacts::write_whole;
use cellar_client::{Admin, Credential};
use cellar_devstack::{Role, Stack, StackState};
use cellar_model::MacKeys;
use cellar_model::wire::MacKeysShown;
use clap::Subcommand;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Each looks at its file every second.
const FOLLOWED_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Keys drawn until one's id is another than that of the key in force: each has one of 26.
const DRAWS_MAX: usize = 100;

#[derive(Subcommand)]
pub(crate) enum MacCommand {
    /// Sign with a new key from now on; no token that is alive is refused
    ///
    /// Tokens of the key before stay good. Those of the one before that do not: it leaves.
    Rotate {
        /// Even if tokens of the key that leaves may be alive: who has one has to log in again
        #[arg(long)]
        drop_older: bool,
        #[arg(long)]
        json: bool,
    },
    /// Which keys each process has, by their fingerprints
    Show {
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(folder: &Path, command: MacCommand) -> anyhow::Result<()> {
    Target::find(folder)?.local.context("the files of a stack elsewhere are its operator's: see docs/keys.md")?;
    match command {
        MacCommand::Rotate { drop_older, json } => rotate(folder, drop_older, json).await,
        MacCommand::Show { json } => show(folder, json).await,
    }
}

async fn show(folder: &Path, json: bool) -> anyhow::Result<()> {
    let mut document = Vec::new();
    for (name, shown) in of_each(Stack::open(folder)?.state()).await? {
        if json {
            document.push(serde_json::json!({ "process": name, "fingerprints": shown.fingerprints }));
        } else {
            println!("{name:<24} signs with {}", shown.fingerprints.join(", knows too "));
        }
    }
    if json {
        println!("{}", serde_json::Value::from(document));
    }
    Ok(())
}

async fn rotate(folder: &Path, drop_older: bool, json: bool) -> anyhow::Result<()> {
    let state = Stack::open(folder)?.state().clone();
    // Who does not answer now would not be waited for in vain later.
    let processes = of_each(&state).await?;
    let lasts_h = processes.iter().filter_map(|(_, shown)| shown.session_lasts_h).max();
    let files = Files::of(state.mac_key_file());
    let held = files.held()?;
    let (begun, new) = files.to_come(&held)?;
    let (current, step) = match begun {
        Begun::No => {
            if held.len() > 1 && !drop_older {
                files.is_old_enough(lasts_h.context("no cell runs, and only cells know how long sessions last")?)?;
            }
            (held[0].clone(), 1)
        }
        Begun::Second => (held[0].clone(), 1),
        Begun::First => (held[1].clone(), 2),
    };
    if step == 1 {
        files.write(&[&current, &new])?;
        followed(folder, &[&current, &new]).await?;
    }
    files.write(&[&new, &current])?;
    let fingerprints = followed(folder, &[&new, &current]).await?;
    std::fs::remove_file(&files.next).with_context(|| format!("cannot remove {}", files.next.display()))?;
    if json {
        println!("{}", serde_json::json!({ "fingerprints": fingerprints, "processes": processes.len() }));
    } else {
        println!(
            "{} processes sign with {}; tokens of {} stay good",
            processes.len(),
            fingerprints[0],
            fingerprints[1]
        );
    }
    Ok(())
}

/// What a rotation that was cut short has come to.
#[derive(Debug, PartialEq, Eq)]
enum Begun {
    No,
    Second,
    First,
}

struct Files {
    held: PathBuf,
    next: PathBuf,
}

impl Files {
    fn of(held: PathBuf) -> Self {
        Self { next: held.with_extension("next"), held }
    }

    /// The keys in force, as the file's lines.
    fn held(&self) -> anyhow::Result<Vec<String>> {
        let text =
            std::fs::read_to_string(&self.held).with_context(|| format!("cannot read {}", self.held.display()))?;
        let fit = MacKeys::from_text(&text).is_ok();
        ensure!(fit, "{} must hold one or two lines of 64 hex digits", self.held.display());
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// The key that a rotation brings, drawn now or by one that was cut short.
    fn to_come(&self, held: &[String]) -> anyhow::Result<(Begun, String)> {
        let drawn = std::fs::read_to_string(&self.next).ok().map(|text| text.trim().to_owned());
        if let Some(drawn) = drawn {
            match held.iter().position(|key| *key == drawn) {
                Some(0) if held.len() > 1 => return Ok((Begun::First, drawn)),
                Some(0) | None => {}
                Some(_) => return Ok((Begun::Second, drawn)),
            }
        }
        let fits = |new: &String| MacKeys::from_text(&format!("{new}\n{}", held[0])).is_ok();
        let draws = std::iter::repeat_with(|| hex::encode(rand::random::<[u8; 32]>())).take(DRAWS_MAX);
        let new = draws.into_iter().find(fits).context("no key was drawn that can be told from the one in force")?;
        write_private(&self.next, &new)?;
        Ok((Begun::No, new))
    }

    /// The key that leaves has signed until the file was last written.
    fn is_old_enough(&self, lasts_h: u32) -> anyhow::Result<()> {
        let age = std::fs::metadata(&self.held)?.modified()?.elapsed().unwrap_or_default();
        let lasts = Duration::from_secs(u64::from(lasts_h) * 3_600);
        if age < lasts {
            let left_h = (lasts - age).as_secs().div_ceil(3_600);
            bail!(
                "the keys were rotated less than {lasts_h} h ago: tokens of the key that would leave may be alive for \
                 {left_h} h more. Wait, or say --drop-older: who has one has to log in again"
            );
        }
        Ok(())
    }

    fn write(&self, keys: &[&str]) -> anyhow::Result<()> {
        write_private(&self.held, &keys.join("\n"))
    }
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    // Whose the file is nobody else may read, from the first byte on: it is made before it is filled.
    let beside = path.with_extension("new");
    let owners = std::fs::Permissions::from_mode(0o600);
    let written = write_whole(&beside, b"")
        .and_then(|()| std::fs::set_permissions(&beside, owners))
        .and_then(|()| std::fs::write(&beside, text))
        .and_then(|()| std::fs::rename(&beside, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// What each router and cell of the stack that runs has.
async fn of_each(state: &StackState) -> anyhow::Result<Vec<(String, MacKeysShown)>> {
    let key = state.operator_key.clone().context("the stack has not come up yet")?;
    let mut each = Vec::new();
    let asked = state.processes.iter().filter(|one| matches!(one.role, Role::Router | Role::Cell) && one.is_running());
    for process in asked {
        let url = process.admin_url.as_ref().with_context(|| format!("{} has no admin listener", process.name))?;
        let shown = Admin::new([url], Credential::new(key.clone()))?.mac_keys().await;
        each.push((process.name.clone(), shown.with_context(|| format!("{} does not say its keys", process.name))?));
    }
    Ok(each)
}

/// Waits until every process that runs has these keys; those that start read the file.
async fn followed(folder: &Path, keys: &[&str]) -> anyhow::Result<Vec<String>> {
    let wanted = MacKeys::from_text(&keys.join("\n")).context("the keys cannot be told apart")?.fingerprints();
    let until = Instant::now() + FOLLOWED_MAX;
    loop {
        let lacking = match of_each(Stack::open(folder)?.state()).await {
            Ok(each) => each.into_iter().find(|(_, shown)| shown.fingerprints != wanted).map(|(name, _)| name),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => Some("a process".to_owned()),
        };
        match lacking {
            None => return Ok(wanted),
            Some(name) if Instant::now() >= until => {
                bail!("{name} does not take the keys up; nothing is refused meanwhile: run it again to go on")
            }
            Some(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: wherever a rotation is cut short, the next one goes on with the same key.
    #[test]
    fn a_rotation_that_was_cut_short_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::of(folder.path().join("mac-key"));
        files.write(&[&"ab".repeat(32)]).unwrap();
        let old = files.held().unwrap();
        let (begun, new) = files.to_come(&old).unwrap();
        assert_eq!(begun, Begun::No);
        assert_eq!(std::fs::metadata(&files.next).unwrap().permissions().mode() & 0o777, 0o600);
        files.write(&[&old[0], &new]).unwrap();
        assert_eq!(files.to_come(&files.held().unwrap()).unwrap(), (Begun::Second, new.clone()));
        files.write(&[&new, &old[0]]).unwrap();
        assert_eq!(files.to_come(&files.held().unwrap()).unwrap(), (Begun::First, new));
        std::fs::remove_file(&files.next).unwrap();
        assert_eq!(files.to_come(&files.held().unwrap()).unwrap().0, Begun::No);
        assert!(files.is_old_enough(1).unwrap_err().to_string().contains("--drop-older"));
        assert!(files.is_old_enough(0).is_ok());
    }
}
