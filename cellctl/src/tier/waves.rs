//! `tier promote`, `tier hold`: how many of a tier's users its candidate decides.

use super::apply;
use crate::stack::Target;
use anyhow::{Context, ensure};
use cellar_model::{Percent, TierDocument, TierName};
use std::path::Path;

/// What a candidate is let out by if nobody says: each wave some times as large as the one before.
const WAVES: [Percent; 6] =
    [Percent::whole(1), Percent::whole(5), Percent::whole(10), Percent::whole(25), Percent::whole(50), Percent::ALL];

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Next,
    To(Percent),
    /// The candidate is the tier.
    All,
    Hold,
}

pub(super) async fn change(folder: &Path, name: &TierName, step: Step, yes: bool) -> anyhow::Result<()> {
    let target = Target::find(folder)?;
    let tier = target.admin.tier(name).await?.with_context(|| format!("there is no tier {name}"))?;
    let changed = take(&tier.document, step)?;
    let seen = target.admin.tier_change(&changed).await?;
    // The document was made from this revision, and must not undo what came after it.
    ensure!(seen.revision == Some(tier.revision), "tier {name} has changed meanwhile: look at it again");
    apply::put_seen(&target, seen, "this step", yes).await
}

/// The document after `step`.
fn take(document: &TierDocument, step: Step) -> anyhow::Result<TierDocument> {
    let mut changed = document.clone();
    let rollout = changed.rollout.as_mut();
    let rollout = rollout.with_context(|| format!("tier {} has no candidate", document.name))?;
    let next = WAVES.into_iter().find(|wave| *wave > rollout.percent);
    match step {
        Step::Hold => rollout.held = true,
        Step::To(percent) => (rollout.percent, rollout.held) = (percent, false),
        // Where it was, and no further: nobody has seen yet whether it does better now.
        Step::Next if rollout.held => rollout.held = false,
        Step::Next if next.is_some() => rollout.percent = next.unwrap_or(Percent::ALL),
        Step::Next | Step::All => return document.candidate().context("it has no candidate"),
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier() -> TierDocument {
        let text = r#"
            name = "t"
            [[policy]]
            slot = "s"
            use = "p@1"
            unit = "tokens"
            [rollout]
            percent = 0
            cells = ["eu-1"]
            [[rollout.policy]]
            slot = "s"
            use = "p@2"
            unit = "tokens"
        "#;
        TierDocument::from_toml(text).unwrap()
    }

    #[test]
    fn wave_after_wave_it_becomes_the_tier() {
        let (mut document, mut waves) = (tier(), Vec::new());
        while document.rollout.is_some() {
            document = take(&document, Step::Next).unwrap();
            waves.extend(document.rollout.as_ref().map(|rollout| rollout.percent.to_string()));
        }
        assert_eq!(waves, ["1", "5", "10", "25", "50", "100"]);
        assert_eq!(document.policies[0].policy.to_string(), "p@2");
        assert!(take(&document, Step::Next).unwrap_err().to_string().contains("no candidate"));
    }

    #[test]
    fn one_that_is_held_goes_on_where_it_was() {
        let at_ten = take(&tier(), Step::To(Percent::whole(10))).unwrap();
        let held = take(&at_ten, Step::Hold).unwrap();
        assert!(held.rollout.as_ref().unwrap().held);
        assert_eq!(take(&held, Step::Next).unwrap(), at_ten);
        assert_eq!(take(&held, Step::To(Percent::whole(1))).unwrap().rollout.unwrap().percent, Percent::whole(1));
    }
}
