//! `policy publish`, `policy pull`: a signed policy to where it is kept or decides, and from there.

use super::Component;
use super::key_files::KeysFile;
use super::place::Place;
use super::sign::in_words;
use crate::stack::Target;
use anyhow::{Context, bail, ensure};
use cellar_artifacts::{Bundle, pack};
use cellar_model::{Base64, PolicyName, PolicyUpload, VersionNumber};
use cellar_policy_host::{Host, HostLimits, Policy};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(crate) struct PublishArguments {
    #[command(flatten)]
    component: Component,
    /// A new folder, or oci://host/repository:tag, instead of the Cellar's catalog
    #[arg(long, value_name = "DIR|oci://…")]
    to: Option<Place>,
    /// Although its certificate says that a property is broken
    #[arg(long)]
    uncertified: bool,
    /// Although tiers that name its major could not go back to what decides now
    #[arg(long, conflicts_with = "to")]
    without_way_back: bool,
    /// Without a signature, into a Cellar whose cells have require_signatures = false
    #[arg(long, conflicts_with = "to")]
    unsigned: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PullArguments {
    /// A folder, or oci://host/repository:tag (or @sha256:…)
    #[arg(value_name = "FROM")]
    place: Place,
    /// Where the component goes, its signature and certificate beside it
    #[arg(long, value_name = "FILE", default_value = "target/policy.wasm")]
    out: PathBuf,
    #[command(flatten)]
    keys: KeysFile,
    #[arg(long)]
    json: bool,
}

pub(super) async fn publish(stack: &Path, arguments: PublishArguments) -> anyhow::Result<ExitCode> {
    if arguments.unsigned {
        return publish_unsigned(stack, &arguments).await.map(|()| ExitCode::SUCCESS);
    }
    let path = arguments.component.path().to_owned();
    let (bundle, policy) = tokio::task::spawn_blocking(move || {
        let bundle = Bundle::read(&path)?;
        let policy = load(bundle.component()).with_context(|| path.display().to_string())?;
        anyhow::Ok((bundle, policy))
    })
    .await??;
    let signature = bundle.signature();
    let summary = bundle.certified().map(|certificate| certificate.summary());
    if let Some(broken) = summary.as_ref().filter(|summary| !summary.broken.is_empty()) {
        ensure!(
            arguments.uncertified,
            "its certificate says {}: mend it, or say --uncertified to publish it all the same",
            in_words(broken)
        );
        eprintln!("published although its certificate says {}", in_words(broken));
    }
    ensure!(
        policy.description().name == signature.name,
        "the component calls itself {}, and the signature is for {}: sign it again",
        policy.description().name,
        signature.name
    );
    let place = match &arguments.to {
        Some(place) => {
            place.write(&pack(&bundle, policy.metadata())?).await?;
            place.to_string()
        }
        None => {
            let certificate = bundle.certificate().map(|bytes| String::from_utf8(bytes.to_vec())).transpose()?;
            let upload = PolicyUpload {
                artifact: Base64(bundle.component().to_vec()),
                signature: Some(signature.clone()),
                certificate,
            };
            put(stack, &arguments, (&signature.name, signature.version), &upload).await?;
            "the catalog".to_owned()
        }
    };
    if arguments.json {
        let document = serde_json::json!({
            "name": signature.name, "version": signature.version, "digest": signature.digest,
            "key": signature.key.id(), "certificate": summary, "to": arguments.to.as_ref().map(Place::to_string),
        });
        println!("{document}");
    } else {
        println!("{} {}, signed by key {}, is in {place}", signature.name, signature.version, signature.key.id());
    }
    Ok(ExitCode::SUCCESS)
}

async fn publish_unsigned(stack: &Path, arguments: &PublishArguments) -> anyhow::Result<()> {
    let artifact = arguments.component.read()?;
    let policy = load(&artifact).with_context(|| arguments.component.to_string())?;
    let (name, version) = (policy.description().name.clone(), policy.description().version.parse()?);
    let upload = PolicyUpload { artifact: Base64(artifact), signature: None, certificate: None };
    put(stack, arguments, (&name, version), &upload).await?;
    if arguments.json {
        println!("{}", serde_json::json!({ "name": name, "version": version, "digest": policy.digest().to_string() }));
    } else {
        println!("{name} {version} is in the catalog, and nobody has signed it");
    }
    Ok(())
}

/// Into the catalog of a Cellar, whose cells have to agree.
async fn put(
    stack: &Path,
    arguments: &PublishArguments,
    (name, version): (&PolicyName, VersionNumber),
    upload: &PolicyUpload,
) -> anyhow::Result<()> {
    let admin = Target::find(stack)?.admin;
    let put = match arguments.without_way_back {
        true => admin.put_policy_without_way_back(name, version, upload).await?,
        false => admin.put_policy(name, version, upload).await?,
    };
    put.silent.iter().for_each(|cell| eprintln!("published without asking everyone: {cell}"));
    Ok(())
}

fn load(component: &[u8]) -> anyhow::Result<Arc<Policy>> {
    Ok(Host::new(HostLimits::default())?.load(component)?)
}

/// Nothing is written unless somebody trusted has signed it.
pub(super) async fn pull(stack: &Path, arguments: PullArguments) -> anyhow::Result<ExitCode> {
    let trust = arguments.keys.read(stack)?;
    let bundle = arguments.place.read().await?;
    let signature = bundle.signature().clone();
    let judged = trust.verify(&signature.name, signature.version, &signature.digest, Some(&signature));
    let signer = match judged {
        Ok(key) => key.clone(),
        Err(refusal) => {
            bail!("{} {} from {} is refused: {refusal}", signature.name, signature.version, arguments.place)
        }
    };
    let summary = bundle.certified().map(|certificate| certificate.summary());
    let out = arguments.out.clone();
    tokio::task::spawn_blocking(move || bundle.write(&out)).await??;
    if arguments.json {
        let document = serde_json::json!({
            "name": signature.name, "version": signature.version, "digest": signature.digest,
            "key": signature.key.id(), "signed_by": signer.name, "certificate": summary, "out": arguments.out,
        });
        println!("{document}");
    } else {
        let (name, version, out) = (&signature.name, signature.version, arguments.out.display());
        println!("{name} {version}, signed by {} ({}), is in {out}", signer.name, signer.key.id());
        println!("its certificate: {}", summary.as_ref().map_or_else(|| "none".to_owned(), in_words));
    }
    Ok(ExitCode::SUCCESS)
}
