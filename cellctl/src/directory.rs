//! `cellctl directory`: the store that remembers every user's home.

mod audit;
mod peppers;
mod rows;

pub(crate) use audit::disagreements;

use crate::stack::{self, Filled, GivenKeys};
use anyhow::Context;
use cellar_artifacts::SigningKey;
use cellar_devstack::{DirectoryShape, Stack};
use cellar_directory::{OpenDirectory, Replicas};
use cellar_model::{Secret, Topology};
use clap::Subcommand;
use peppers::PeppersCommand;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A directory of ScyllaDB is one of CQL: the scheme says to people what stands there.
const SCYLLA: &str = "scylla://";
const CQL: &str = "cql://";
/// Of a cluster that is named without one.
const KEYSPACE: &str = "cellar";

#[derive(Subcommand)]
pub(crate) enum DirectoryCommand {
    /// Make its tables, or bring them up to date; run again, it changes nothing
    Migrate {
        /// A file that holds its URL, as routers and cells have it; the local stack's, if it is not said
        #[arg(long, value_name = "FILE")]
        url_file: Option<PathBuf>,
        /// Copies of every row by datacenter, such as eu=3,us=3,witness=1. Needed by a CQL cluster whose
        /// keyspace is not there yet
        #[arg(long)]
        replicas: Option<Replicas>,
        #[arg(long)]
        json: bool,
    },
    /// Put in force what a fresh directory begins with: a topology, two keys, the built-in policies, three tiers
    ///
    /// Makes its tables first. A directory that has a topology already is left as it is, but that versions of
    /// policies which nobody has signed are signed.
    Fill {
        /// A file that holds its URL, as routers and cells have it
        #[arg(long, value_name = "FILE")]
        url_file: PathBuf,
        /// Regions and cells, as JSON
        #[arg(long, value_name = "FILE")]
        topology: PathBuf,
        /// Copies of every row by datacenter, as for `migrate`
        #[arg(long)]
        replicas: Option<Replicas>,
        #[command(flatten)]
        keys: GivenKeys,
        #[command(flatten)]
        signer: SignerArguments,
    },
    /// Sign every version of a policy in it that nobody has signed: of a directory from before policies were signed
    Sign {
        /// A file that holds its URL; the local stack's, if it is not said
        #[arg(long, value_name = "FILE")]
        url_file: Option<PathBuf>,
        #[command(flatten)]
        signer: SignerArguments,
    },
    /// Compare the directory with every cell: homes, claims of e-mails, forwards
    ///
    /// Holds all rows in memory, some 500 bytes a user. Ends with 0 if they agree, 1 if not, 2 if they could
    /// not be compared.
    Audit {
        #[arg(long)]
        json: bool,
    },
    /// Show under which peppers e-mails are claimed, and whether the old line may be dropped
    ///
    /// Reads all rows as `audit` does.
    #[command(args_conflicts_with_subcommands = true)]
    Peppers {
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        command: Option<PeppersCommand>,
    },
}

pub(crate) async fn run(folder: &Path, command: DirectoryCommand) -> anyhow::Result<ExitCode> {
    match command {
        DirectoryCommand::Migrate { url_file, replicas, json } => {
            migrate(folder, url_file, replicas, json).await.map(|()| ExitCode::SUCCESS)
        }
        DirectoryCommand::Fill { url_file, topology, replicas, keys, signer } => {
            fill(&url_file, &topology, replicas, &keys, &signer).await.map(|()| ExitCode::SUCCESS)
        }
        DirectoryCommand::Sign { url_file, signer } => {
            sign(folder, url_file, &signer).await.map(|()| ExitCode::SUCCESS)
        }
        DirectoryCommand::Audit { json } => audit::run(folder, json).await,
        DirectoryCommand::Peppers { command: Some(command), .. } => {
            peppers::run(folder, command).await.map(|()| ExitCode::SUCCESS)
        }
        DirectoryCommand::Peppers { command: None, json } => {
            peppers::show(folder, json).await.map(|()| ExitCode::SUCCESS)
        }
    }
}

async fn migrate(
    folder: &Path,
    url_file: Option<PathBuf>,
    replicas: Option<Replicas>,
    json: bool,
) -> anyhow::Result<()> {
    let (url, held) = store_url(folder, url_file)?;
    let replicas = replicas.or(held).unwrap_or_default();
    let migrated = OpenDirectory::migrate(&url, &replicas).await?;
    if json {
        let document = serde_json::json!({
            "version": migrated.version, "applied": migrated.applied, "replicas": migrated.replicas,
        });
        println!("{document}");
    } else {
        println!("{migrated}");
    }
    Ok(())
}

/// Who signs policies as they are put in force, and where cells are told to trust it.
#[derive(Debug, clap::Args)]
pub(crate) struct SignerArguments {
    /// A file with the key that signs the policies. If there is no such file, a key is drawn into it
    #[arg(long, value_name = "FILE", env = "CELLAR_POLICY_KEY_FILE")]
    policy_key_file: PathBuf,
    /// The cells' policy_keys_file, which is to trust it; made if it is not there
    #[arg(long, value_name = "FILE")]
    policy_keys_file: Option<PathBuf>,
}

impl SignerArguments {
    fn key(&self) -> anyhow::Result<SigningKey> {
        stack::own_key(&self.policy_key_file)
    }

    /// After everything is signed: whoever waits for the file finds policies that it trusts.
    fn trust(&self, key: &SigningKey) -> anyhow::Result<()> {
        self.policy_keys_file.as_deref().map_or(Ok(()), |file| stack::trust_own(file, key))
    }
}

async fn sign(folder: &Path, url_file: Option<PathBuf>, signer: &SignerArguments) -> anyhow::Result<()> {
    let (url, _) = store_url(folder, url_file)?;
    let key = signer.key()?;
    let directory = OpenDirectory::connect(&url, 1).await?;
    let signed = stack::sign_unsigned(&directory, &key).await?;
    signer.trust(&key)?;
    println!("signed {signed} versions with key {}", key.public().id());
    Ok(())
}

async fn fill(
    url_file: &Path,
    topology: &Path,
    replicas: Option<Replicas>,
    keys: &GivenKeys,
    signer: &SignerArguments,
) -> anyhow::Result<()> {
    let url = read_url(url_file)?;
    let text = std::fs::read(topology).with_context(|| format!("cannot read {}", topology.display()))?;
    let topology: Topology =
        serde_json::from_slice(&text).with_context(|| format!("{} is no topology", topology.display()))?;
    // Nobody could speak to a directory whose keys are in no file.
    let keys = keys.read()?.both().context("name the files of both keys: --service-key-file, --operator-key-file")?;
    let key = signer.key()?;
    match stack::fill(&url, &replicas.unwrap_or_default(), &topology, &keys, &key).await? {
        Filled::Now => println!("filled: topology revision {}", topology.revision.0),
        Filled::Before { signed: 0 } => println!("there is a topology already: nothing was changed"),
        Filled::Before { signed } => {
            println!(
                "there is a topology already: {signed} versions of policies were signed, and nothing else changed"
            );
        }
    }
    signer.trust(&key)
}

fn read_url(file: &Path) -> anyhow::Result<Secret> {
    let url = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Secret::new(url.trim().to_owned()))
}

/// The directory's URL, from a file or of the local stack, which also says how many copies it keeps.
fn store_url(folder: &Path, url_file: Option<PathBuf>) -> anyhow::Result<(Secret, Option<Replicas>)> {
    if let Some(file) = url_file {
        return Ok((read_url(&file)?, None));
    }
    let stack = Stack::open(folder)?;
    let state = stack.state();
    Ok((Secret::new(state.directory_url.clone()), Some(of_stack(&state.directory_replicas))))
}

/// A stack says how many copies where it made the cluster; in somebody else's it takes what suits.
pub(crate) fn of_stack(replicas: &std::collections::BTreeMap<String, u8>) -> Replicas {
    if replicas.is_empty() { Replicas::EveryDatacenter } else { Replicas::Of(replicas.clone()) }
}

/// What `--directory` says: `postgres`, `cassandra`, or the URL of a cluster that is there.
pub(crate) fn shape(text: &str) -> Result<DirectoryShape, String> {
    match text {
        "postgres" => return Ok(DirectoryShape::Postgres),
        "cassandra" => return Ok(DirectoryShape::Cassandra),
        _ => {}
    }
    let rest = text.strip_prefix(SCYLLA).or_else(|| text.strip_prefix(CQL));
    let rest = rest.ok_or("postgres, cassandra, or scylla://host:port of a cluster that is there")?;
    let (before, options) = rest.split_once('?').unwrap_or((rest, ""));
    let path = if before.contains('/') { before.to_owned() } else { format!("{before}/{KEYSPACE}") };
    let url = if options.is_empty() { format!("{CQL}{path}") } else { format!("{CQL}{path}?{options}") };
    // Read once here, so that a mistake is told before anything starts.
    OpenDirectory::lazy(&Secret::new(url.clone()), 1).map_err(|error| error.to_string())?;
    Ok(DirectoryShape::Elsewhere(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_by_its_kind_or_by_its_url() {
        assert_eq!(shape("cassandra"), Ok(DirectoryShape::Cassandra));
        let elsewhere = |url: &str| Ok(DirectoryShape::Elsewhere(url.to_owned()));
        assert_eq!(shape("scylla://10.0.0.1:9042"), elsewhere("cql://10.0.0.1:9042/cellar"));
        let full = "cql://me:secret@one,two/here?datacenter=eu";
        assert_eq!(shape(full), elsewhere(full));
        assert!(shape("mysql://host").is_err());
        assert!(shape("scylla://host/Here").is_err());
    }
}
