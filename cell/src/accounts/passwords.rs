//! Passwords: argon2id on the blocking pool, few at a time, and a short queue.

use super::{AccountsError, brought_hash};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use cellar_model::Secret;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// 19 MiB, two passes, one lane: the usual recommendation for interactive log-in.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashed at once: each takes a core and 19 MiB for some 20 ms.
const RUNNING_MAX: usize = 2;
/// Running and waiting. A longer queue would answer after its callers have gone.
const ADMITTED_MAX: usize = 64;
/// Longer than anyone types, and short enough to cost nothing to hash.
pub(super) const PASSWORD_BYTES_MAX: usize = 1_024;
pub(super) const PASSWORD_CHARS_MIN: usize = 8;

pub(super) struct Passwords {
    admitted: Semaphore,
    running: Arc<Semaphore>,
    /// What a password is compared with where there is nobody, or nobody with a password.
    nobody: Arc<str>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self {
            admitted: Semaphore::new(ADMITTED_MAX),
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            nobody: hash_now("nobody").into(),
        }
    }

    pub(super) async fn hash(&self, password: Secret) -> Result<String, AccountsError> {
        self.on_blocking_pool(move || hash_now(password.reveal())).await
    }

    /// Whether it is the password. Without a hash the answer is no, in the same time.
    pub(super) async fn verify(&self, password: Secret, hash: Option<String>) -> Result<bool, AccountsError> {
        let known = hash.is_some();
        let hash = hash.map_or_else(|| Arc::clone(&self.nobody), Arc::from);
        let matches = self.on_blocking_pool(move || brought_hash::matches(password.reveal().as_bytes(), &hash)).await?;
        Ok(matches && known)
    }

    async fn on_blocking_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AccountsError> {
        let _admitted = self.admitted.try_acquire().map_err(|_| AccountsError::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        let running = running.map_err(|_| AccountsError::Busy)?;
        // The permit goes with the work: a caller who left does not let another start beside it.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(running);
            done
        });
        done.await.map_err(|_| AccountsError::Busy)
    }
}

/// Whether it was made by other means than those of today, and is replaced when its password is known.
pub(super) fn is_outdated(hash: &str) -> bool {
    !hash.starts_with(&format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"))
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants above are within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash_now(password: &str) -> String {
    let hash: PasswordHash = argon2()
        .hash_password(password.as_bytes())
        .expect("the system gives random numbers, and argon2 takes any password");
    hash.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_hash_only() {
        let passwords = Passwords::new();
        let hash = passwords.hash(secret("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let verify = |text: &str, hash: Option<&String>| passwords.verify(secret(text), hash.cloned());
        assert!(verify("correct horse", Some(&hash)).await.unwrap());
        assert!(!verify("battery staple", Some(&hash)).await.unwrap());
        assert!(!verify("nobody", None).await.unwrap(), "nobody has no password");
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_at_once() {
        let passwords = Passwords::new();
        let _all = passwords.admitted.acquire_many(ADMITTED_MAX as u32).await.unwrap();
        let refused = passwords.hash(secret("x")).await;
        assert!(matches!(refused, Err(AccountsError::Busy)));
    }
}
