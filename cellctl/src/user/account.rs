//! `cellctl user account|change|tier|block|unblock|password|erase|export`

use crate::stack::Target;
use anyhow::{Context, bail};
use cellar_client::Client;
use cellar_model::TierName;
use cellar_model::wire::{UserDetails, UserState};
use serde_json::{Map, Value};
use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A password is shorter, and a file that is none of one is not read for long.
const PASSWORD_LINE_MAX: u64 = 4_096;

pub(super) async fn show(target: &Target, user: &str, json: bool) -> anyhow::Result<()> {
    print(&door(target)?.account(user).await?, json)
}

pub(super) async fn change(
    target: &Target,
    user: &str,
    name: Option<Option<String>>,
    email: Option<String>,
    json: bool,
) -> anyhow::Result<()> {
    let door = door(target)?;
    let id = door.account(user).await?.user_id;
    let mut patch = Map::new();
    if let Some(name) = name {
        patch.insert("name".into(), name.into());
    }
    if let Some(email) = email {
        patch.insert("email".into(), email.into());
    }
    door.patch_profile(&id, &Value::Object(patch), None).await?;
    print(&door.account(id.as_str()).await?, json)
}

pub(super) async fn tier(target: &Target, user: &str, tier: TierName, json: bool) -> anyhow::Result<()> {
    print(&door(target)?.set_tier(user, tier).await?, json)
}

pub(super) async fn block(target: &Target, user: &str, blocked: bool) -> anyhow::Result<()> {
    door(target)?.set_blocked(user, blocked).await?;
    println!("{}", if blocked { "blocked" } else { "active" });
    Ok(())
}

pub(super) async fn password(target: &Target, user: &str, file: Option<&Path>) -> anyhow::Result<()> {
    let password = match file {
        Some(file) => {
            let file = std::fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
            first_line(file)?
        }
        None => {
            if std::io::stdin().is_terminal() {
                eprint!("the new password (it is shown as you type): ");
            }
            first_line(std::io::stdin())?
        }
    };
    door(target)?.set_password(user, password).await?;
    println!("changed; every session is over");
    Ok(())
}

fn first_line(from: impl std::io::Read) -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::BufReader::new(std::io::Read::take(from, PASSWORD_LINE_MAX)).read_line(&mut line)?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        bail!("no password was given");
    }
    Ok(password.to_owned())
}

pub(super) async fn erase(target: &Target, user: &str, yes: bool) -> anyhow::Result<()> {
    let door = door(target)?;
    if !yes {
        let account = door.account(user).await?;
        if !std::io::stdin().is_terminal() {
            bail!("erasing cannot be undone: say `--yes`");
        }
        eprint!("erase {} ({}), for good? Type the user's id: ", account.user_id.as_str(), account.tier);
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        if line.trim() != account.user_id.as_str() {
            bail!("nothing was erased");
        }
    }
    door.erase(user).await?;
    println!("erased");
    Ok(())
}

pub(super) async fn export(target: &Target, user: &str, out: Option<&Path>) -> anyhow::Result<()> {
    let door = door(target)?;
    let Some(out) = out else {
        let mut stdout = std::io::stdout().lock();
        door.export(user, &mut stdout).await?;
        return Ok(writeln!(stdout)?);
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .with_context(|| format!("making {}", out.display()))?;
    let written = door.export(user, &mut file).await;
    if written.is_err() {
        // What broke off is nobody's whole record.
        let _ = std::fs::remove_file(out);
    }
    println!("{} bytes into {}", written?, out.display());
    Ok(())
}

fn door(target: &Target) -> anyhow::Result<Client> {
    let (_, client) = target.doors()?.into_iter().next().context("the stack has no region")?;
    Ok(client)
}

fn print(account: &UserDetails, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(account)?);
        return Ok(());
    }
    let or = |member: &Option<String>| member.clone().unwrap_or_else(|| "-".to_owned());
    let state = match account.state {
        UserState::Active => "active",
        UserState::Blocked => "blocked",
    };
    println!("{:<12} {}", "user", account.user_id.as_str());
    println!("{:<12} {}", "e-mail", or(&account.email));
    println!("{:<12} {}", "name", or(&account.name));
    println!("{:<12} {}", "tier", account.tier);
    println!("{:<12} {state}", "state");
    println!("{:<12} {}", "password", if account.has_password { "yes" } else { "no" });
    println!("{:<12} {}", "created", account.created_at);
    println!("{:<12} {}", "last log-in", or(&account.last_login_at));
    Ok(())
}
