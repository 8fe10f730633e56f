//! The stores of tests in containers, so that the same suites run on the images that operators use.
//!
//! `CELLAR_TEST_STORES=containers` has `Redis`, `QuotaRedis` and `Postgres` run so instead of as installed programs.
//! Such a container has the machine's network, our user and one folder of ours, so that ports, URLs and files are
//! what they are without it. It is killed, paused and waited for by its main process, as any other server: the
//! engine has to run on this machine.

use crate::StackError;
use crate::process::{Identity, Launch, on_path};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const STORES: &str = "CELLAR_TEST_STORES";
/// The images and the variables that name others.
const REDIS: (&str, &str) = ("CELLAR_REDIS_IMAGE", "redis:7");
const POSTGRES: (&str, &str) = ("CELLAR_POSTGRES_IMAGE", "postgres:16");
/// Of a container whose image is here.
const BEGIN_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
const CID_FILE: &str = "--cidfile";

/// An image that is here.
pub(crate) struct Image {
    docker: PathBuf,
    name: String,
    id: String,
}

/// That of Redis, if stores are to run in containers.
pub(crate) fn redis() -> Result<Option<&'static Image>, StackError> {
    static FOUND: OnceLock<Option<Result<Image, String>>> = OnceLock::new();
    found(&FOUND, REDIS)
}

/// The same of Postgres.
pub(crate) fn postgres() -> Result<Option<&'static Image>, StackError> {
    static FOUND: OnceLock<Option<Result<Image, String>>> = OnceLock::new();
    found(&FOUND, POSTGRES)
}

fn found(
    at: &'static OnceLock<Option<Result<Image, String>>>,
    (variable, usual): (&str, &str),
) -> Result<Option<&'static Image>, StackError> {
    let found = at.get_or_init(|| {
        let docker = wanted()?;
        let name = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
        Some(Image::find(docker.clone(), name))
    });
    let found = found.as_ref().map(|found| found.as_ref().map_err(|cause| failed(cause.clone())));
    found.transpose()
}

/// The command line of the engine, if containers are asked for. Where there is no engine it is said, once, and
/// processes do.
fn wanted() -> Option<&'static PathBuf> {
    static DOCKER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let docker = DOCKER.get_or_init(|| {
        std::env::var_os(STORES).filter(|stores| stores == "containers")?;
        let docker = on_path("docker").filter(|docker| said(docker, &["version"]).is_ok());
        if docker.is_none() {
            eprintln!("{STORES}=containers, but no Docker engine answers: the stores run as processes");
        }
        docker
    });
    docker.as_ref()
}

fn failed(cause: String) -> StackError {
    StackError::Step { step: "running a container", cause }
}

/// What a command prints, or what it says is wrong.
fn said(docker: &Path, words: &[&str]) -> Result<String, String> {
    let output = Command::new(docker).args(words).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Image {
    /// As it is here, or can be had.
    fn find(docker: PathBuf, name: String) -> Result<Self, String> {
        let id = || said(&docker, &["image", "inspect", "--format", "{{.Id}}", &name]);
        let id = id().or_else(|_| said(&docker, &["pull", "--quiet", &name]).and_then(|_| id()));
        let id = id.map_err(|cause| format!("{name}: {cause} (`make images` makes images of Redis and Postgres)"))?;
        Ok(Self { docker, id, name })
    }

    /// A name for what depends on exactly this image.
    pub(crate) fn mark(&self) -> String {
        self.id.trim_start_matches("sha256:").chars().take(12).collect()
    }

    /// A server from the image, which can be killed and waited for.
    pub(crate) fn contain_server(&self, launch: &Launch, folder: &Path) -> Result<Launch, StackError> {
        let mut contained = self.contain(launch, folder)?;
        let id = [CID_FILE.to_owned(), folder.join("container-id").display().to_string()];
        contained.arguments.splice(1..1, id);
        Ok(contained)
    }

    /// The same program from the image, on the same `folder`.
    pub(crate) fn contain(&self, launch: &Launch, folder: &Path) -> Result<Launch, StackError> {
        let program = launch.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = folder.display();
        let mut arguments: Vec<String> =
            ["run", "--rm", "--interactive", "--network", "host", "--user"].map(str::to_owned).into();
        arguments.extend([
            user(launch.user.as_deref())?,
            "--volume".into(),
            format!("{folder}:{folder}"),
            // Postgres wants its user to have a name.
            "--volume".into(),
            "/etc/passwd:/etc/passwd:ro".into(),
            "--entrypoint".into(),
            program,
            self.name.clone(),
        ]);
        arguments.extend(launch.arguments.iter().cloned());
        // The command line itself is ours to run.
        Ok(Launch { program: self.docker.clone(), arguments, user: None, ..launch.clone() })
    }
}

/// As numbers: the image has users of its own.
fn user(name: Option<&str>) -> Result<String, StackError> {
    let Some(name) = name else {
        return Ok(format!("{}:{}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()));
    };
    let number = |of: &str| said(Path::new("id"), &[of, name]).map_err(failed);
    Ok(format!("{}:{}", number("-u")?, number("-g")?))
}

/// The file that a launch writes its container's id to, if it is one.
pub(crate) fn cid_file(launch: &Launch) -> Option<PathBuf> {
    let at = launch.arguments.iter().position(|word| word == CID_FILE)?;
    launch.arguments.get(at + 1).map(PathBuf::from)
}

/// The main process of the container that `starter` begins; what `starter` printed is the error if it ends instead.
pub(crate) fn main_process(
    launch: &Launch,
    cid_file: &Path,
    name: &str,
    starter: Identity,
) -> Result<Identity, StackError> {
    let until = Instant::now() + BEGIN_MAX;
    loop {
        let begun = std::fs::read_to_string(cid_file).ok().filter(|id| !id.is_empty()).and_then(|id| {
            let pid = said(&launch.program, &["inspect", "--format", "{{.State.Pid}}", &id]).ok()?;
            Some((id, pid.parse::<i32>().ok().filter(|pid| *pid > 0)?))
        });
        if let Some((id, pid)) = begun
            && let Some(life) = Identity::of(pid)
        {
            // An engine on another machine, or in a machine of its own, names processes that are not ours.
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            if groups.contains(&id) {
                return Ok(life);
            }
            if life.is_alive() {
                starter.kill9_now();
                return Err(failed(format!("{name}: the engine's processes are not this machine's")));
            }
        }
        if !starter.is_alive() {
            return Err(StackError::Died { name: name.to_owned(), tail: launch.log_tail() });
        }
        if Instant::now() > until {
            starter.kill9_now();
            let (seconds, tail) = (BEGIN_MAX.as_secs(), launch.log_tail());
            return Err(StackError::NotReady { name: name.to_owned(), seconds, tail });
        }
        std::thread::sleep(POLL);
    }
}
