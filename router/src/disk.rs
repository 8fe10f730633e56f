//! The data folder, and files in it that are read whole.

use anyhow::Context;
use std::path::Path;

/// The file's bytes; none if there is no such file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Makes the folder, and sees that it can be written to.
pub(crate) fn prepare(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    let probe = folder.join("writable");
    std::fs::write(&probe, b"").with_context(|| format!("the data folder {} is not writable", folder.display()))?;
    std::fs::remove_file(&probe).with_context(|| format!("the data folder {} is not writable", folder.display()))
}
