//! A cell that serves.

use crate::Cell;
use crate::cell::{ADMIN_PORT, PORT};
use std::fmt;
use testcontainers::core::ExecCommand;
use testcontainers::{ContainerAsync, TestcontainersError};

/// It ends with the value.
pub struct RunningCell {
    container: ContainerAsync<Cell>,
    url: String,
    admin_url: String,
    service_key: String,
    operator_key: String,
}

impl RunningCell {
    /// Asks a container that is ready for its keys and its ports on this side.
    ///
    /// # Errors
    /// When it does not answer, or what it answers is not the status of a cell.
    pub async fn of(container: ContainerAsync<Cell>) -> Result<Self, TestcontainersError> {
        let mut asked = container.exec(ExecCommand::new(["cellctl", "status", "--json"])).await?;
        let answer = asked.stdout_to_vec().await?;
        let status: serde_json::Value = serde_json::from_slice(&answer).map_err(TestcontainersError::other)?;
        let key = |name: &str| status[name].as_str().map(str::to_owned);
        let (service_key, operator_key) = key("service_key")
            .zip(key("operator_key"))
            .ok_or_else(|| TestcontainersError::other("the cell in the container has no keys"))?;
        let host = container.get_host().await?;
        let url = format!("http://{host}:{}", container.get_host_port_ipv4(PORT).await?);
        let admin_url = format!("http://{host}:{}", container.get_host_port_ipv4(ADMIN_PORT).await?);
        Ok(Self { container, url, admin_url, service_key, operator_key })
    }

    /// Where callers ask.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The admin listener.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    pub fn service_key(&self) -> &str {
        &self.service_key
    }

    pub fn operator_key(&self) -> &str {
        &self.operator_key
    }

    /// Ends it, and comes back when it is gone; a drop does the same on its way.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn stop(self) -> Result<(), TestcontainersError> {
        self.container.rm().await
    }

    /// To pause it and to look at it.
    pub fn container(&self) -> &ContainerAsync<Cell> {
        &self.container
    }
}

/// Without the keys.
impl fmt::Debug for RunningCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningCell").field("url", &self.url).finish_non_exhaustive()
    }
}
