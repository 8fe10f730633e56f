//! `cellctl users`: many users at once, in and out.

mod export;
mod import;
mod lines;
mod report;

use clap::Subcommand;
use std::path::Path;
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum UsersCommand {
    /// Bring users from elsewhere, one JSON document a line
    ///
    /// {"email":"ada@example.org","tier":"free"} and, if wanted, "name", "user_id", "region", "preferences" and
    /// "password_hash" (argon2 or scrypt in PHC form, or bcrypt). A file that is brought again changes nothing, and
    /// goes on where it broke off. Exits with 1 if lines were left out, 2 if it could not be done.
    Import(import::ImportArguments),
    /// Write all users down as an import takes them; not those who are blocked or have no e-mail
    ///
    /// Read page by page while everything serves: of who changes meanwhile it has one state or the other.
    Export(export::ExportArguments),
}

pub(crate) async fn run(folder: &Path, command: UsersCommand) -> anyhow::Result<ExitCode> {
    match command {
        UsersCommand::Import(arguments) => import::run(folder, arguments).await,
        UsersCommand::Export(arguments) => {
            export::run(folder, arguments).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
