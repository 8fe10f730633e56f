//! What a policy says of itself.

use cellar_model::{PolicyName, Unit};
use serde::Deserialize;

/// The metadata `describe` returned.
#[derive(Clone, Debug, Deserialize)]
pub struct Description {
    pub name: PolicyName,
    /// Three numbers: `1.4.0`.
    pub version: String,
    /// What it is meant to count. A tier may give it another unit.
    pub unit: Unit,
    /// The form of the states it writes. A higher one reads older states through `migrate`.
    pub state_schema: u32,
    /// JSON Schema of the settings.
    pub settings_schema: serde_json::Value,
    /// What an outcome's note means, from 1 on.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Description {
    pub(crate) fn from_json(json: &str) -> Result<Self, String> {
        let description: Self = serde_json::from_str(json).map_err(|e| e.to_string())?;
        if description.parts().is_none() {
            return Err(format!("version {:?} is not three numbers", description.version));
        }
        Ok(description)
    }

    /// What a tier's `name@major` asks for.
    pub fn major(&self) -> u64 {
        self.parts().map_or(0, |parts| parts[0])
    }

    /// The version as numbers, to compare versions by.
    pub fn parts(&self) -> Option<[u64; 3]> {
        let mut parts = self.version.splitn(3, '.').map(|part| part.parse().ok());
        Some([parts.next()??, parts.next()??, parts.next()??])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(version: &str) -> Result<Description, String> {
        Description::from_json(&format!(
            r#"{{"name":"x","version":"{version}","unit":"tokens","state_schema":1,"settings_schema":{{}}}}"#
        ))
    }

    #[test]
    fn a_version_is_three_numbers() {
        assert_eq!(described("2.10.3").unwrap().parts(), Some([2, 10, 3]));
        assert_eq!(described("2.10.3").unwrap().major(), 2);
        for bad in ["", "1", "1.2", "1.2.x", "1.2.3.4", "v1.2.3"] {
            assert!(described(bad).is_err(), "{bad}");
        }
    }
}
