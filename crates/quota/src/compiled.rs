//! Settings of overrides, compiled once and kept: a check must not wait for a policy to parse JSON.

use cellar_model::BodyHash;
use cellar_policy_host::{ConfigureError, Fault, Policy};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Different settings a shard keeps compiled. Users with the same override share one entry; beyond
/// this many, the least used are compiled again, which takes a fraction of a millisecond.
const KEPT_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("is not zero");

/// By policy artifact and settings, the parameters; none: the policy refuses these settings.
pub(crate) struct CompiledSettings {
    kept: LruCache<BodyHash, Option<Arc<[u8]>>>,
}

impl Default for CompiledSettings {
    fn default() -> Self {
        Self { kept: LruCache::new(KEPT_MAX) }
    }
}

impl CompiledSettings {
    /// The parameters of settings that were fit when they were put in force. An artifact that refuses
    /// them now is at fault: deciding by other settings would be a silent fallback.
    pub(crate) fn get(&mut self, policy: &Policy, settings: &str) -> Result<Arc<[u8]>, Fault> {
        let refused = Fault::BadOutcome { what: "settings of an override that it refuses" };
        let key = key(policy, settings);
        if let Some(kept) = self.kept.get(&key) {
            return kept.clone().ok_or(refused);
        }
        match policy.configure(settings) {
            Ok(parameters) => {
                let parameters: Arc<[u8]> = parameters.into();
                self.kept.push(key, Some(parameters.clone()));
                Ok(parameters)
            }
            Err(ConfigureError::Fault(fault)) => Err(fault),
            Err(ConfigureError::Refused(_) | ConfigureError::TooLarge { .. }) => {
                self.kept.push(key, None);
                Err(refused)
            }
        }
    }

    /// Whether `policy` takes these settings; with all that is wrong with them.
    pub(crate) fn check(&mut self, policy: &Policy, settings: &str) -> Result<(), ConfigureError> {
        let parameters = policy.configure(settings)?;
        self.kept.push(key(policy, settings), Some(parameters.into()));
        Ok(())
    }
}

fn key(policy: &Policy, settings: &str) -> BodyHash {
    BodyHash::of(&[&policy.digest().0, settings.as_bytes()])
}
