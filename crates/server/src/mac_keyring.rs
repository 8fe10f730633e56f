//! The MAC keys of session tokens as their file has them now.

use crate::config::read_secret;
use cellar_model::MacKeys;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How often the file is looked at. Whoever rotates keys waits for every process, so it may be seldom.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Clones are the same, and see the same file.
#[derive(Clone, Debug)]
pub struct MacKeyring(Arc<RwLock<Arc<MacKeys>>>);

impl From<MacKeys> for MacKeyring {
    fn from(keys: MacKeys) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(keys))))
    }
}

impl MacKeyring {
    /// The keys of this moment. Whoever signs or verifies does it by one set from beginning to end.
    pub fn now(&self) -> Arc<MacKeys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on by what `file` says, from the next look on, for as long as the process lives. A file that cannot be
    /// read, or holds something else, changes nothing: tokens that are alive stay so.
    pub fn follow(&self, file: PathBuf) {
        let keyring = self.clone();
        tokio::spawn(async move {
            let mut unfit = false;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let looked = file.clone();
                let read = tokio::task::spawn_blocking(move || read_secret(&looked)).await;
                let keys = read.ok().and_then(Result::ok).and_then(|text| MacKeys::from_text(text.reveal()).ok());
                let Some(keys) = keys else {
                    if !std::mem::replace(&mut unfit, true) {
                        tracing::warn!(file = %file.display(), "no session keys can be read there; keeping those held");
                    }
                    continue;
                };
                unfit = false;
                keyring.replace(keys);
            }
        });
    }

    fn replace(&self, keys: MacKeys) {
        let (held, new) = (self.now().fingerprints(), keys.fingerprints());
        if held == new {
            return;
        }
        tracing::info!(current = new[0], other = new.get(1), "the session keys have been rotated");
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}
