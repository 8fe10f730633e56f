//! What a stack begins with besides the built-in tiers: a file of tiers, users and preferences.
//!
//! Planting can be repeated, and cut short: what is there already stays as it is.

use crate::stack::{Progress, Target};
use anyhow::{Context, bail, ensure};
use cellar_client::{Admin, Client, ClientError};
use cellar_directory::Email;
use cellar_model::wire::SignUpBody;
use cellar_model::{RegionName, TierDocument, TierName, UserId};
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

const SEED_BYTES_MAX: u64 = 64 << 20;
const TIERS_MAX: usize = 100;
const USERS_MAX: usize = 100_000;
/// Sign-ups under way at once: passwords are hashed one after another anyway.
const AT_ONCE: usize = 16;
/// For an answer to be known, and for a cell to have seen a tier that was put in force before.
const PATIENCE: Duration = Duration::from_secs(20);
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Users between two words about them.
const SAY_EVERY: usize = 200;

/// A seed file whose form and tiers have been checked.
pub(crate) struct Seed {
    tiers: Vec<TierDocument>,
    users: Vec<SeedUser>,
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedFile {
    /// Tier files, from the folder of the seed file.
    #[serde(default)]
    tiers: Vec<PathBuf>,
    #[serde(default, rename = "user")]
    users: Vec<SeedUser>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedUser {
    email: String,
    user_id: Option<UserId>,
    name: Option<String>,
    password: Option<String>,
    tier: TierName,
    region: Option<RegionName>,
    #[serde(default)]
    preferences: Map<String, Value>,
}

impl Seed {
    /// Reads a seed file, JSON if its name ends so, else TOML.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let said = || format!("the seed {}", path.display());
        let bytes = std::fs::metadata(path).with_context(said)?.len();
        ensure!(bytes <= SEED_BYTES_MAX, "{}: a seed has at most {} MiB", said(), SEED_BYTES_MAX >> 20);
        let text = std::fs::read_to_string(path).with_context(said)?;
        let json = path.extension().is_some_and(|extension| extension == "json");
        let file: SeedFile = if json {
            serde_json::from_str(&text).with_context(said)?
        } else {
            toml::from_str(&text).with_context(said)?
        };
        ensure!(file.tiers.len() <= TIERS_MAX, "{}: at most {TIERS_MAX} tiers", said());
        ensure!(file.users.len() <= USERS_MAX, "{}: at most {USERS_MAX} users", said());
        each_once(&file.users).with_context(said)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let tiers = file.tiers.iter().map(|tier| {
            let tier = folder.join(tier);
            let text = std::fs::read_to_string(&tier).with_context(|| format!("the tier {}", tier.display()))?;
            TierDocument::from_toml(&text).with_context(|| format!("{} is no tier", tier.display()))
        });
        let tiers: Vec<TierDocument> = tiers.collect::<anyhow::Result<_>>()?;
        let mut names = HashSet::new();
        let doubled = tiers.iter().find(|tier| !names.insert(&tier.name));
        ensure!(doubled.is_none(), "{}: two of its tier files have one name", said());
        Ok(Self { tiers, users: file.users, path: path.to_owned() })
    }

    /// Whether each user's tier is among `held` or the seed's own.
    pub(crate) fn fits_tiers(&self, held: &[TierName]) -> anyhow::Result<()> {
        let names: Vec<&TierName> = held.iter().chain(self.tiers.iter().map(|tier| &tier.name)).collect();
        for (n, user) in (1..).zip(&self.users) {
            let known = || names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let (path, tier) = (self.path.display(), &user.tier);
            ensure!(names.contains(&tier), "{path}: user {n} is of tier {tier}, and there are {} only", known());
        }
        Ok(())
    }

    /// Puts the tiers in force and signs the users up.
    pub(crate) async fn plant(&self, folder: &Path, progress: &Progress) -> anyhow::Result<()> {
        let target = Target::find(folder)?;
        let doors = target.doors()?;
        let (_, door) = doors.first().context("the stack has no region")?;
        for tier in &self.tiers {
            self.tier(&target.admin, tier).await?;
        }
        let planting = self.users.iter().enumerate().map(|(n, user)| async move {
            let place = || format!("{}: user {}", self.path.display(), n + 1);
            user.sign_up(door).await.with_context(place)
        });
        let mut planting = std::pin::pin!(futures::stream::iter(planting).buffer_unordered(AT_ONCE));
        let (mut done, mut made) = (0, 0);
        while let Some(new) = planting.try_next().await? {
            (done, made) = (done + 1, made + usize::from(new));
            if done % SAY_EVERY == 0 {
                progress.say(&format!("signing up {done} of {} users", self.users.len()));
            }
        }
        let (tiers, users, held) = (self.tiers.len(), self.users.len(), self.users.len() - made);
        progress.say(&match held {
            0 => format!("seeded: {tiers} tiers, {users} users"),
            _ => format!("seeded: {tiers} tiers, {users} users; the e-mails of {held} belonged to other sign-ups"),
        });
        Ok(())
    }

    async fn tier(&self, admin: &Admin, tier: &TierDocument) -> anyhow::Result<()> {
        let change = admin.tier_change(tier).await?;
        if !change.problems.is_empty() {
            let problems: Vec<String> =
                change.problems.iter().map(|p| format!("  {}: {}", p.pointer, p.message)).collect();
            bail!("tier {} of {} cannot be put in force:\n{}", tier.name, self.path.display(), problems.join("\n"));
        }
        admin.put_tier(tier).await?;
        Ok(())
    }
}

/// Of two users with one e-mail or id, one would be left out.
fn each_once(users: &[SeedUser]) -> anyhow::Result<()> {
    let (mut emails, mut ids) = (HashMap::new(), HashMap::new());
    for (n, user) in (1..).zip(users) {
        let email = Email::parse(&user.email).with_context(|| format!("user {n}"))?;
        if let Some(first) = emails.insert(email.reveal().to_lowercase(), n) {
            bail!("users {first} and {n} have the same e-mail");
        }
        let first = user.user_id.as_ref().and_then(|id| ids.insert(id, n));
        ensure!(first.is_none(), "users {} and {n} have the same user_id", first.unwrap_or_default());
    }
    Ok(())
}

impl SeedUser {
    /// False if the e-mail belongs to somebody who was signed up otherwise.
    async fn sign_up(&self, door: &Client) -> anyhow::Result<bool> {
        let body = SignUpBody {
            email: self.email.clone(),
            name: self.name.clone(),
            password: self.password.clone(),
            tier: self.tier.clone(),
            region: self.region.clone(),
            user_id: self.user_id.clone(),
        };
        // Of what is asked, so that the same seed is the same sign-up.
        let key = format!("seed-{}", hex::encode(&Sha256::digest(serde_json::to_vec(&body)?)[..16]));
        let until = Instant::now() + PATIENCE;
        let user = loop {
            match door.sign_up(&body, Some(&key)).await {
                Ok(signed_up) => break signed_up.user_id,
                Err(ClientError::Refused(problem)) if problem.kind.ends_with("/email-taken") => return Ok(false),
                // Cells of a world read the catalog every two seconds.
                Err(error) if (error.is_unknown() || is_unknown_tier(&error)) && Instant::now() < until => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        // Who has some has been here before, and may have changed them since.
        if !self.preferences.is_empty() && door.preferences(&user).await?.is_empty() {
            door.patch_preferences(&user, &self.preferences).await?;
        }
        Ok(true)
    }
}

fn is_unknown_tier(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(problem) if problem.kind.ends_with("/unknown-tier"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> anyhow::Result<Seed> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("own.toml"), include_str!("../../examples/tiers/free.toml"))?;
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Seed::read(&path)
    }

    #[test]
    fn a_seed_is_toml_or_json() {
        let toml = "tiers = [\"own.toml\"]\n[[user]]\nemail = \"a@b\"\ntier = \"free\"\npreferences = { theme = \"dark\", size = 3 }\n";
        let seed = read("seed.toml", toml).unwrap();
        assert_eq!((seed.tiers.len(), seed.users.len()), (1, 1));
        assert_eq!(seed.users[0].preferences["size"], 3);
        let json = r#"{"user":[{"email":"a@b","tier":"free","user_id":"ada"}]}"#;
        assert_eq!(read("seed.json", json).unwrap().users[0].user_id.as_ref().unwrap().as_str(), "ada");
        assert!(read("seed.toml", "").unwrap().users.is_empty());
    }

    #[test]
    fn a_user_of_a_tier_that_is_not_there_is_named_before_anything_goes() {
        let seed =
            read("seed.json", r#"{"user":[{"email":"a@b","tier":"free"},{"email":"c@d","tier":"gold"}]}"#).unwrap();
        let tiers = ["free", "gold"].map(|name| TierName::new(name).unwrap());
        assert!(seed.fits_tiers(&tiers).is_ok());
        let error = seed.fits_tiers(&tiers[..1]).unwrap_err().to_string();
        assert!(error.contains("user 2 is of tier gold"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_seed_is_said_with_its_file() {
        for (text, said) in [
            ("[[user]]\nemail = \"a@b\"\n", "missing field `tier`"),
            ("[[users]]\n", "unknown field `users`"),
            ("tiers = [\"none.toml\"]\n", "none.toml"),
            ("tiers = [\"own.toml\", \"own.toml\"]\n", "two of its tier files have one name"),
            ("[[user]]\nemail = \"a\"\ntier = \"free\"\n", "user 1"),
            (
                "[[user]]\nemail = \"a@b\"\ntier = \"free\"\n[[user]]\nemail = \"A@b\"\ntier = \"pro\"\n",
                "users 1 and 2 have the same e-mail",
            ),
            (
                "[[user]]\nemail = \"a@b\"\ntier = \"free\"\nuser_id = \"u\"\n[[user]]\nemail = \"c@b\"\ntier = \"free\"\nuser_id = \"u\"\n",
                "users 1 and 2 have the same user_id",
            ),
            ("[[user]]\nemail = \"a@b\"\ntier = \"free\"\nuser_id = \"a b\"\n", "user"),
        ] {
            let error = format!("{:#}", read("seed.toml", text).err().unwrap());
            assert!(error.contains(said), "{error}");
        }
        assert!(Seed::read(Path::new("/nowhere/seed.toml")).is_err());
    }
}
