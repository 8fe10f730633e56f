//! Cassandra's packages and the Java to run them: found, or fetched once by Maven.

use crate::StackError;
use crate::folders::cache_folder;
use crate::process::{Gently, Launch, on_path};
use std::fs::File;
use std::path::{Path, PathBuf};

const POM: &str = include_str!("../../cassandra/pom.xml");
const VERSION: &str = "5.0.2";
/// One of the packages, by which whole ones are known; it also has to be named to Java.
const AGENT: &str = "jamm-0.4.0.jar";
/// What Cassandra 5.0 runs on.
const JAVA_VERSIONS: [u32; 2] = [17, 11];

/// The folder of the packages, fetched or not.
pub(crate) fn folder() -> PathBuf {
    cache_folder().join(format!("cassandra-{VERSION}"))
}

pub(crate) fn agent() -> PathBuf {
    folder().join(AGENT)
}

pub(crate) fn are_here() -> bool {
    agent().is_file()
}

/// For those who say what they are about to do.
pub(crate) fn what_is_fetched() -> String {
    format!("fetching Apache Cassandra {VERSION} by Maven into {}: 64 MB, once", folder().display())
}

/// Fetches them if they are not here. They are made beside and renamed, by one process at a time.
pub(crate) fn fetch() -> Result<(), StackError> {
    if are_here() {
        return Ok(());
    }
    let maven = on_path("mvn").ok_or(StackError::NotInstalledForCassandra { program: "Maven" })?;
    let cache = cache_folder();
    std::fs::create_dir_all(&cache).map_err(StackError::folder(&cache))?;
    let path = cache.join("cassandra.lock");
    let lock = File::options().create(true).append(true).open(&path).map_err(StackError::folder(&path))?;
    lock.lock().map_err(StackError::folder(&path))?;
    if are_here() {
        return Ok(());
    }
    let beside =
        tempfile::Builder::new().prefix("cassandra-").tempdir_in(&cache).map_err(StackError::folder(&cache))?;
    let (pom, packages) = (beside.path().join("pom.xml"), beside.path().join("packages"));
    std::fs::write(&pom, POM).map_err(StackError::folder(&pom))?;
    let output = format!("-DoutputDirectory={}", packages.display());
    let pom = pom.display().to_string();
    let words = ["-B", "-q", "-f", &pom, "dependency:copy-dependencies", "-DincludeScope=runtime", &output];
    let arguments = words.map(str::to_owned).into();
    let maven = Launch { program: maven, arguments, user: None, log: PathBuf::new(), stop: Gently::Term };
    maven.run("fetching Cassandra by Maven (it needs a Maven repository: see ~/.m2/settings.xml)", "")?;
    std::fs::rename(&packages, folder()).map_err(StackError::folder(folder()))
}

/// A Java that Cassandra runs on: where the packages of Linux put them, `JAVA_HOME`, the path.
pub(crate) fn java() -> Result<PathBuf, StackError> {
    let packaged = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|entry| entry.path());
    let named = std::env::var_os("JAVA_HOME").map(PathBuf::from);
    let first = on_path("java").and_then(|java| java.canonicalize().ok());
    let first = first.and_then(|java| Some(java.parent()?.parent()?.to_owned()));
    let homes: Vec<PathBuf> = named.into_iter().chain(first).chain(packaged).collect();
    let fits = |wanted: u32| homes.iter().find(|home| version(home) == Some(wanted) && home.join("bin/java").is_file());
    let home = JAVA_VERSIONS.into_iter().find_map(fits);
    home.map(|home| home.join("bin/java")).ok_or(StackError::NotInstalledForCassandra { program: "Java 17 or 11" })
}

/// As the `release` file of a Java's folder has it: `JAVA_VERSION="17.0.15"`.
fn version(home: &Path) -> Option<u32> {
    let release = std::fs::read_to_string(home.join("release")).ok()?;
    let line = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=\""))?;
    line.split(['.', '"']).next()?.parse().ok()
}
