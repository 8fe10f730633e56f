//! A bundle as an OCI image: a manifest, and blobs that it names by digest. A folder or a registry keeps both.

use crate::bundle::{Bundle, BundleError};
use cellar_model::{ARTIFACT_BYTES_MAX, CERTIFICATE_BYTES_MAX, Digest, PolicySignature};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.cellar.policy.config.v1+json";
const COMPONENT: &str = "application/wasm";
const SIGNATURE: &str = "application/vnd.cellar.policy.signature.v1+json";
const CERTIFICATE: &str = "application/vnd.cellar.policy.certificate.v1+json";

/// What an image says of its policy to those who do not load it.
const TITLE: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";
const METADATA: &str = "cellar.policy.metadata";
const SETTINGS_SCHEMA: &str = "cellar.policy.settings-schema";

/// Of a manifest. What registries take at most is 4 MiB; a policy's has some 3 KiB, most of it the settings schema.
pub const MANIFEST_BYTES_MAX: usize = 128 * 1024;
/// Of the layer with the signature, which has some 500 bytes.
pub const SIGNATURE_BYTES_MAX: usize = 8 * 1024;
/// Three are known. Whoever adds others to an image adds a few.
const LAYERS_MAX: usize = 32;

/// A blob by what it is and how it is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

/// What is to be written or pushed: the blobs, then the manifest, which names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub manifest: Vec<u8>,
    pub blobs: Vec<Blob>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The layers of an image that make a bundle. Others are nobody's here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    pub component: Descriptor,
    pub signature: Descriptor,
    pub certificate: Option<Descriptor>,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("a manifest has at most {MANIFEST_BYTES_MAX} bytes, and this one {bytes}")]
    ManifestTooLarge { bytes: usize },
    #[error("it is no manifest of an image")]
    Odd(#[source] serde_json::Error),
    #[error("it is no policy: {0}")]
    Foreign(String),
    #[error("a layer of {media_type} has {bytes} bytes; at most {bytes_max} are read")]
    LayerTooLarge { media_type: String, bytes: u64, bytes_max: usize },
    #[error("blob {digest} has {bytes} bytes instead of {expected}: it is cut short or another")]
    OtherSize { digest: Digest, bytes: usize, expected: u64 },
    #[error("blob {digest} is damaged or forged: its bytes are {found}")]
    OtherDigest { digest: Digest, found: Digest },
    #[error("its signature is no signature of a policy")]
    OddSignature(#[source] serde_json::Error),
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Packs a bundle. `metadata` is what the component says of itself. The same bundle gives the same image.
pub fn pack(bundle: &Bundle, metadata: &str) -> Result<Image, ImageError> {
    let signature = bundle.signature();
    let config = serde_json::json!({
        "name": signature.name, "version": signature.version, "component": signature.digest,
    });
    let mut blobs = Vec::new();
    let mut add = |media_type: &str, bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        let descriptor = Descriptor { media_type: media_type.to_owned(), digest, size: bytes.len() as u64 };
        blobs.push(Blob { digest, bytes });
        descriptor
    };
    let config = add(CONFIG, config.to_string().into_bytes());
    let mut layers = vec![add(COMPONENT, bundle.component().to_vec()), add(SIGNATURE, bundle.signature_text())];
    layers.extend(bundle.certificate().map(|bytes| add(CERTIFICATE, bytes.to_vec())));
    let manifest = Manifest {
        schema_version: 2,
        media_type: IMAGE_MANIFEST.to_owned(),
        artifact_type: Some(CONFIG.to_owned()),
        config,
        layers,
        annotations: annotations(signature, metadata)?,
    };
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(ImageError::Odd)?;
    if manifest.len() > MANIFEST_BYTES_MAX {
        return Err(ImageError::ManifestTooLarge { bytes: manifest.len() });
    }
    Ok(Image { manifest, blobs })
}

fn annotations(signature: &PolicySignature, metadata: &str) -> Result<BTreeMap<String, String>, ImageError> {
    let mut said: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(metadata).map_err(ImageError::Odd)?;
    let schema = said.remove("settings_schema").unwrap_or_default();
    let annotations = [
        (TITLE, signature.name.to_string()),
        (VERSION, signature.version.to_string()),
        (METADATA, serde_json::Value::from(said).to_string()),
        (SETTINGS_SCHEMA, schema.to_string()),
    ];
    Ok(annotations.map(|(name, value)| (name.to_owned(), value)).into())
}

impl Parts {
    /// Which layers of a manifest are to be had, each within its bound.
    pub fn of(manifest: &[u8]) -> Result<Self, ImageError> {
        if manifest.len() > MANIFEST_BYTES_MAX {
            return Err(ImageError::ManifestTooLarge { bytes: manifest.len() });
        }
        let manifest: Manifest = serde_json::from_slice(manifest).map_err(ImageError::Odd)?;
        let foreign = |what: String| Err(ImageError::Foreign(what));
        if manifest.schema_version != 2 || manifest.media_type != IMAGE_MANIFEST {
            return foreign(format!("its manifest is of type {}", manifest.media_type));
        }
        if manifest.layers.len() > LAYERS_MAX {
            return foreign(format!("it has {} layers", manifest.layers.len()));
        }
        let only = |media_type: &str, bytes_max: usize| -> Result<Option<Descriptor>, ImageError> {
            let mut found = manifest.layers.iter().filter(|layer| layer.media_type == media_type);
            let first = found.next();
            if found.next().is_some() {
                return Err(ImageError::Foreign(format!("it has several layers of {media_type}")));
            }
            if let Some(Descriptor { size, .. }) = first.filter(|layer| layer.size > bytes_max as u64) {
                return Err(ImageError::LayerTooLarge { media_type: media_type.to_owned(), bytes: *size, bytes_max });
            }
            Ok(first.cloned())
        };
        let component = only(COMPONENT, ARTIFACT_BYTES_MAX)?;
        let signature = only(SIGNATURE, SIGNATURE_BYTES_MAX)?;
        let Some(component) = component else { return foreign(format!("it has no layer of {COMPONENT}")) };
        let Some(signature) = signature else {
            return foreign(format!("it is not signed: it has no layer of {SIGNATURE}"));
        };
        Ok(Self { component, signature, certificate: only(CERTIFICATE, CERTIFICATE_BYTES_MAX)? })
    }

    /// The bundle of these parts' bytes, each of them checked by `Descriptor::check` before.
    pub fn assemble(component: Vec<u8>, signature: &[u8], certificate: Option<Vec<u8>>) -> Result<Bundle, ImageError> {
        let signature = serde_json::from_slice(signature).map_err(ImageError::OddSignature)?;
        Ok(Bundle::new(component, signature, certificate)?)
    }
}

impl Descriptor {
    /// Whether these are the bytes that are meant.
    pub fn check(&self, bytes: &[u8]) -> Result<(), ImageError> {
        let (digest, expected) = (self.digest, self.size);
        if bytes.len() as u64 != expected {
            return Err(ImageError::OtherSize { digest, bytes: bytes.len(), expected });
        }
        let found = Digest::of(bytes);
        if found != digest {
            return Err(ImageError::OtherDigest { digest, found });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::bundle;

    const SAID: &str = r#"{"name":"acme-bucket","unit":"tokens","settings_schema":{"type":"object"}}"#;

    fn changed(manifest: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Result<Parts, ImageError> {
        let mut document = serde_json::from_slice(manifest).unwrap();
        change(&mut document);
        Parts::of(&serde_json::to_vec(&document).unwrap())
    }

    #[test]
    fn an_image_says_what_its_policy_is_and_is_the_same_each_time() {
        let bundle = bundle(true);
        let image = pack(&bundle, SAID).unwrap();
        assert_eq!(pack(&bundle, SAID).unwrap(), image);
        let manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
        assert_eq!(manifest["annotations"][TITLE], "acme-bucket");
        assert_eq!(manifest["annotations"][VERSION], "1.4.2");
        assert_eq!(manifest["annotations"][SETTINGS_SCHEMA], r#"{"type":"object"}"#);
        assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
        assert_eq!(image.blobs.len(), 4);
    }

    #[test]
    fn a_manifest_is_read_strictly_and_layers_of_others_are_let_be() {
        let image = pack(&bundle(true), SAID).unwrap();
        let parts = Parts::of(&image.manifest).unwrap();
        assert!(parts.certificate.is_some());
        let other = serde_json::json!({ "mediaType": "text/plain", "digest": Digest([0; 32]), "size": 1u64 << 40 });
        let more = changed(&image.manifest, |it| it["layers"].as_array_mut().unwrap().push(other.clone()));
        assert_eq!(more.unwrap(), parts);

        let said = |change: &dyn Fn(&mut serde_json::Value)| changed(&image.manifest, change).unwrap_err().to_string();
        assert!(said(&|it| it["schemaVersion"] = 1.into()).contains("no policy"));
        assert!(said(&|it| it["mediaType"] = "application/vnd.oci.image.index.v1+json".into()).contains("index"));
        assert!(said(&|it| it["layers"][1]["mediaType"] = "text/plain".into()).contains("not signed"));
        assert!(
            said(&|it| it["layers"][0]["mediaType"] = "text/plain".into()).contains("no layer of application/wasm")
        );
        assert!(said(&|it| it["layers"][1]["mediaType"] = COMPONENT.into()).contains("several"));
        assert!(said(&|it| it["layers"][0]["size"] = (1u64 << 40).into()).contains("at most"));
        assert!(said(&|it| it["layers"][0]["digest"] = "md5:00".into()).contains("no manifest"));
        assert!(said(&|it| it["layers"] = vec![other.clone(); 40].into()).contains("40 layers"));
        assert!(Parts::of(b"").is_err() && Parts::of(&vec![b' '; MANIFEST_BYTES_MAX + 1]).is_err());
    }
}
