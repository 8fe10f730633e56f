//! What an operator writes.

use crate::weights::Weights;
use cellar_policy_sdk::calendar::{Every, Grid, UTC_OFFSET_MAX_MINUTES, UTC_OFFSET_MIN_MINUTES};
use cellar_policy_sdk::priced::FULL_PRICE;
use cellar_policy_sdk::{AMOUNT_MAX, Problem, fixed_struct};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// An amount's own maximum.
pub const LIMIT_MAX: u64 = AMOUNT_MAX;
/// A thousand times the ordinary.
pub const WEIGHT_MAX_PERMILLE: u32 = 1_000_000;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Units a period, at a weight of 1000.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    pub limit: u64,
    /// The period: hour, day, week (from Monday on) or month; month if absent.
    #[serde(default)]
    pub every: Every,
    /// The attribute of a call that names its model; "model" if absent.
    #[serde(default = "model")]
    pub attribute: String,
    /// By model, what a unit of it counts, in thousandths: 1500 is one and a half. At most 64 models.
    #[serde(default)]
    pub weights: BTreeMap<String, Weight>,
    /// The weight of a call that names no model; 1000 if absent.
    #[serde(default = "full_price")]
    #[schemars(range(min = 1, max = WEIGHT_MAX_PERMILLE))]
    pub default_weight_permille: u32,
    /// The weight of a model that is not among the weights; such calls are refused if absent.
    #[schemars(range(min = 1, max = WEIGHT_MAX_PERMILLE))]
    pub unknown_weight_permille: Option<u32>,
    /// Minutes that local midnight comes before UTC's; 0 if absent.
    #[serde(default)]
    #[schemars(range(min = UTC_OFFSET_MIN_MINUTES, max = UTC_OFFSET_MAX_MINUTES))]
    pub utc_offset_minutes: i64,
}

/// Thousandths.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Weight(#[schemars(range(min = 1, max = WEIGHT_MAX_PERMILLE))] pub u32);

fn model() -> String {
    "model".to_owned()
}

fn full_price() -> u32 {
    FULL_PRICE
}

fixed_struct! {
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Parameters {
        /// Thousandths a period.
        pub limit: u64,
        pub periods: Grid,
        /// The least and the most that a unit can count.
        pub least: u32,
        pub most: u32,
        pub weights: Weights,
    }
}

impl Parameters {
    pub(crate) fn of(settings: &Settings) -> Result<Self, Vec<Problem>> {
        let unknown = settings.unknown_weight_permille;
        let named = settings.weights.iter().map(|(name, weight)| (name.as_str(), weight.0));
        let weights = Weights::of(&settings.attribute, settings.default_weight_permille, unknown, named.clone())?;
        let all = named.map(|(_, weight)| weight).chain(unknown).chain([settings.default_weight_permille]);
        let (least, most) = (all.clone().min().unwrap_or(FULL_PRICE), all.max().unwrap_or(FULL_PRICE));
        // At most 2^50.
        let limit = settings.limit * u64::from(FULL_PRICE);
        Ok(Self { limit, periods: Grid::every(settings.every, settings.utc_offset_minutes), least, most, weights })
    }
}
