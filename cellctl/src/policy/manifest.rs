//! A manifest of the workspace as it stands where there is none.

use super::files::WORKSPACE_MANIFEST;
use anyhow::Context;

/// What a crate has from its workspace: `serde.workspace = true`.
const INHERITS: &str = ".workspace = true";
const OF_TESTS: &str = "[dev-dependencies]";
const LINTS: &str = "[lints]\nworkspace = true\n\n";

/// The manifest with everything that it has from the workspace written out: the same versions, the same features.
/// What only its own tests need is left out: they are run in the repository.
pub(super) fn alone(manifest: &str) -> anyhow::Result<String> {
    let manifest = manifest.replace(LINTS, "");
    // A section ends where the next begins.
    let sections = manifest.split_inclusive("\n\n").filter(|section| !section.starts_with(OF_TESTS));
    let manifest = sections.collect::<String>();
    let lines = manifest.lines().map(|line| match line.strip_suffix(INHERITS) {
        Some(key) => workspaces(key).map(|value| format!("{key} = {value}\n")),
        None => Ok(format!("{line}\n")),
    });
    lines.collect()
}

/// What the workspace says of a key. Names of packages and of their fields are apart.
fn workspaces(key: &str) -> anyhow::Result<&'static str> {
    let line = WORKSPACE_MANIFEST.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.with_context(|| format!("the workspace says nothing of {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::files::SDK_MANIFEST;

    #[test]
    fn the_sdks_manifest_stands_alone_with_the_workspaces_versions() {
        let alone: toml::Table = alone(SDK_MANIFEST).unwrap().parse().unwrap();
        let workspace: toml::Table = WORKSPACE_MANIFEST.parse().unwrap();
        assert_eq!(alone["package"]["edition"], workspace["workspace"]["package"]["edition"]);
        for name in ["serde", "schemars", "serde_json"] {
            assert_eq!(alone["dependencies"][name], workspace["workspace"]["dependencies"][name], "{name}");
        }
        assert!(!alone.contains_key("lints"));
    }

    #[test]
    fn what_only_tests_need_is_left_out() {
        let manifest = "[dependencies]\nserde.workspace = true\n\n[dev-dependencies]\nproptest.workspace = true\n";
        assert!(!super::alone(manifest).unwrap().contains("proptest"));
    }

    #[test]
    fn what_the_workspace_does_not_say_is_an_error() {
        assert!(super::alone("[dependencies]\nunheard-of.workspace = true\n").is_err());
    }
}
