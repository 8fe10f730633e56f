//! `cellctl user`

use crate::stack::Target;
use anyhow::Context;
use cellar_model::wire::SignUpBody;
use cellar_model::{RegionName, TierName};
use clap::Subcommand;
use std::path::Path;

#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Sign up a user
    Create {
        #[arg(long)]
        email: String,
        #[arg(long)]
        tier: TierName,
        #[arg(long)]
        name: Option<String>,
        /// Where the user is to live; by default the first region
        #[arg(long)]
        region: Option<RegionName>,
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(folder: &Path, command: UserCommand) -> anyhow::Result<()> {
    let UserCommand::Create { email, tier, name, region, json } = command;
    let doors = Target::find(folder)?.doors()?;
    let (_, client) = doors.first().context("the stack has no region")?;
    let body = SignUpBody { email, name, password: None, tier, region, user_id: None };
    let signed_up = client.sign_up(&body, None).await?;
    if json {
        println!("{}", serde_json::to_string(&signed_up)?);
    } else {
        println!("{} ({}, {})", signed_up.user_id.as_str(), signed_up.tier, signed_up.region);
    }
    Ok(())
}
