//! `cellctl keys`: who may ask (service and operator keys), and what session tokens are signed with.

mod api;
mod mac;

use cellar_model::KeyKind;
use clap::Subcommand;
use std::path::Path;

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Service keys: what applications show
    #[command(subcommand)]
    Service(api::ServiceCommand),
    /// Operator keys: what operators show on admin listeners
    #[command(subcommand)]
    Operator(api::OperatorCommand),
    /// The keys that session tokens are signed with
    #[command(subcommand)]
    Mac(mac::MacCommand),
}

pub(crate) async fn run(folder: &Path, command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Service(command) => api::service(folder, command).await,
        KeysCommand::Operator(command) => api::run(folder, KeyKind::Operator, command.into()).await,
        KeysCommand::Mac(command) => mac::run(folder, command).await,
    }
}
