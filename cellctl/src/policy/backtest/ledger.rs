//! Requests of a Cellar's ledger: what was admitted, check by check.

use super::requests::{Act, Closing, Gathering, REQUESTS_MAX, Request, Requests};
use crate::books;
use crate::stack::Target;
use anyhow::{Context, bail, ensure};
use cellar_model::wire::{Acted, LedgerAct, LedgerRow};
use cellar_model::{CellName, ChargeId, Micros, TierName, Unit};
use indicatif::ProgressBar;
use smol_str::SmolStr;
use std::collections::HashMap;

/// Users of one tier: a hundred bytes each are kept of them.
const USERS_MAX: usize = 5_000_000;

/// Which part of the ledger.
pub(super) struct Window {
    /// Counted from here on; a length counts back from the ledger's newest entry.
    pub(super) since: Since,
    /// Asked before that, without being counted.
    pub(super) warm_up_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    At(Micros),
    Back(u64),
}

impl Since {
    fn from(self, newest: Micros) -> Micros {
        match self {
            Since::At(at) => at,
            Since::Back(us) => Micros(newest.0.saturating_sub(us)),
        }
    }
}

/// `7d`, `12h`, `30m`, `90s`.
pub(super) fn length(text: &str) -> Result<u64, String> {
    let odd = || format!("{text:?} is no length of time: write 7d, 12h, 30m or 90s");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(odd)?;
    let seconds: u64 = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return Err(odd()),
    };
    let number: u64 = number.parse().map_err(|_| odd())?;
    number.checked_mul(seconds * 1_000_000).filter(|us| *us <= Micros::MAX.0).ok_or_else(odd)
}

/// A length back from the newest entry, or a moment as RFC 3339 has it.
pub(super) fn since(text: &str) -> Result<Since, String> {
    if let Some(at) = Micros::from_rfc3339(text) {
        return Ok(Since::At(at));
    }
    length(text).map(Since::Back).map_err(|message| format!("{message}, or a moment: 2023-11-16T18:00:00Z"))
}

/// Everything that users who are in `tier` now were charged in `window`.
pub(super) async fn read(target: &Target, tier: &TierName, window: &Window) -> anyhow::Result<Requests> {
    let bar = ProgressBar::new_spinner().with_message("reading the ledger");
    let mut gathering = Gathering::default();
    let cells = books::cells(target).await?;
    let users = users(target, &cells, tier, &mut gathering).await?;
    let mut newest: Option<Micros> = None;
    for (cell, by_router) in &cells {
        newest = newest.max(newest_entry(target, by_router.then_some(cell)).await?);
    }
    let newest = newest.context("the ledger has no rows: there is nothing to ask again")?;
    let counted_from = window.since.from(newest);
    let from = Micros(counted_from.0.saturating_sub(window.warm_up_us));
    for (cell, by_router) in &cells {
        let asked = by_router.then_some(cell);
        for month in target.admin.ledger_months(asked).await? {
            if month_end(&month.month).is_some_and(|end| end > from) {
                rows(target, asked, &month.month, from, &users, &mut gathering, &bar).await?;
            }
        }
    }
    bar.finish_and_clear();
    let requests = gathering.finish(counted_from);
    ensure!(
        requests.times().is_some(),
        "the ledger has no rows of users who are in tier {tier}, from {} on: --since may reach further back",
        counted_from.to_rfc3339()
    );
    Ok(requests)
}

/// Who is in the tier now: the ledger does not say who was.
async fn users(
    target: &Target,
    cells: &[(CellName, bool)],
    tier: &TierName,
    gathering: &mut Gathering,
) -> anyhow::Result<HashMap<SmolStr, u32>> {
    let mut users = HashMap::new();
    for (cell, by_router) in cells {
        let mut after = None;
        loop {
            let page = target.admin.accounts(by_router.then_some(cell), after.as_ref()).await?;
            let mut of_tier = page.accounts;
            of_tier.retain(|one| one.ownership == "OWNED" && one.tier.as_deref() == Some(tier.as_str()));
            for account in of_tier {
                let user = gathering.user(account.user_id.as_str());
                users.insert(account.user_id.as_str().into(), user);
            }
            ensure!(
                gathering.users() <= USERS_MAX,
                "tier {tier} has more than {USERS_MAX} users: too many to ask again"
            );
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    ensure!(!users.is_empty(), "nobody is in tier {tier}");
    Ok(users)
}

/// When a cell's ledger ends.
async fn newest_entry(target: &Target, cell: Option<&CellName>) -> anyhow::Result<Option<Micros>> {
    for month in target.admin.ledger_months(cell).await?.into_iter().rev() {
        let page = target.admin.ledger_page(cell, &month.month, None).await?;
        let (Some(row), Some(end)) = (page.rows.last(), month_end(&month.month)) else { continue };
        let at = at_of(row);
        return if page.last { Ok(Some(at)) } else { last_of(target, cell, &month.month, at, end).await.map(Some) };
    }
    Ok(None)
}

/// The newest of a month's rows. There is one at `low`, and none behind `high`: the time between them is halved
/// until a page holds all that is left.
async fn last_of(
    target: &Target,
    cell: Option<&CellName>,
    month: &str,
    mut low: Micros,
    mut high: Micros,
) -> anyhow::Result<Micros> {
    while low < high {
        let middle = Micros(low.0 + (high.0 - low.0) / 2);
        let page = target.admin.ledger_page(cell, month, Some(&behind(middle))).await?;
        match page.rows.last() {
            None => high = middle,
            Some(row) if page.last => return Ok(at_of(row)),
            Some(row) => low = at_of(row),
        }
    }
    Ok(low)
}

fn at_of(row: &LedgerRow) -> Micros {
    Micros(row.at_us.unsigned_abs())
}

async fn rows(
    target: &Target,
    cell: Option<&CellName>,
    month: &str,
    from: Micros,
    users: &HashMap<SmolStr, u32>,
    gathering: &mut Gathering,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let mut after = Some(behind(Micros(from.0.saturating_sub(1))));
    loop {
        let page = target.admin.ledger_checks_page(cell, month, after.as_ref()).await?;
        for row in &page.rows {
            let Some(user) = users.get(row.user_id.as_str()) else { continue };
            // What an account changed asks no policy.
            let asked = |check: &&LedgerAct| !matches!(check.act, Acted::Adopt(_) | Acted::Erase);
            for check in row.checks.iter().filter(asked) {
                let place = || format!("the charge {} in the ledger of {month}", check.charge_id);
                let request = request(check, *user, gathering).with_context(place)?;
                gathering.requests.push(request);
            }
        }
        if gathering.requests.len() > REQUESTS_MAX {
            bail!("more than {REQUESTS_MAX} requests of the tier's users: take a later --since or a shorter --warm-up");
        }
        bar.set_message(format!("reading the ledger: {} requests", gathering.requests.len()));
        bar.tick();
        after = page.rows.into_iter().last().or(after);
        if page.last {
            return Ok(());
        }
    }
}

fn request(check: &LedgerAct, user: u32, gathering: &mut Gathering) -> anyhow::Result<Request> {
    let charge: ChargeId = check.charge_id.parse()?;
    let moved = || -> anyhow::Result<Vec<(Unit, i64)>> {
        let moved = check.charges.iter().map(|(unit, amount)| Ok((Unit::new(unit)?, *amount)));
        moved.collect()
    };
    let closing = |of: &str| Ok::<_, anyhow::Error>(Box::new(Closing { of: of.parse()?, moved: moved()? }));
    let act = match &check.act {
        Acted::Consume => Act::Consume,
        Acted::Reserve => Act::Reserve,
        Acted::Settle { of } => Act::Settle(closing(of)?),
        Acted::Refund { of } => Act::Refund(closing(of)?),
        Acted::Expire { of } => Act::Expire(closing(of)?),
        Acted::Grant(terms) => Act::Grant(Box::new(terms.clone())),
        Acted::Override(terms) => Act::Override(Box::new(terms.clone())),
        Acted::Adopt(_) | Acted::Erase => bail!("no policy was asked of it"),
    };
    let mut units: Vec<(Unit, u64)> = match act {
        Act::Consume | Act::Reserve => moved()?.into_iter().map(|(unit, n)| (unit, n.max(0).unsigned_abs())).collect(),
        _ => Vec::new(),
    };
    // A charge of no request was asked as one: left out, it would count as one.
    if units.iter().all(|(unit, _)| *unit != Unit::requests()) {
        units.push((Unit::requests(), 0));
    }
    let cost = gathering.cost(units).map_err(anyhow::Error::msg)?;
    Ok(Request { at: Micros(check.at_us), user, cost, charge, act })
}

/// Where rows begin that are later than `at`.
fn behind(at: Micros) -> LedgerRow {
    LedgerRow {
        at_us: i64::try_from(at.0).unwrap_or(i64::MAX),
        shard: i16::MAX,
        fence: i64::MAX,
        seq: i64::MAX,
        n: i32::MAX,
        user_id: String::new(),
        epoch: 0,
        version: 0,
        kind: 0,
        places: 0,
        charges: Default::default(),
        checks: Vec::new(),
    }
}

/// When the month after `2023-11` begins.
fn month_end(month: &str) -> Option<Micros> {
    let first: jiff::civil::Date = format!("{month}-01").parse().ok()?;
    let next = first.checked_add(jiff::Span::new().months(1)).ok()?;
    let at = jiff::tz::Offset::UTC.to_timestamp(next.at(0, 0, 0, 0)).ok()?;
    u64::try_from(at.as_microsecond()).ok().map(Micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_moments_are_read_and_others_refused() {
        assert_eq!(length("7d"), Ok(7 * 86_400_000_000));
        assert_eq!(length("90s"), Ok(90_000_000));
        assert_eq!(since("12h"), Ok(Since::Back(12 * 3_600_000_000)));
        assert_eq!(since("2023-11-16T18:00:00Z"), Ok(Since::At(Micros(1_700_157_600_000_000))));
        for odd in ["", "d", "7", "7w", "-1d", "9999999999999d", "ü"] {
            assert!(since(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        assert_eq!(month_end("2023-12").map(Micros::to_rfc3339).as_deref(), Some("2024-01-01T00:00:00Z"));
        assert_eq!(month_end("2023-13"), None);
    }
}
