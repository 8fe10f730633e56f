//! Families whose labels are names that others choose: tiers, slots, cells.
//!
//! A name that somebody may choose is a series that somebody may make, so there is a most of them. Beyond it what
//! happens is still counted, under `other`, and that this was done is counted as well.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What stands for every label set that there was no room for.
pub const OTHER: &str = "other";
/// Bytes of a label's value; what is longer is cut. Our names have at most 64.
pub const LABEL_BYTES_MAX: usize = 128;

/// `cellar_label_overflow_total`, by family. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct LabelOverflow(Family<[(&'static str, &'static str); 1], Counter>);

impl LabelOverflow {
    pub fn register(registry: &mut Registry) -> Self {
        let overflow = Self(Family::default());
        let help =
            "Times that something was counted under \"other\", because its family had as many label sets as it may";
        registry.register("cellar_label_overflow", help, overflow.0.clone());
        overflow
    }

    /// The counter of one family, at 0 from now on.
    pub fn of(&self, family: &'static str) -> Counter {
        self.0.get_or_create_owned(&[("family", family)])
    }
}

/// A family of at most so many label sets, one more for all others.
#[derive(Clone, Debug)]
pub struct BoundedFamily<const N: usize, M> {
    names: [&'static str; N],
    series_max: usize,
    series: Arc<Mutex<BTreeMap<[String; N], M>>>,
    overflow: Counter,
}

impl<const N: usize, M: Clone + Default> BoundedFamily<N, M> {
    pub fn new(names: [&'static str; N], series_max: usize, overflow: Counter) -> Self {
        Self { names, series_max, series: Arc::default(), overflow }
    }

    /// The metric of this label set, or that of all others. Whoever counts often keeps it.
    pub fn get(&self, values: [&str; N]) -> M {
        let key = values.map(|value| cut(value).to_owned());
        let mut series = self.lock();
        if let Some(metric) = series.get(&key) {
            return metric.clone();
        }
        let other = [OTHER; N].map(str::to_owned);
        let named = series.len() - usize::from(series.contains_key(&other));
        if named < self.series_max {
            return series.entry(key).or_default().clone();
        }
        self.overflow.inc();
        series.entry(other).or_default().clone()
    }

    /// Lets the series go that `stays` does not want: of what is gone nobody asks any more. What was counted of
    /// others stays.
    pub fn retain(&self, stays: impl Fn([&str; N]) -> bool) {
        let kept = |values: &[String; N]| {
            let values = values.each_ref().map(String::as_str);
            values == [OTHER; N] || stays(values)
        };
        self.lock().retain(|values, _| kept(values));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[String; N], M>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const N: usize, M: TypedMetric> TypedMetric for BoundedFamily<N, M> {
    const TYPE: MetricType = M::TYPE;
}

impl<const N: usize, M: Clone + Default + EncodeMetric + TypedMetric> EncodeMetric for BoundedFamily<N, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        // A copy: nobody who counts waits for a scrape.
        let series = self.lock().clone();
        for (values, metric) in &series {
            let labels: [(&str, &str); N] = std::array::from_fn(|n| (self.names[n], values[n].as_str()));
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// The value, as much of it as fits.
fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(LABEL_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    fn world(series_max: usize) -> (Registry, BoundedFamily<1, Counter>) {
        let mut registry = Registry::default();
        let overflow = LabelOverflow::register(&mut registry).of("cellar_things");
        let things = BoundedFamily::new(["tier"], series_max, overflow);
        registry.register("cellar_things", "Things", things.clone());
        (registry, things)
    }

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn beyond_the_most_label_sets_all_others_share_one_and_that_is_counted() {
        let (registry, things) = world(2);
        assert!(text(&registry).contains("cellar_label_overflow_total{family=\"cellar_things\"} 0\n"));
        for n in 0..1_000 {
            things.get([&format!("tier-{n}")]).inc();
        }
        let text = text(&registry);
        assert!(text.contains("cellar_things_total{tier=\"other\"} 998\n"), "{text}");
        assert!(text.contains("cellar_label_overflow_total{family=\"cellar_things\"} 998\n"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("cellar_things_total{")).count(), 3);
    }

    #[test]
    fn what_is_gone_makes_room_and_what_others_counted_stays() {
        let (registry, things) = world(1);
        things.get(["a"]).inc();
        things.get(["b"]).inc();
        things.retain(|[tier]| tier == "b");
        things.get(["b"]).inc();
        let text = text(&registry);
        assert!(text.contains("{tier=\"b\"} 1\n") && text.contains("{tier=\"other\"} 1\n"), "{text}");
        assert!(!text.contains("{tier=\"a\"}"), "{text}");
    }

    /// Goal: no name that somebody chooses makes a line of its own, or a page that cannot be read.
    #[test]
    fn odd_values_are_escaped_and_long_ones_cut() {
        let (registry, things) = world(10);
        things.get(["a\"} 7\ncellar_things_total{tier=\"b\\"]).inc();
        things.get(["\u{e4}".repeat(5_000).as_str()]).inc();
        things.get([""]).inc();
        let text = text(&registry);
        let escaped = r#"cellar_things_total{tier="a\"} 7\ncellar_things_total{tier=\"b\\"} 1"#;
        assert!(text.lines().any(|line| line == escaped), "{text}");
        let cut = format!("cellar_things_total{{tier=\"{}\"}} 1", "\u{e4}".repeat(LABEL_BYTES_MAX / 2));
        assert!(text.lines().any(|line| line == cut), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("cellar_things_total{")).count(), 3);
    }
}
