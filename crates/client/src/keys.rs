//! Service and operator keys, as operators make and end them; session keys, as a process has them.

use crate::admin::Admin;
use crate::error::ClientError;
use cellar_model::KeyName;
use cellar_model::wire::{KeyEntry, MacKeysShown, NewKey, RevokeKey, RotateKey};
use reqwest::Method;

impl Admin {
    pub async fn keys(&self) -> Result<Vec<KeyEntry>, ClientError> {
        self.0.ask(Method::GET, "/admin/v1/keys", |request| request).await
    }

    /// Makes a key. To repeat it is harmless.
    pub async fn create_key(&self, name: &KeyName, key: &NewKey) -> Result<KeyEntry, ClientError> {
        self.0.ask(Method::PUT, &format!("/admin/v1/keys/{name}"), |request| request.json(key)).await
    }

    /// Gives a key another text beside the one it has. To repeat it is harmless.
    pub async fn rotate_key(&self, name: &KeyName, new: &RotateKey) -> Result<KeyEntry, ClientError> {
        self.0.ask(Method::POST, &format!("/admin/v1/keys/{name}/rotate"), |request| request.json(new)).await
    }

    pub async fn revoke_key(&self, name: &KeyName, what: &RevokeKey) -> Result<KeyEntry, ClientError> {
        self.0.ask(Method::POST, &format!("/admin/v1/keys/{name}/revoke"), |request| request.json(what)).await
    }

    /// Which session keys the process of this admin listener has.
    pub async fn mac_keys(&self) -> Result<MacKeysShown, ClientError> {
        self.0.ask(Method::GET, "/admin/v1/mac-keys", |request| request).await
    }
}
