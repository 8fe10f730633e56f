//! Keys that a stack or a directory begins with, each in a file of its own.

use super::bootstrap::new_key;
use anyhow::{Context, ensure};
use cellar_devstack::{Keys, StackState};
use cellar_model::{ApiKey, KeyKind};
use clap::Args;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(crate) struct GivenKeys {
    /// A file with the service key (csk_…) to begin with. If there is no such file, a key is drawn into it
    #[arg(long, value_name = "FILE", env = "CELLAR_SERVICE_KEY_FILE")]
    service_key_file: Option<PathBuf>,
    /// The same for the operator key (cok_…)
    #[arg(long, value_name = "FILE", env = "CELLAR_OPERATOR_KEY_FILE")]
    operator_key_file: Option<PathBuf>,
}

/// Those that files were named for.
#[derive(Default)]
pub(crate) struct KeysGiven {
    service_key: Option<ApiKey>,
    operator_key: Option<ApiKey>,
}

impl GivenKeys {
    pub(crate) fn read(&self) -> anyhow::Result<KeysGiven> {
        let read = |file: &Option<PathBuf>, kind| file.as_deref().map(|file| read_or_draw(file, kind)).transpose();
        Ok(KeysGiven {
            service_key: read(&self.service_key_file, KeyKind::Service)?,
            operator_key: read(&self.operator_key_file, KeyKind::Operator)?,
        })
    }
}

impl KeysGiven {
    /// With a drawn one in the place of what was not given.
    pub(crate) fn complete(&self) -> Keys {
        let text = |given: &Option<ApiKey>, kind| match given {
            Some(key) => key.reveal().to_owned(),
            None => new_key(kind).reveal().to_owned(),
        };
        Keys {
            service_key: text(&self.service_key, KeyKind::Service),
            operator_key: text(&self.operator_key, KeyKind::Operator),
        }
    }

    /// Both, if both were given.
    pub(crate) fn both(&self) -> Option<Keys> {
        (self.service_key.is_some() && self.operator_key.is_some()).then(|| self.complete())
    }

    /// A stack that has been filled keeps its keys: others would be believed in and not be true.
    pub(crate) fn must_be_of(&self, state: &StackState) -> anyhow::Result<()> {
        for (given, held) in [(&self.service_key, &state.service_key), (&self.operator_key, &state.operator_key)] {
            if let (Some(given), Some(held)) = (given, held) {
                let kind = word(given.kind());
                ensure!(given.reveal() == held || state.world.ephemeral, "the stack that is here has another {kind}");
            }
        }
        Ok(())
    }
}

fn read_or_draw(file: &Path, kind: KeyKind) -> anyhow::Result<ApiKey> {
    match std::fs::read_to_string(file) {
        Ok(text) => {
            // What is in the file stays out of the error.
            let key = ApiKey::parse(text.trim()).ok().filter(|key| key.kind() == kind);
            key.with_context(|| format!("{} holds no {}", file.display(), word(kind)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = new_key(kind);
            let made = std::fs::File::options().create_new(true).write(true).mode(0o600).open(file);
            let written = made.and_then(|mut made| writeln!(made, "{}", key.reveal()));
            written.with_context(|| format!("cannot write {}", file.display()))?;
            eprintln!("a new {} is in {}", word(kind), file.display());
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn word(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Service => "service key",
        KeyKind::Operator => "operator key",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a key is drawn once and found again, is its owner's only, and another kind is not taken for it.
    #[test]
    fn a_key_is_drawn_into_a_file_that_is_not_there() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let drawn = read_or_draw(&file, KeyKind::Service).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_draw(&file, KeyKind::Service).unwrap().reveal(), drawn.reveal());
        let refused = format!("{:#}", read_or_draw(&file, KeyKind::Operator).unwrap_err());
        assert!(refused.contains("no operator key") && !refused.contains(drawn.reveal()), "{refused}");
    }
}
