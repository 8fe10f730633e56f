//! How long things take, with the trace of one of them beside each class: from a slow bucket to what was slow.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use std::fmt;

/// Seconds, each class with a trace that fell into it.
pub type Latency = HistogramWithExemplars<TraceLabel>;

/// Bounds of times, in seconds: from 0.1 ms, about doubling, to 3.2 s. 20 ms is among them, exactly, since it is
/// what is promised: the share that took longer can be counted, not estimated.
pub const LATENCY_BOUNDS_S: [f64; 16] =
    [0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2];

pub fn latency() -> Latency {
    HistogramWithExemplars::new(LATENCY_BOUNDS_S.into_iter())
}

/// The id of a trace, as W3C writes it: with its name 40 of the 128 characters that an exemplar may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceLabel(pub u128);

impl EncodeLabelSet for TraceLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("trace_id", format!("{:032x}", self.0))].encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    #[test]
    fn a_trace_stands_beside_the_class_of_what_took_so_long() {
        let (mut registry, took) = (Registry::default(), latency());
        registry.register("cellar_took", "How long", took.clone());
        took.observe(0.03, Some(TraceLabel(0xabc)), None);
        took.observe(0.03, None, None);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let line = text.lines().find(|line| line.contains("le=\"0.05\"")).unwrap();
        assert!(line.ends_with(" 2 # {trace_id=\"00000000000000000000000000000abc\"} 0.03"), "{line}");
        assert_eq!(text.matches("trace_id").count(), 1, "the classes above do not repeat it");
    }

    #[test]
    fn bounds_rise() {
        assert!(LATENCY_BOUNDS_S.is_sorted_by(|a, b| a < b));
    }
}
