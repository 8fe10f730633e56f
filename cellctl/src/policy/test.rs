//! `policy test`: a policy's own tests, natively, and then whether its component is the same policy.

use super::build::{PolicyCrate, build_one};
use super::c_policy::CPolicy;
use super::toolchain::NO_CARGO;
use super::{BUILT, Component};
use anyhow::{Context, bail, ensure};
use cellar_policy_host::{Host, HostLimits, Operation, Outcome, Request, Stores};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The variable by which the SDK's `property_tests!` is told where to write what the native code answers.
const COMPARISON_FOLDER: &str = "CELLAR_POLICY_COMPARISON";
/// Files of one run: a policy has a few settings that it is tested under.
const FILES_MAX: usize = 64;
/// Differences that are shown.
const SHOWN_MAX: usize = 3;
/// It could not be said whether the tests pass.
const COULD_NOT_SAY: u8 = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct TestArguments {
    /// The policy's folder
    #[arg(default_value = ".", value_name = "PATH")]
    folder: PathBuf,
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &TestArguments) -> anyhow::Result<ExitCode> {
    if CPolicy::find(&arguments.folder)?.is_some() {
        bail!("a policy in C has no native tests to run; `cellctl policy certify` tests its component");
    }
    let package = PolicyCrate::read(&arguments.folder)?;
    // Whether it compiles is asked apart: a test that fails and one that does not compile end Cargo alike.
    if !cargo_test(&package).arg("--no-run").status().context(NO_CARGO)?.success() {
        eprintln!("{}: its tests do not compile", package.name);
        return Ok(ExitCode::from(COULD_NOT_SAY));
    }
    let told = Told::folder(&package)?;
    let passed = cargo_test(&package).env(COMPARISON_FOLDER, &told.0).status().context(NO_CARGO)?.success();
    let compared = if passed { Some(compare(&arguments.folder, &told)?) } else { None };
    let same = compared.as_ref().is_some_and(|compared| compared.differing == 0);
    if arguments.json {
        let compared = compared.as_ref().map(
            |compared| serde_json::json!({ "calls": compared.calls, "differing": compared.differing, "first": compared.first }),
        );
        let said = serde_json::json!({ "name": package.name, "native_tests": passed, "component": compared });
        println!("{}", serde_json::to_string_pretty(&said)?);
    } else {
        println!("{}", summary(&package.name, compared.as_ref()));
    }
    Ok(if passed && same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Its output is not the answer of `--json`, so it goes where progress goes.
fn cargo_test(package: &PolicyCrate) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet", "--manifest-path"]).arg(&package.manifest);
    cargo.stdin(Stdio::null()).stdout(std::io::stderr());
    cargo
}

fn summary(name: &str, compared: Option<&Compared>) -> String {
    match compared {
        None => format!("{name}: its own tests fail"),
        Some(Compared { calls: 0, .. }) => format!(
            "{name}: its own tests pass; the component was built and not compared with the native code: no test \
             says `cellar_policy_sdk::property_tests!`, which draws the histories"
        ),
        Some(Compared { calls, differing: 0, .. }) => {
            format!("{name}: its own tests pass, and the component answers {calls} calls as the native code does")
        }
        Some(Compared { calls, differing, first }) => format!(
            "{name}: its own tests pass, but the component answers {differing} of {calls} calls otherwise:\n{}",
            first.join("\n")
        ),
    }
}

/// Where the native code's answers are written, gone on drop.
struct Told(PathBuf);

impl Told {
    fn folder(package: &PolicyCrate) -> anyhow::Result<Self> {
        let folder = package.target_directory.join(format!("comparison-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // A folder that stays is in `target`, and read by nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Compared {
    calls: u64,
    differing: u64,
    first: Vec<String>,
}

fn compare(folder: &Path, told: &Told) -> anyhow::Result<Compared> {
    build_one(folder, None)?;
    let artifact = Component { component: folder.join(BUILT) }.read()?;
    // A fault is a difference like any other, and the next call is asked all the same: no breaker.
    let host = Host::new(HostLimits { breaker_faults: u32::MAX, ..HostLimits::default() })?;
    let policy = host.load(&artifact)?;
    let mut stores = Stores::new(&host);
    let mut compared = Compared::default();
    let mut files = fs::read_dir(&told.0)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(files.len() <= FILES_MAX, "more than {FILES_MAX} settings are compared");
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let mut configured: Option<(String, Vec<u8>)> = None;
        for line in BufReader::new(File::open(file.path())?).lines() {
            let call: Call =
                serde_json::from_str(&line?).context("the SDK wrote a line that this cellctl cannot read")?;
            let parameters = match &configured {
                Some((settings, parameters)) if *settings == call.settings => parameters.clone(),
                _ => policy.configure(&call.settings)?,
            };
            if parameters != bytes(&call.parameters)? {
                bail!("the component makes other parameters of {}", call.settings);
            }
            let state = bytes(&call.state)?;
            let answered = stores.decide(&policy, &parameters, &state, &call.request.request());
            configured = Some((call.settings, parameters));
            compared.calls += 1;
            let native = call.outcome.outcome()?;
            if answered.as_ref() == Ok(&native) {
                continue;
            }
            compared.differing += 1;
            if compared.first.len() < SHOWN_MAX {
                let asked = serde_json::to_string(&call.request)?;
                compared.first.push(format!("  {asked}\n    native    {native:?}\n    component {answered:?}"));
            }
        }
    }
    Ok(compared)
}

fn bytes(hexadecimal: &str) -> anyhow::Result<Vec<u8>> {
    hex::decode(hexadecimal).context("the SDK wrote bytes that this cellctl cannot read")
}

/// A line as the SDK's `testing::comparison` writes it.
#[derive(Deserialize)]
struct Call {
    settings: String,
    parameters: String,
    state: String,
    request: Asked,
    outcome: Answered,
}

#[derive(Deserialize, serde::Serialize)]
struct Asked {
    operation: super::replay::OperationName,
    now_us: u64,
    cost: u64,
    held: u64,
    held_at_us: u64,
}

#[derive(Deserialize)]
struct Answered {
    admitted: bool,
    state: Option<String>,
    limit: u64,
    remaining: u64,
    retry_after_us: u64,
    reset_after_us: u64,
    note: u32,
}

impl Asked {
    fn request(&self) -> Request<'static> {
        let Self { operation, now_us, cost, held, held_at_us } = *self;
        Request { operation: Operation::from(operation), now_us, cost, held, held_at_us, attributes: &[] }
    }
}

impl Answered {
    fn outcome(self) -> anyhow::Result<Outcome> {
        Ok(Outcome {
            admitted: self.admitted,
            state: self.state.as_deref().map(bytes).transpose()?,
            limit: self.limit,
            remaining: self.remaining,
            retry_after_us: self.retry_after_us,
            reset_after_us: self.reset_after_us,
            note: self.note,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_whether_anything_was_compared() {
        let compared = |calls, differing| Compared { calls, differing, first: vec!["  a call".into()] };
        assert!(summary("x", None).contains("fail"));
        assert!(summary("x", Some(&compared(0, 0))).contains("not compared"));
        assert!(summary("x", Some(&compared(30, 0))).contains("answers 30 calls as the native code does"));
        let differs = summary("x", Some(&compared(30, 2)));
        assert!(differs.contains("2 of 30") && differs.ends_with("  a call"), "{differs}");
    }
}
