//! How much of what a request spends.

use crate::Unit;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// An amount of some unit. At most 2^40, so that sums of a period never overflow; zero only asks.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Amount(u64);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an amount must be a whole number from 0 to 2^40 (1099511627776), not {0}")]
pub struct AmountError(String);

impl Amount {
    pub const MAX: Amount = Amount(1 << 40);
    pub const ONE: Amount = Amount(1);

    pub fn new(amount: u64) -> Result<Self, AmountError> {
        if amount > Self::MAX.0 {
            return Err(AmountError(amount.to_string()));
        }
        Ok(Self(amount))
    }

    pub fn get(self) -> u64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Amount::new(u64::deserialize(deserializer)?).map_err(de::Error::custom);
        }
        deserializer.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = Amount;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0 to 2^40")
    }
    fn visit_u64<E: de::Error>(self, amount: u64) -> Result<Amount, E> {
        Amount::new(amount).map_err(E::custom)
    }
    fn visit_i64<E: de::Error>(self, amount: i64) -> Result<Amount, E> {
        match u64::try_from(amount) {
            Ok(amount) => self.visit_u64(amount),
            Err(_) => Err(E::custom(AmountError(amount.to_string()))),
        }
    }
    fn visit_f64<E: de::Error>(self, amount: f64) -> Result<Amount, E> {
        Err(E::custom(AmountError(amount.to_string())))
    }
}

/// The most units one check may name.
pub const COST_UNITS_MAX: usize = 8;

/// What one check spends: a map from unit to amount. An absent unit is zero, and an absent
/// `requests` is one: every check is a request unless it says otherwise.
///
/// **Invariant:** sorted by unit, no unit twice, at most `COST_UNITS_MAX`; `requests` stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Cost(Vec<(Unit, Amount)>);

impl Cost {
    /// One request, and nothing else.
    pub fn one_request() -> Self {
        Self(vec![(Unit::requests(), Amount::ONE)])
    }

    /// A bare number: that many tokens, and one request.
    pub fn tokens(tokens: Amount) -> Self {
        Self(vec![(Unit::requests(), Amount::ONE), (Unit::tokens(), tokens)])
    }

    /// Of the units given, and one request unless they say otherwise.
    pub fn of(units: impl IntoIterator<Item = (Unit, Amount)>) -> Result<Self, String> {
        let mut cost: Vec<_> = units.into_iter().take(COST_UNITS_MAX + 1).collect();
        if !cost.iter().any(|(unit, _)| *unit == Unit::requests()) {
            cost.push((Unit::requests(), Amount::ONE));
        }
        if cost.len() > COST_UNITS_MAX {
            return Err(format!("a cost may name at most {COST_UNITS_MAX} units"));
        }
        cost.sort();
        if let Some(pair) = cost.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("the cost names {} twice", pair[0].0));
        }
        Ok(Self(cost))
    }

    pub fn of_unit(&self, unit: &Unit) -> Amount {
        self.0.iter().find(|(u, _)| u == unit).map_or(Amount(0), |(_, amount)| *amount)
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Unit, Amount)> {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let units = Vec::<(Unit, Amount)>::deserialize(deserializer)?;
            return Cost::of(units).map_err(de::Error::custom);
        }
        deserializer.deserialize_any(CostVisitor)
    }
}

struct CostVisitor;

impl<'de> Visitor<'de> for CostVisitor {
    type Value = Cost;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of tokens or a map from unit to amount")
    }
    fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<Cost, E> {
        AmountVisitor.visit_u64(tokens).map(Cost::tokens)
    }
    fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<Cost, E> {
        AmountVisitor.visit_i64(tokens).map(Cost::tokens)
    }
    fn visit_f64<E: de::Error>(self, tokens: f64) -> Result<Cost, E> {
        AmountVisitor.visit_f64(tokens).map(Cost::tokens)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cost, A::Error> {
        let mut units = Vec::with_capacity(COST_UNITS_MAX);
        while let Some(entry) = map.next_entry::<Unit, Amount>()? {
            units.push(entry);
            if units.len() > COST_UNITS_MAX {
                break; // `Cost::of` says why.
            }
        }
        Cost::of(units).map_err(de::Error::custom)
    }
}

/// The form a person writes: `{"requests":1,"tokens":1280}`.
pub(crate) fn as_map<S: serde::Serializer>(cost: &Cost, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(cost.iter().map(|(unit, amount)| (unit, amount)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Cost, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn a_bare_number_is_tokens_and_one_request() {
        let cost = parse("1280").unwrap();
        assert_eq!(cost.of_unit(&Unit::tokens()).get(), 1280);
        assert_eq!(cost.of_unit(&Unit::requests()).get(), 1);
    }

    #[test]
    fn requests_are_one_unless_said_otherwise() {
        assert_eq!(parse(r#"{"tokens":5}"#).unwrap().of_unit(&Unit::requests()).get(), 1);
        assert_eq!(parse(r#"{"requests":0}"#).unwrap().of_unit(&Unit::requests()).get(), 0);
    }

    #[test]
    fn negative_fractional_huge_and_doubled_amounts_are_refused() {
        for bad in ["-1", "1.5", "1099511627777", r#"{"tokens":-3}"#, r#"{"a":1,"a":2}"#, "\"5\"", "[]"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("-1").unwrap_err().contains("0 to 2^40"));
    }

    #[test]
    fn the_wire_form_reads_back() {
        let cost = parse(r#"{"tokens":5,"images":2}"#).unwrap();
        let bytes = postcard::to_allocvec(&cost).unwrap();
        assert_eq!(postcard::from_bytes::<Cost>(&bytes).unwrap(), cost);
    }
}
