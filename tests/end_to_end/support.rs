//! A stack of a test's own, and clients of it.

use cellar_artifacts::SigningKey;
use cellar_client::{Admin, Client, ClientError, Consume, Credential, Decision};
use cellar_devstack::{Cellctl, Stack};
use cellar_model::wire::{ConsumeBody, SignUpBody, SignedUp};
use cellar_model::{Amount, Base64, Cost, Digest, PolicyName, PolicyUpload, TierDocument, Unit, UserId, VersionNumber};
use std::time::Duration;
use tokio::time::Instant;

/// 2023-11-14T22:13:20Z
pub const T0: u64 = 1_700_000_000_000_000;

pub struct World {
    pub cellctl: Cellctl,
    pub client: Client,
    pub admin: Admin,
    pub service_key: String,
    pub urls: Vec<String>,
}

impl World {
    /// One public cell in virtual time.
    pub fn cell() -> World {
        World::up(&["cell", "up", "--clock", "virtual"])
    }

    /// Two regions of one cell in virtual time.
    pub fn two_regions() -> World {
        World::up(&["up", "--regions", "2", "--cells", "1", "--clock", "virtual"])
    }

    pub fn up(arguments: &[&str]) -> World {
        World::of(Cellctl::up(arguments).unwrap())
    }

    /// The world that `cellctl` has started.
    pub fn of(cellctl: Cellctl) -> World {
        let status = cellctl.status().unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let regions = status["regions"].as_array().unwrap();
        let urls: Vec<String> = regions.iter().map(|region| text(&region["router_url"])).collect();
        let admin_urls: Vec<String> = regions.iter().map(|region| text(&region["admin_url"])).collect();
        let service_key = text(&status["service_key"]);
        let client = Client::new(urls.clone(), Credential::new(service_key.clone())).unwrap();
        let admin = Admin::new(admin_urls, Credential::new(text(&status["operator_key"]))).unwrap();
        World { cellctl, client, admin, service_key, urls }
    }

    /// Signs up a user, once the cell that is asked has the tier: each reads the catalog by itself.
    pub async fn user(&self, email: &str, tier: &str) -> UserId {
        sign_up(&self.client, email, tier).await.user_id
    }

    /// Adds a policy version to the catalog, signed with the stack's own key.
    pub async fn publish(&self, name: &PolicyName, version: VersionNumber, component: Vec<u8>) {
        self.admin.put_policy(name, version, &self.signed(name, version, component)).await.unwrap();
    }

    /// A policy version, signed with the stack's own key.
    pub fn signed(&self, name: &PolicyName, version: VersionNumber, component: Vec<u8>) -> PolicyUpload {
        let key_file = Stack::open(self.cellctl.stack()).unwrap().state().policy_key_file();
        let key = SigningKey::read(&key_file).unwrap();
        let signature = Some(key.sign(name, version, &Digest::of(&component), None));
        PolicyUpload { artifact: Base64(component), signature, certificate: None }
    }

    /// Puts a tier with one monthly bucket of `limit` tokens in force.
    pub async fn bucket_tier(&self, name: &str, limit: u64) {
        self.tier_of(name, "", limit).await;
    }

    /// The same with lines of its own before its policy.
    pub async fn tier_of(&self, name: &str, lines: &str, limit: u64) {
        let text = format!(
            "name = \"{name}\"\n{lines}[[policy]]\nslot = \"monthly\"\nuse = \"monthly-bucket@1\"\nunit = \"tokens\"\nsettings = {{ limit = {limit} }}\n"
        );
        self.tier(&text).await;
    }

    /// Puts a tier in force.
    pub async fn tier(&self, text: &str) {
        let tier = TierDocument::from_toml(text).unwrap();
        self.admin.put_tier(&tier).await.unwrap();
        let name = tier.name;
        // Cells read the catalog every two seconds; a sign-up is taken once the tier is there.
        let until = Instant::now() + Duration::from_secs(20);
        let mut n = 0;
        loop {
            let body = sign_up_body(&format!("probe-{name}-{n}@example.org"), name.as_str());
            match self.client.sign_up(&body, None).await {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < until, "the tier does not come into force: {error}"),
            }
            n += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The sums of a user's books once the ledger has caught up: (ledger, record, copy) of a unit.
    pub async fn books(&self, cell: Option<&str>, user: &UserId, unit: &str) -> (u64, u64, u64) {
        let cell = cell.map(|name| name.parse().unwrap());
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let page = self.admin.audit(cell.as_ref(), None).await;
            if let Ok(page) = page
                && page.undrained == 0
            {
                let books = page.users.iter().find(|one| one.user_id == *user).unwrap();
                let of = |sums: &std::collections::BTreeMap<_, i64>| {
                    u64::try_from(sums.get(unit).copied().unwrap_or(0)).unwrap()
                };
                // What Redis has is not believed after a time without it, until the user's next commit.
                let record = if books.record.is_empty() { &books.copy } else { &books.record };
                return (of(&books.ledger), of(record), of(&books.copy));
            }
            assert!(Instant::now() < until, "the ledger does not catch up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Signs up a user through `client`, once the cell that is asked has the tier.
pub async fn sign_up(client: &Client, email: &str, tier: &str) -> SignedUp {
    let body = sign_up_body(email, tier);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match client.sign_up(&body, Some(email)).await {
            Ok(signed_up) => return signed_up,
            Err(error) => assert!(error.status() == Some(422) && Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A sign-up of no more than has to be said.
pub fn sign_up_body(email: &str, tier: &str) -> SignUpBody {
    let tier = tier.parse().unwrap();
    SignUpBody { email: email.into(), name: None, password: None, tier, region: None, user_id: None }
}

/// A check of so many tokens, and of no request.
pub fn tokens(user: &UserId, tokens: u64, key: Option<&str>) -> Consume {
    let cost = Cost::of([(Unit::requests(), Amount::new(0).unwrap()), (Unit::tokens(), Amount::new(tokens).unwrap())]);
    Consume {
        body: ConsumeBody {
            user_id: Some(user.clone()),
            cost: Some(cost.unwrap()),
            at_us: Some(T0),
            ..ConsumeBody::default()
        },
        idempotency_key: key.map(str::to_owned),
    }
}

/// Repeats under its key until the answer is known.
pub async fn known(client: &Client, check: &Consume) -> Decision {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match client.consume(check).await {
            Ok(decision) => return decision,
            Err(error) if error.is_unknown() => {
                assert!(Instant::now() < until, "no answer: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn status_of(result: Result<Decision, ClientError>) -> u16 {
    match result {
        Ok(Decision::Allowed(_)) => 200,
        Ok(Decision::Denied(_)) => 429,
        Err(error) => error.status().unwrap_or(0),
    }
}
