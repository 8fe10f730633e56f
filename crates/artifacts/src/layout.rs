//! An image in a folder: an OCI image layout of one policy.

use crate::bundle::Bundle;
use crate::files::read_bounded;
use crate::image::{Blob, Descriptor, IMAGE_MANIFEST, Image, ImageError, MANIFEST_BYTES_MAX, Parts};
use cellar_model::Digest;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Of `oci-layout`, which has 30 bytes.
const MARKER_BYTES_MAX: usize = 1024;
const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";
const LAYOUT_VERSION: &str = "1.0.0";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    manifests: Vec<Descriptor>,
}

#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("{} cannot be read or written", .path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} is there and not empty: name a folder that is not there yet", .0.display())]
    Taken(PathBuf),
    #[error("{} is no OCI image layout of one policy: {what}", .folder.display())]
    Foreign { folder: PathBuf, what: String },
    #[error("{}", .folder.display())]
    Image {
        folder: PathBuf,
        #[source]
        cause: ImageError,
    },
}

/// Writes an image into a folder that is not there yet, whole or not at all.
pub fn write_layout(folder: &Path, image: &Image) -> Result<(), LayoutError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| LayoutError::File { path, cause }
    };
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(LayoutError::Taken(folder.to_owned()));
    }
    let folder = std::path::absolute(folder).map_err(failed(folder))?;
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = folder.with_file_name(name);
    let written = fill(&beside, image).and_then(|()| std::fs::rename(&beside, &folder));
    if written.is_err() {
        let _ = std::fs::remove_dir_all(&beside);
    }
    written.map_err(failed(&folder))
}

fn fill(folder: &Path, image: &Image) -> io::Result<()> {
    let blobs = folder.join("blobs").join("sha256");
    std::fs::create_dir_all(&blobs)?;
    let manifest = Blob { digest: Digest::of(&image.manifest), bytes: image.manifest.clone() };
    for blob in image.blobs.iter().chain([&manifest]) {
        write(&blobs.join(hex::encode(blob.digest.0)), &blob.bytes)?;
    }
    let size = manifest.bytes.len() as u64;
    let index = Index {
        schema_version: 2,
        media_type: Some("application/vnd.oci.image.index.v1+json".to_owned()),
        manifests: vec![Descriptor { media_type: IMAGE_MANIFEST.to_owned(), digest: manifest.digest, size }],
    };
    write(&folder.join(INDEX), &serde_json::to_vec_pretty(&index)?)?;
    let marker = Marker { image_layout_version: LAYOUT_VERSION.to_owned() };
    write(&folder.join(MARKER), &serde_json::to_vec(&marker)?)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()
}

/// Reads the one policy of a layout: every size within its bound, every blob what its name says.
pub fn read_layout(folder: &Path) -> Result<Bundle, LayoutError> {
    let foreign = |what: &str| LayoutError::Foreign { folder: folder.to_owned(), what: what.to_owned() };
    let of_image = |cause: ImageError| LayoutError::Image { folder: folder.to_owned(), cause };
    let marker: Marker = document(folder, MARKER, MARKER_BYTES_MAX)?;
    if marker.image_layout_version != LAYOUT_VERSION {
        return Err(foreign(&format!("its layout is of version {:?}", marker.image_layout_version)));
    }
    let index: Index = document(folder, INDEX, MANIFEST_BYTES_MAX)?;
    let [descriptor] = &index.manifests[..] else {
        return Err(foreign(&format!("its index names {} images", index.manifests.len())));
    };
    if descriptor.media_type != IMAGE_MANIFEST {
        return Err(foreign(&format!("its index names a {}", descriptor.media_type)));
    }
    let parts = Parts::of(&blob(folder, descriptor, MANIFEST_BYTES_MAX)?).map_err(of_image)?;
    // `Parts::of` has looked at every size.
    let part = |descriptor: &Descriptor| blob(folder, descriptor, usize::try_from(descriptor.size).unwrap_or(0));
    let certificate = parts.certificate.as_ref().map(part).transpose()?;
    Parts::assemble(part(&parts.component)?, &part(&parts.signature)?, certificate).map_err(of_image)
}

fn document<T: serde::de::DeserializeOwned>(folder: &Path, name: &str, bytes_max: usize) -> Result<T, LayoutError> {
    let path = folder.join(name);
    let text = read_bounded(&path, bytes_max).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => {
            LayoutError::Foreign { folder: folder.to_owned(), what: format!("it has no {name}") }
        }
        _ => LayoutError::File { path, cause },
    })?;
    let foreign = |error: serde_json::Error| LayoutError::Foreign {
        folder: folder.to_owned(),
        what: format!("{name} is not what it should be: {error}"),
    };
    serde_json::from_slice(&text).map_err(foreign)
}

fn blob(folder: &Path, descriptor: &Descriptor, bytes_max: usize) -> Result<Vec<u8>, LayoutError> {
    let path = folder.join("blobs").join("sha256").join(hex::encode(descriptor.digest.0));
    let bytes = read_bounded(&path, bytes_max).map_err(|cause| LayoutError::File { path, cause })?;
    descriptor.check(&bytes).map_err(|cause| LayoutError::Image { folder: folder.to_owned(), cause })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::bundle;
    use crate::image::pack;

    const SAID: &str = r#"{"name":"acme-bucket","settings_schema":{}}"#;

    fn blobs(folder: &Path) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(folder.join("blobs/sha256")).unwrap();
        listed.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_layout_is_read_back_and_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        for certified in [true, false] {
            let (bundle, place) = (bundle(certified), folder.path().join(format!("deep/{certified}")));
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            write_layout(&place, &pack(&bundle, SAID).unwrap()).unwrap();
            assert_eq!(read_layout(&place).unwrap(), bundle);
            let again = write_layout(&place, &pack(&bundle, SAID).unwrap());
            assert!(matches!(again, Err(LayoutError::Taken(_))));
        }
        // Nothing is left beside.
        assert_eq!(std::fs::read_dir(folder.path().join("deep")).unwrap().count(), 2);
        assert!(matches!(read_layout(folder.path()), Err(LayoutError::Foreign { .. })));
    }

    /// Goal: a layout whose files have one byte less, one more, or one that is another is refused, whichever it is.
    #[test]
    fn a_truncated_or_changed_blob_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("image");
        write_layout(&place, &pack(&bundle(true), SAID).unwrap()).unwrap();
        let config = blobs(&place).into_iter().find(|path| std::fs::read(path).unwrap().starts_with(b"{\"component\""));
        for path in blobs(&place).into_iter().filter(|path| Some(path) != config.as_ref()) {
            let good = std::fs::read(&path).unwrap();
            let mut other = good.clone();
            other[0] ^= 1;
            for bad in [&good[..good.len() - 1], &[&good[..], b" "].concat(), &other, b""] {
                std::fs::write(&path, bad).unwrap();
                assert!(read_layout(&place).is_err(), "{}: {} bytes", path.display(), bad.len());
            }
            std::fs::remove_file(&path).unwrap();
            assert!(matches!(read_layout(&place), Err(LayoutError::File { .. })));
            std::fs::write(&path, good).unwrap();
        }
        read_layout(&place).unwrap();
        for (name, bad) in [(MARKER, "{}"), (MARKER, "{\"imageLayoutVersion\":\"2\"}"), (INDEX, "{}"), (INDEX, "[")] {
            let good = std::fs::read(place.join(name)).unwrap();
            std::fs::write(place.join(name), bad).unwrap();
            assert!(matches!(read_layout(&place), Err(LayoutError::Foreign { .. })), "{name} {bad}");
            std::fs::write(place.join(name), good).unwrap();
        }
    }
}
