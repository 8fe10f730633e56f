//! `cellctl keys service` and `cellctl keys operator`.
//!
//! A key is drawn here and only its hash is sent, so that it is on no wire, in no store, and in no log. Where it is
//! to stay it is before anybody believes it: who is killed half way has a file too many, and no key too few.

use crate::stack::{Target, new_key};
use crate::table::write_table;
use anyhow::{Context, bail, ensure};
use cellar_client::{ClientError, ProblemBody};
use cellar_devstack::{Keys, Stack};
use cellar_model::wire::{KeyEntry, NewKey, RevokeKey, RotateKey};
use cellar_model::{ApiKey, KeyKind, KeyName, Scope, TierName};
use clap::{Args, Subcommand, ValueEnum};
use std::future::Future;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a change waits for an answer that is known: each repeat is harmless.
const ATTEMPTS_MAX: u32 = 5;
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const IN_FORCE: &str = "every process follows within 2 s; one that cannot reach the directory once it can";

#[derive(Subcommand)]
pub(crate) enum ServiceCommand {
    /// Make a key
    Create {
        name: KeyName,
        /// What it may do: quota, users, or both
        #[arg(long, required = true, value_delimiter = ',', num_args = 1..)]
        scopes: Vec<ScopeArgument>,
        /// Sign up user ids that nobody has, at their first check, in this tier
        #[arg(long, value_name = "TIER")]
        auto_enrol: Option<TierName>,
        #[command(flatten)]
        out: OutArguments,
    },
    #[command(flatten)]
    Any(AnyCommand),
}

#[derive(Subcommand)]
pub(crate) enum OperatorCommand {
    /// Make a key
    Create {
        name: KeyName,
        #[command(flatten)]
        out: OutArguments,
    },
    #[command(flatten)]
    Any(AnyCommand),
}

#[derive(Subcommand)]
pub(crate) enum AnyCommand {
    /// All of them, revoked ones too; no key is shown, for none is kept
    List {
        #[arg(long)]
        json: bool,
    },
    /// Give a key another text. The one it has counts as well, until `revoke --old`
    Rotate {
        name: KeyName,
        #[command(flatten)]
        out: OutArguments,
    },
    /// Take a key out of force, for good
    Revoke {
        name: KeyName,
        /// The text from before the rotation, and not the key
        #[arg(long)]
        old: bool,
        /// Even if it is the key that this command shows
        #[arg(long)]
        own: bool,
        #[arg(long)]
        json: bool,
    },
}

pub(crate) enum Command {
    Create { name: KeyName, scopes: Vec<Scope>, auto_enrol: Option<TierName>, out: OutArguments },
    Any(AnyCommand),
}

#[derive(Args)]
pub(crate) struct OutArguments {
    /// A new file for the key, which only its owner may read; without it the key is printed, this once
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ScopeArgument {
    Quota,
    Users,
}

impl From<OperatorCommand> for Command {
    fn from(command: OperatorCommand) -> Self {
        match command {
            OperatorCommand::Create { name, out } => {
                Command::Create { name, scopes: Vec::new(), auto_enrol: None, out }
            }
            OperatorCommand::Any(command) => Command::Any(command),
        }
    }
}

impl From<ServiceCommand> for Command {
    fn from(command: ServiceCommand) -> Self {
        match command {
            ServiceCommand::Create { name, scopes, auto_enrol, out } => {
                let scope = |scope: &ScopeArgument| match scope {
                    ScopeArgument::Quota => Scope::Quota,
                    ScopeArgument::Users => Scope::Users,
                };
                Command::Create { name, scopes: scopes.iter().map(scope).collect(), auto_enrol, out }
            }
            ServiceCommand::Any(command) => Command::Any(command),
        }
    }
}

pub(super) async fn service(folder: &Path, command: ServiceCommand) -> anyhow::Result<()> {
    run(folder, KeyKind::Service, command.into()).await
}

pub(super) async fn run(folder: &Path, kind: KeyKind, command: Command) -> anyhow::Result<()> {
    let target = Target::find(folder)?;
    match command {
        Command::Create { name, scopes, auto_enrol, out } => {
            let drawn = Drawn::new(kind, &out)?;
            let key = NewKey { kind, hash: drawn.key.hash(), scopes, auto_enrol };
            let entry = drawn.settle(known(|| target.admin.create_key(&name, &key)).await)?;
            drawn.hand_over(&entry, &out)
        }
        Command::Any(AnyCommand::List { json }) => list(&target, kind, json).await,
        Command::Any(AnyCommand::Rotate { name, out }) => rotate(&target, folder, kind, &name, &out).await,
        Command::Any(AnyCommand::Revoke { name, old, own, json }) => {
            let held = one(&target, kind, &name).await?;
            ensure!(
                old || own || !held.yours,
                "{name} is the key that this command shows: with --own, the next command needs another"
            );
            let what = RevokeKey { old_only: old };
            let entry = known(|| target.admin.revoke_key(&name, &what)).await?;
            if json {
                println!("{}", serde_json::to_string(&entry)?);
            } else {
                println!(
                    "{} is revoked: {IN_FORCE}",
                    if old { format!("the old text of {name}") } else { name.to_string() }
                );
            }
            Ok(())
        }
    }
}

async fn list(target: &Target, kind: KeyKind, json: bool) -> anyhow::Result<()> {
    let mut keys = target.admin.keys().await?;
    keys.retain(|key| key.kind == kind);
    keys.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    if json {
        println!("{}", serde_json::to_string(&keys)?);
        return Ok(());
    }
    let header = ["name", "state", "fingerprint", "old", "scopes", "enrols"].map(str::to_owned).to_vec();
    let row = |key: &KeyEntry| {
        let state = match (key.revoked, &key.old) {
            (true, _) => "revoked",
            (false, Some(_)) => "rotating",
            (false, None) => "in force",
        };
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| word(*scope)).collect();
        let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            key.name.to_string(),
            state.to_owned(),
            key.fingerprint.clone(),
            or(key.old.clone()),
            scopes.join(","),
            or(key.auto_enrol.as_ref().map(TierName::to_string)),
        ]
    };
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(keys.iter().map(row)).collect();
    let mut text = String::new();
    write_table(&mut text, &rows)?;
    print!("{text}");
    Ok(())
}

async fn rotate(
    target: &Target,
    folder: &Path,
    kind: KeyKind,
    name: &KeyName,
    out: &OutArguments,
) -> anyhow::Result<()> {
    let held = one(target, kind, name).await?;
    let drawn = Drawn::new(kind, out)?;
    let new = RotateKey { hash: drawn.key.hash() };
    let entry = drawn.settle(known(|| target.admin.rotate_key(name, &new)).await)?;
    // The one that this stack's commands show.
    if let Some(state) = &target.local
        && let (Some(service_key), Some(operator_key)) = (state.service_key.clone(), state.operator_key.clone())
    {
        let is_held = |text: &str| ApiKey::parse(text).is_ok_and(|key| key.hash().fingerprint() == held.fingerprint);
        let new = drawn.key.reveal().to_owned();
        let keys = match (is_held(&service_key), is_held(&operator_key)) {
            (true, _) => Some(Keys { service_key: new, operator_key }),
            (_, true) => Some(Keys { service_key, operator_key: new }),
            _ => None,
        };
        if let Some(keys) = keys {
            Stack::open(folder)?.keep_keys(keys).await?;
        }
    }
    drawn.hand_over(&entry, out)?;
    if !out.json {
        println!("the text from before counts as well, until `cellctl keys {} revoke {name} --old`", noun(kind));
    }
    Ok(())
}

async fn one(target: &Target, kind: KeyKind, name: &KeyName) -> anyhow::Result<KeyEntry> {
    let keys = target.admin.keys().await?;
    let found = keys.into_iter().find(|key| key.name == *name && key.kind == kind);
    found.with_context(|| format!("there is no {} key {name}: `cellctl keys {0} list` shows them", noun(kind)))
}

/// Repeats a change until it is known whether it was made.
async fn known<F: Future<Output = Result<KeyEntry, ClientError>>>(
    change: impl Fn() -> F,
) -> Result<KeyEntry, ClientError> {
    for _ in 1..ATTEMPTS_MAX {
        match change().await {
            Err(error) if error.is_unknown() => tokio::time::sleep(AGAIN_AFTER).await,
            answer => return answer,
        }
    }
    change().await
}

/// A key that nobody has heard of yet.
struct Drawn {
    key: ApiKey,
    file: Option<PathBuf>,
}

impl Drawn {
    fn new(kind: KeyKind, out: &OutArguments) -> anyhow::Result<Self> {
        let key = new_key(kind);
        if let Some(file) = &out.out {
            let made = std::fs::File::options().create_new(true).write(true).mode(0o600).open(file);
            let written = made.and_then(|mut made| {
                writeln!(made, "{}", key.reveal())?;
                made.sync_all()
            });
            written.with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(Self { key, file: out.out.clone() })
    }

    /// What came of it. A file with a key that is certainly none goes again.
    fn settle(&self, answer: Result<KeyEntry, ClientError>) -> anyhow::Result<KeyEntry> {
        let error = match answer {
            Ok(entry) => return Ok(entry),
            Err(error) => error,
        };
        if !error.is_unknown() {
            if let Some(file) = &self.file {
                let _ = std::fs::remove_file(file);
            }
            if let ClientError::Refused(problem) = &error {
                bail!("{}", said(problem));
            }
            return Err(error.into());
        }
        let fingerprint = self.key.hash().fingerprint();
        Err(error).with_context(|| format!("it is not known whether the key {fingerprint} is in force: list shows it"))
    }

    fn hand_over(&self, entry: &KeyEntry, out: &OutArguments) -> anyhow::Result<()> {
        let shown = self.file.is_none().then(|| self.key.reveal());
        if out.json {
            let mut document = serde_json::to_value(entry)?;
            if let Some(key) = shown {
                document["key"] = key.into();
            }
            if let Some(file) = &self.file {
                document["file"] = file.display().to_string().into();
            }
            println!("{document}");
            return Ok(());
        }
        match (&self.file, shown) {
            (Some(file), _) => println!("{} {} is in {}", noun(entry.kind), entry.name, file.display()),
            (None, Some(key)) => println!("{key}"),
            (None, None) => {}
        }
        eprintln!("fingerprint {}; {IN_FORCE}", entry.fingerprint);
        Ok(())
    }
}

fn said(problem: &ProblemBody) -> String {
    let errors = problem.errors.iter().map(|error| format!("\n  {}: {}", error.pointer, error.message));
    let detail = problem.detail.clone().unwrap_or_else(|| problem.title.clone());
    format!("{detail}{}", errors.collect::<String>())
}

fn noun(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Service => "service",
        KeyKind::Operator => "operator",
    }
}

fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Quota => "quota",
        Scope::Users => "users",
        Scope::Admin => "admin",
    }
}
