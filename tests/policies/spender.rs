//! A policy written by hand, in as many versions as a test needs: so many units for good, in one of two state
//! schemas, each of which the other cannot take for its own.
//!
//! Taken into several crates' tests by its path.

#![allow(dead_code, reason = "not every crate's tests use all of it")]

/// Where a version differs from the next.
#[derive(Clone, Copy)]
pub(crate) struct Spender {
    pub(crate) version: &'static str,
    /// 1: eight bytes, what was spent. 2: a mark and the same.
    pub(crate) schema: u32,
    /// Whether it reads the other schema.
    pub(crate) migrates: bool,
    /// Whether what was spent is still there afterwards.
    pub(crate) carries: bool,
    /// What it does before it decides, in the text format: `$cost` is the cost, `$spent` what was spent.
    pub(crate) harm: &'static str,
}

impl Spender {
    pub(crate) const ONE: Spender = Spender { version: "1.0.0", schema: 1, migrates: true, carries: true, harm: "" };
    pub(crate) const TWO: Spender = Spender { version: "2.0.0", schema: 2, ..Spender::ONE };

    pub(crate) const NAME: &'static str = "spender";

    pub(crate) fn component(&self) -> Vec<u8> {
        let description = format!(
            r#"{{"name":"spender","version":"{}","unit":"tokens","state_schema":{},"settings_schema":{{}}}}"#,
            self.version, self.schema
        );
        let bytes = if self.schema == 1 { 8 } else { 16 };
        let text = include_str!("spender.wat")
            .replace("{description}", &description.replace('"', "\\\""))
            .replace("{description_bytes}", &description.len().to_string())
            .replace("{state_bytes}", &bytes.to_string())
            .replace("{state_at}", &(96 + bytes - 8).to_string())
            .replace("{spent_at}", &(bytes - 8).to_string())
            .replace("{other_bytes}", &(24 - bytes).to_string())
            .replace("{other_spent_at}", &(16 - bytes).to_string())
            .replace("{migrates}", if self.migrates { "1" } else { "0" })
            .replace("{carries}", if self.carries { "1" } else { "0" })
            .replace("{harm}", self.harm);
        wat::parse_str(text).expect("the text is a component")
    }
}
