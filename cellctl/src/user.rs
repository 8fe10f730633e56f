//! `cellctl user`

mod account;

use crate::books;
use crate::stack::Target;
use anyhow::Context;
use cellar_model::wire::SignUpBody;
use cellar_model::{CellName, RegionName, TierName, UserId};
use clap::Subcommand;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// Which cell is a user's home, by the directory, or without it by a router
    Where {
        user: UserId,
        #[arg(long)]
        json: bool,
    },
    /// What the user's home has of a user; neither name nor e-mail
    Show {
        user: UserId,
        #[arg(long)]
        json: bool,
    },
    /// A user's account, with name and e-mail
    Account {
        /// A user's id, or an e-mail
        user: String,
        #[arg(long)]
        json: bool,
    },
    /// Change a user's name or e-mail
    #[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["name", "no_name", "email"])))]
    Change {
        /// A user's id, or an e-mail
        user: String,
        #[arg(long, conflicts_with = "no_name")]
        name: Option<String>,
        /// Take the name away
        #[arg(long)]
        no_name: bool,
        #[arg(long)]
        email: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Put a user in another tier; checks are decided by it from the answer on
    Tier {
        /// A user's id, or an e-mail
        user: String,
        tier: TierName,
        #[arg(long)]
        json: bool,
    },
    /// End all sessions, log-ins and spending of a user, until `unblock`
    Block {
        /// A user's id, or an e-mail
        user: String,
    },
    /// End a block
    Unblock {
        /// A user's id, or an e-mail
        user: String,
    },
    /// Give a user another password, and log out everywhere
    Password {
        /// A user's id, or an e-mail
        user: String,
        /// Read the password from a file's first line, not from the standard input's
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Erase a user: the person leaves every store, for good
    Erase {
        /// A user's id, or an e-mail
        user: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Everything about a user, as JSON
    Export {
        /// A user's id, or an e-mail
        user: String,
        /// Write into a file that only you can read, not to the standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// What a user was charged, by unit and by day; the last month, if no days are said
    Usage {
        user: UserId,
        /// The first day, in UTC: 2023-11-01
        #[arg(long)]
        from: Option<String>,
        /// The day after the last
        #[arg(long)]
        to: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// All users and their homes, as the directory has them
    List {
        /// Go on from what an earlier list said
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
        /// Pages of up to 1,000 users; 0: all
        #[arg(long, default_value_t = 1)]
        pages: u32,
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(folder: &Path, command: UserCommand) -> anyhow::Result<()> {
    let target = Target::find(folder)?;
    match command {
        UserCommand::Create { email, tier, name, region, json } => {
            let body = SignUpBody { email, name, password: None, tier, region, user_id: None };
            create(&target, &body, json).await
        }
        UserCommand::Where { user, json } => whereabouts(&target, &user, json).await,
        UserCommand::Show { user, json } => show(&target, &user, json).await,
        UserCommand::Account { user, json } => account::show(&target, &user, json).await,
        UserCommand::Change { user, name, no_name, email, json } => {
            let name = if no_name { Some(None) } else { name.map(Some) };
            account::change(&target, &user, name, email, json).await
        }
        UserCommand::Tier { user, tier, json } => account::tier(&target, &user, tier, json).await,
        UserCommand::Block { user } => account::block(&target, &user, true).await,
        UserCommand::Unblock { user } => account::block(&target, &user, false).await,
        UserCommand::Password { user, password_file } => {
            account::password(&target, &user, password_file.as_deref()).await
        }
        UserCommand::Erase { user, yes } => account::erase(&target, &user, yes).await,
        UserCommand::Export { user, out } => account::export(&target, &user, out.as_deref()).await,
        UserCommand::Usage { user, from, to, json } => {
            usage(&target, &user, from.as_deref(), to.as_deref(), json).await
        }
        UserCommand::List { after, pages, json } => list(&target, after, pages, json).await,
    }
}

async fn create(target: &Target, body: &SignUpBody, json: bool) -> anyhow::Result<()> {
    let doors = target.doors()?;
    let (_, client) = doors.first().context("the stack has no region")?;
    let signed_up = client.sign_up(body, None).await?;
    if json {
        println!("{}", serde_json::to_string(&signed_up)?);
    } else {
        println!("{} ({}, {})", signed_up.user_id.as_str(), signed_up.tier, signed_up.region);
    }
    Ok(())
}

async fn whereabouts(target: &Target, user: &UserId, json: bool) -> anyhow::Result<()> {
    let found = target.admin.whereabouts(user).await?;
    if json {
        println!("{found}");
        return Ok(());
    }
    let text = |member: &str| found[member].as_str().unwrap_or("?").to_owned();
    let epoch = found["epoch"].as_u64().map_or_else(String::new, |epoch| format!(" at epoch {epoch}"));
    let state = found["state"].as_str().map_or_else(String::new, |state| format!(", {state}"));
    println!("{} lives in {} ({}){epoch}{state}", user.as_str(), text("cell"), text("region"));
    println!("as the {} says", text("source"));
    Ok(())
}

async fn show(target: &Target, user: &UserId, json: bool) -> anyhow::Result<()> {
    let found = target.admin.whereabouts(user).await?;
    let home = CellName::new(found["cell"].as_str().unwrap_or_default()).context("no cell is this user's home")?;
    let cells = books::cells(target).await?;
    let (_, by_router) = cells.iter().find(|(cell, _)| *cell == home).context("the topology has no such cell")?;
    let account = target.admin.account(by_router.then_some(&home), user).await?;
    let account = account.with_context(|| format!("cell {home} has no row of {}", user.as_str()))?;
    if json {
        println!("{}", serde_json::to_string(&account)?);
        return Ok(());
    }
    let or = |member: &Option<String>| member.clone().unwrap_or_else(|| "-".to_owned());
    println!("{:<12} {}", "user", user.as_str());
    println!("{:<12} {home}, {} at epoch {}", "home", account.ownership, account.epoch.0);
    println!("{:<12} {}", "tier", or(&account.tier));
    println!("{:<12} {}", "state", or(&account.state));
    println!("{:<12} {}", "created", or(&account.created_at));
    println!("{:<12} {}", "releases due", account.releases.len());
    Ok(())
}

async fn usage(target: &Target, user: &UserId, from: Option<&str>, to: Option<&str>, json: bool) -> anyhow::Result<()> {
    let doors = target.doors()?;
    let (_, client) = doors.first().context("the stack has no region")?;
    let usage = client.usage(user, from, to).await?;
    if json {
        println!("{}", serde_json::to_string(&usage)?);
        return Ok(());
    }
    let amounts = |charges: &BTreeMap<SmolStr, i64>| {
        charges.iter().map(|(unit, amount)| format!("{amount} {unit}")).collect::<Vec<_>>().join(", ")
    };
    for day in &usage.days {
        println!("{}  {}", day.day, amounts(&day.charges));
    }
    let all = if usage.totals.is_empty() { "nothing".to_owned() } else { amounts(&usage.totals) };
    println!("from {} up to {}: {all}", usage.from, usage.to);
    Ok(())
}

async fn list(target: &Target, mut after: Option<String>, pages: u32, json: bool) -> anyhow::Result<()> {
    let mut page_number = 0;
    loop {
        let page = target.admin.homes(after.as_deref()).await?;
        for home in &page.homes {
            if json {
                println!("{}", serde_json::to_string(home)?);
            } else {
                println!("{:<40} {:<16} {:>6} {}", home.user_id.as_str(), home.cell, home.epoch.0, home.state);
            }
        }
        page_number += 1;
        after = page.next;
        match &after {
            None => return Ok(()),
            Some(next) if page_number == pages => {
                eprintln!("there are more: `cellctl user list --after {next}`");
                return Ok(());
            }
            Some(_) => {}
        }
    }
}
