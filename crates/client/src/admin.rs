//! The admin API: tiers, the topology, the books. For operator keys, on admin listeners.

use crate::error::ClientError;
use crate::transport::{Client, Credential, bytes};
use cellar_model::wire::{
    AccountsPage, AuditPage, CellAccount, CellDecisions, CellInstance, CellInstances, CellShard, CellShards,
    ClaimsPage, Explanations, HomesPage, LedgerExport, LedgerMonth, LedgerPage, LedgerRow,
};
use cellar_model::{
    ARTIFACT_BYTES_MAX, CellName, CertificateSummary, PolicyName, PolicySignature, PolicyUpload, RevisedTier, Revision,
    SettingProblem, TierDocument, TierName, UserId, VersionNumber,
};
use reqwest::Method;
use serde::{Deserialize, Serialize};

/// A client of admin listeners.
#[derive(Clone, Debug)]
pub struct Admin(pub(crate) Client);

/// What putting a tier in force would change, and what speaks against it.
#[derive(Clone, Debug, Deserialize)]
pub struct TierChange {
    pub before: Option<TierDocument>,
    /// Of what is in force.
    pub revision: Option<Revision>,
    pub after: TierDocument,
    #[serde(default)]
    pub problems: Vec<SettingProblem>,
    /// Cells that did not say whether it suits them, and why.
    #[serde(default)]
    pub silent: Vec<String>,
}

/// A policy version that was put into the catalog.
#[derive(Clone, Debug, Deserialize)]
pub struct PolicyPut {
    /// Cells that did not say whether it may decide there, and why.
    #[serde(default)]
    pub silent: Vec<String>,
}

/// A version of a policy in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PolicyVersion {
    pub name: PolicyName,
    /// `1.4.2`
    pub version: String,
    /// `sha256:…` of its component.
    pub digest: String,
    #[serde(default)]
    pub signature: Option<PolicySignature>,
    #[serde(default)]
    pub certificate: Option<CertificateSummary>,
}

/// Below which version of a policy none decides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PolicyFloor {
    pub name: PolicyName,
    pub version: VersionNumber,
}

impl Admin {
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>, operator: Credential) -> Result<Self, ClientError> {
        Client::new(urls, operator).map(Self)
    }

    pub async fn tiers(&self) -> Result<Vec<RevisedTier>, ClientError> {
        self.0.ask(Method::GET, "/admin/v1/tiers", |request| request).await
    }

    pub async fn tier_change(&self, document: &TierDocument) -> Result<TierChange, ClientError> {
        let path = format!("/admin/v1/tiers/{}?dry_run=true", document.name);
        self.0.ask(Method::PUT, &path, |request| request.json(document)).await
    }

    /// Puts a tier in force, if what is in force has revision `expected` still: else 409.
    pub async fn replace_tier(&self, document: &TierDocument, expected: Option<Revision>) -> Result<(), ClientError> {
        let expected = expected.unwrap_or_default();
        let path = format!("/admin/v1/tiers/{}?expected={}", document.name, expected.0);
        self.0.tell(Method::PUT, &path, |request| request.json(document)).await
    }

    /// A tier's revisions, newest first; empty if there is no such tier.
    pub async fn tier_history(&self, name: &TierName) -> Result<Vec<RevisedTier>, ClientError> {
        let path = format!("/admin/v1/tiers/{name}/history");
        match self.0.ask(Method::GET, &path, |request| request).await {
            Err(error) if error.status() == Some(404) => Ok(Vec::new()),
            history => history,
        }
    }

    pub async fn put_tier(&self, document: &TierDocument) -> Result<(), ClientError> {
        let path = format!("/admin/v1/tiers/{}", document.name);
        self.0.tell(Method::PUT, &path, |request| request.json(document)).await
    }

    /// A tier in force; none if there is no such tier.
    pub async fn tier(&self, name: &TierName) -> Result<Option<RevisedTier>, ClientError> {
        let tier = self.0.ask(Method::GET, &format!("/admin/v1/tiers/{name}"), |request| request).await;
        match tier {
            Err(error) if error.status() == Some(404) => Ok(None),
            tier => tier.map(Some),
        }
    }

    /// The policy versions there are.
    pub async fn policies(&self) -> Result<Vec<PolicyVersion>, ClientError> {
        self.0.ask(Method::GET, "/admin/v1/policies", |request| request).await
    }

    /// The component of a policy version.
    pub async fn policy_artifact(&self, policy: &PolicyVersion) -> Result<Vec<u8>, ClientError> {
        let path = format!("/admin/v1/policies/{}/{}", policy.name, policy.version);
        bytes(self.0.send(Method::GET, &path, |request| request).await?, ARTIFACT_BYTES_MAX).await
    }

    /// Adds a policy version. The same bytes again are no change, or another signature of them; other bytes are
    /// refused, and so is a version that tiers could not come back from.
    pub async fn put_policy(
        &self,
        name: &PolicyName,
        version: VersionNumber,
        upload: &PolicyUpload,
    ) -> Result<PolicyPut, ClientError> {
        let path = format!("/admin/v1/policies/{name}/{version}");
        self.0.ask(Method::PUT, &path, |request| request.json(upload)).await
    }

    /// The same, although what decides now could not read what it writes.
    pub async fn put_policy_without_way_back(
        &self,
        name: &PolicyName,
        version: VersionNumber,
        upload: &PolicyUpload,
    ) -> Result<PolicyPut, ClientError> {
        let path = format!("/admin/v1/policies/{name}/{version}?without_way_back=true");
        self.0.ask(Method::PUT, &path, |request| request.json(upload)).await
    }

    /// The floors there are; none, where a router does not know what that is.
    pub async fn policy_floors(&self) -> Result<Vec<PolicyFloor>, ClientError> {
        let floors = self.0.ask(Method::GET, "/admin/v1/policy-floors", |request| request).await;
        match floors {
            Err(error) if error.status() == Some(404) => Ok(Vec::new()),
            floors => floors,
        }
    }

    /// Raises a policy's floor: it never goes down.
    pub async fn raise_policy_floor(&self, name: &PolicyName, version: VersionNumber) -> Result<(), ClientError> {
        let body = serde_json::json!({ "version": version });
        self.0.tell(Method::PUT, &format!("/admin/v1/policy-floors/{name}"), |request| request.json(&body)).await
    }

    /// Where a user lives, by directory and ring.
    pub async fn whereabouts(&self, user: &UserId) -> Result<serde_json::Value, ClientError> {
        self.0.ask(Method::GET, &format!("/admin/v1/users/{}", user.as_str()), |request| request).await
    }

    /// The lives of a cell's processes; `cell` as in [`Admin::audit`].
    pub async fn instances(&self, cell: Option<&CellName>) -> Result<Vec<CellInstance>, ClientError> {
        let listed: CellInstances =
            self.0.ask(Method::GET, &format!("{}/instances", base(cell)), |request| request).await?;
        Ok(listed.instances)
    }

    /// Says that a life is over for certain: nobody waits for what it may have acknowledged.
    pub async fn fence_instance(&self, cell: Option<&CellName>, life: &str) -> Result<(), ClientError> {
        self.0.tell(Method::POST, &format!("{}/instances/{life}/fence", base(cell)), |request| request).await
    }

    /// A cell's shards; `cell` as in [`Admin::audit`].
    pub async fn shards(&self, cell: Option<&CellName>) -> Result<Vec<CellShard>, ClientError> {
        let listed: CellShards = self.0.ask(Method::GET, &format!("{}/shards", base(cell)), |request| request).await?;
        Ok(listed.shards)
    }

    /// What a cell has counted of shadows and candidates; `cell` as in [`Admin::audit`].
    pub async fn decisions(&self, cell: Option<&CellName>) -> Result<CellDecisions, ClientError> {
        self.0.ask(Method::GET, &format!("{}/decisions", base(cell)), |request| request).await
    }

    /// What a cell's processes remember of a request, among their last decisions; `cell` as in [`Admin::audit`].
    pub async fn explain(&self, cell: Option<&CellName>, request_id: &str) -> Result<Explanations, ClientError> {
        let id = percent_encoding::utf8_percent_encode(request_id, percent_encoding::NON_ALPHANUMERIC);
        self.0.ask(Method::GET, &format!("{}/explain?request_id={id}", base(cell)), |request| request).await
    }

    /// A page of a cell's books; `cell` is none where the listener is that of a cell itself.
    pub async fn audit(&self, cell: Option<&CellName>, after: Option<&UserId>) -> Result<AuditPage, ClientError> {
        let path = format!("{}/audit{}", base(cell), from(after.map(UserId::as_str)));
        self.0.ask(Method::GET, &path, |request| request).await
    }

    /// A page of all homes from `after` on, as the page before said.
    pub async fn homes(&self, after: Option<&str>) -> Result<HomesPage, ClientError> {
        let path = format!("/admin/v1/directory/homes{}", from(after));
        self.0.ask(Method::GET, &path, |request| request).await
    }

    /// A page of all claims from `after` on.
    pub async fn claims(&self, after: Option<&str>) -> Result<ClaimsPage, ClientError> {
        let path = format!("/admin/v1/directory/claims{}", from(after));
        self.0.ask(Method::GET, &path, |request| request).await
    }

    /// A page of whom a cell has; `cell` as in [`Admin::audit`].
    pub async fn accounts(&self, cell: Option<&CellName>, after: Option<&UserId>) -> Result<AccountsPage, ClientError> {
        let path = format!("{}/accounts{}", base(cell), from(after.map(UserId::as_str)));
        self.0.ask(Method::GET, &path, |request| request).await
    }

    /// What a cell has of one user.
    pub async fn account(&self, cell: Option<&CellName>, user: &UserId) -> Result<Option<CellAccount>, ClientError> {
        let path = format!("{}/accounts?user={}", base(cell), user.as_str());
        let page: AccountsPage = self.0.ask(Method::GET, &path, |request| request).await?;
        Ok(page.accounts.into_iter().next())
    }

    /// The months of a cell's ledger, oldest first.
    pub async fn ledger_months(&self, cell: Option<&CellName>) -> Result<Vec<LedgerMonth>, ClientError> {
        self.0.ask(Method::GET, &format!("{}/ledger", base(cell)), |request| request).await
    }

    /// Rows of a month of a cell's ledger after `after`.
    pub async fn ledger_page(
        &self,
        cell: Option<&CellName>,
        month: &str,
        after: Option<&LedgerRow>,
    ) -> Result<LedgerPage, ClientError> {
        self.0.ask(Method::POST, &format!("{}/ledger/{month}", base(cell)), |request| request.json(&after)).await
    }

    /// The same with every row's checks, in shorter pages.
    pub async fn ledger_checks_page(
        &self,
        cell: Option<&CellName>,
        month: &str,
        after: Option<&LedgerRow>,
    ) -> Result<LedgerPage, ClientError> {
        let path = format!("{}/ledger/{month}?checks=true", base(cell));
        // Its place is all that counts of it.
        let after = after.map(|row| LedgerRow { checks: Vec::new(), ..row.clone() });
        self.0.ask(Method::POST, &path, |request| request.json(&after)).await
    }

    /// Says that a month has been exported whole.
    pub async fn ledger_exported(
        &self,
        cell: Option<&CellName>,
        month: &str,
        export: &LedgerExport,
    ) -> Result<(), ClientError> {
        self.0.tell(Method::PUT, &format!("{}/ledger/{month}", base(cell)), |request| request.json(export)).await
    }
}

/// Ids and cursors are made of letters and digits.
fn from(after: Option<&str>) -> String {
    after.map_or_else(String::new, |after| format!("?after={after}"))
}

/// Where a cell is asked: through a router, or (none) at the listener of the cell itself.
fn base(cell: Option<&CellName>) -> String {
    cell.map_or_else(|| "/admin/v1".to_owned(), |cell| format!("/admin/v1/cells/{cell}"))
}
