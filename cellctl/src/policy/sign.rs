//! `policy sign`, `policy verify`: an author's word on a component, and whether it counts.

use super::Component;
use super::key_files::{KeyFile, KeysFile};
use super::place::Place;
use anyhow::{Context, ensure};
use cellar_artifacts::{Bundle, Certificate};
use cellar_model::{CERTIFICATE_BYTES_MAX, CertificateSummary, Digest, VersionNumber};
use cellar_policy_host::{Host, HostLimits};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Nobody could say whether the signature counts.
const NOT_SAID: u8 = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct SignArguments {
    #[command(flatten)]
    component: Component,
    #[command(flatten)]
    key: KeyFile,
    /// The version it is published under; the one it says of itself, if it is not said
    #[arg(long)]
    version: Option<VersionNumber>,
    /// The report of `certify --out`, signed with it; COMPONENT.cert, if that is there
    #[arg(long, value_name = "FILE.json")]
    certificate: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArguments {
    /// A folder or oci://host/repository:tag, instead of a component with its signature beside it
    #[arg(value_name = "FROM")]
    place: Option<Place>,
    #[command(flatten)]
    component: Component,
    #[command(flatten)]
    keys: KeysFile,
    #[arg(long)]
    json: bool,
}

pub(super) fn sign(stack: &Path, arguments: &SignArguments) -> anyhow::Result<()> {
    let artifact = arguments.component.read()?;
    let policy = Host::new(HostLimits::default())?.load(&artifact).with_context(|| arguments.component.to_string())?;
    let description = policy.description();
    let version = match arguments.version {
        Some(version) => version,
        None => description.version.parse().context("the version that the component says of itself")?,
    };
    let digest = Digest::of(&artifact);
    let certificate = read_certificate(arguments, &digest)?;
    let key = arguments.key.read(stack)?;
    let signature = key.sign(&description.name, version, &digest, certificate.as_deref().map(Digest::of).as_ref());
    let bundle = Bundle::new(artifact, signature, certificate)?;
    bundle.write_beside(arguments.component.path())?;
    let file = Bundle::signature_file(arguments.component.path());
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(bundle.signature())?);
        return Ok(());
    }
    println!("{} {version} is signed by key {}: {}", description.name, key.public().id(), file.display());
    if let Some(certificate) = bundle.certified() {
        println!("its certificate: {}", in_words(&certificate.summary()));
    }
    Ok(())
}

fn read_certificate(arguments: &SignArguments, digest: &Digest) -> anyhow::Result<Option<Vec<u8>>> {
    let file = match &arguments.certificate {
        Some(file) => file.clone(),
        None => Bundle::certificate_file(arguments.component.path()),
    };
    let size = match std::fs::metadata(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound && arguments.certificate.is_none() => return Ok(None),
        size => size.with_context(|| format!("cannot read {}", file.display()))?.len(),
    };
    ensure!(size <= CERTIFICATE_BYTES_MAX as u64, "{} has {size} bytes: it is no certificate", file.display());
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Certificate::read(&bytes, digest).with_context(|| file.display().to_string())?;
    Ok(Some(bytes))
}

/// Exit status 1 if the signature does not count, 2 if nobody could say.
pub(super) async fn verify(stack: &Path, arguments: &VerifyArguments) -> anyhow::Result<ExitCode> {
    let read = async {
        let trust = arguments.keys.read(stack)?;
        let bundle = match &arguments.place {
            Some(place) => place.read().await?,
            None => Bundle::read(arguments.component.path())?,
        };
        anyhow::Ok((trust, bundle))
    };
    let (trust, bundle) = match read.await {
        Ok(read) => read,
        Err(error) => {
            eprintln!("cellctl: it could not be verified: {error:#}");
            return Ok(ExitCode::from(NOT_SAID));
        }
    };
    let signature = bundle.signature();
    let judged = trust.verify(&signature.name, signature.version, &signature.digest, Some(signature));
    let summary = bundle.certified().map(|certificate| certificate.summary());
    if arguments.json {
        let (signer, refusal) = (judged.as_ref().ok().map(|key| &key.name), judged.as_ref().err());
        let document = serde_json::json!({
            "name": signature.name, "version": signature.version, "digest": signature.digest,
            "key": signature.key.id(), "signed_by": signer, "certificate": summary,
            "refused": refusal.map(|refusal| serde_json::json!({
                "rule": refusal.label(), "message": refusal.to_string(),
            })),
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        match &judged {
            Ok(key) => {
                println!("{} {} is signed by {} ({})", signature.name, signature.version, key.name, key.key.id());
                println!("{}", signature.digest);
                println!("its certificate: {}", summary.as_ref().map_or_else(|| "none".to_owned(), in_words));
            }
            Err(refusal) => eprintln!("{} {} is refused: {refusal}", signature.name, signature.version),
        }
    }
    Ok(if judged.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `11 properties hold in 500 cases each, 1 is waived (monotone-in-limit)`
pub(super) fn in_words(summary: &CertificateSummary) -> String {
    let mut said = vec![format!("{} properties hold in {} cases each", summary.held, summary.cases)];
    if !summary.waived.is_empty() {
        said.push(format!("waived: {}", summary.waived.join(" ")));
    }
    if !summary.broken.is_empty() {
        said.push(format!("BROKEN: {}", summary.broken.join(" ")));
    }
    said.join(", ")
}
