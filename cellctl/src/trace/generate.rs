//! A trace of the shape of a real one, for those who have none at hand.
//!
//! Fitted to 19,366 requests to a conversation service within 58 minutes (Azure LLM inference trace
//! 2023, CC-BY 4.0): the gaps between requests have a mean of 0.181 s and a deviation of 1.09 means,
//! so they are drawn from an exponential distribution; context and generated tokens correlate by
//! 0.09 only, so each is drawn by itself from its own quantiles, logarithmically between them.

use super::file::TraceRequest;
use cellar_model::Micros;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mean seconds between two requests.
const GAP_MEAN_S: f64 = 0.180_827;
/// What is generated unless a number is asked for: as many as the trace it was fitted to has.
pub(crate) const REQUESTS: usize = 19_366;
/// 2023-11-16T18:15:46Z, the start of the trace it was fitted to.
const START: Micros = Micros(1_700_158_546_000_000);

/// (probability, tokens)
const CONTEXT: [(f64, f64); 12] = [
    (0.0, 2.0),
    (0.01, 29.0),
    (0.05, 181.0),
    (0.1, 207.0),
    (0.25, 396.0),
    (0.5, 1_020.0),
    (0.75, 1_189.0),
    (0.9, 2_735.0),
    (0.95, 4_083.0),
    (0.99, 4_142.0),
    (0.999, 6_212.0),
    (1.0, 14_050.0),
];
const GENERATED: [(f64, f64); 12] = [
    (0.0, 7.0),
    (0.01, 16.0),
    (0.05, 41.0),
    (0.1, 54.0),
    (0.25, 85.0),
    (0.5, 129.0),
    (0.75, 395.0),
    (0.9, 424.0),
    (0.95, 451.0),
    (0.99, 601.0),
    (0.999, 954.0),
    (1.0, 1_000.0),
];

/// `requests` requests, the same for the same seed.
pub(crate) fn generate(requests: usize, seed: u64) -> Vec<TraceRequest> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut at_s = 0.0;
    (0..requests)
        .map(|_| {
            // 1 - u is in (0, 1], so its logarithm is finite.
            at_s -= (1.0 - rng.random::<f64>()).ln() * GAP_MEAN_S;
            let tokens = draw(&CONTEXT, &mut rng) + draw(&GENERATED, &mut rng);
            TraceRequest { at: START.saturating_add((at_s * 1e6) as u64), tokens, user: None }
        })
        .collect()
}

/// Inverse of the distribution whose quantiles these are.
fn draw(quantiles: &[(f64, f64)], rng: &mut ChaCha8Rng) -> u64 {
    let p = rng.random::<f64>();
    let above = quantiles.partition_point(|(q, _)| *q <= p).clamp(1, quantiles.len() - 1);
    let ((p0, low), (p1, high)) = (quantiles[above - 1], quantiles[above]);
    let share = (p - p0) / (p1 - p0);
    (low.ln() + share * (high / low).ln()).exp().round() as u64
}

/// Writes a trace as the csv that `trace play` reads.
pub(crate) fn write(requests: &[TraceRequest], out: impl std::io::Write) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["time", "tokens"])?;
    for request in requests {
        csv.write_record([request.at.to_rfc3339(), request.tokens.to_string()])?;
    }
    Ok(csv.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_trace_and_it_reads_back() {
        let trace = generate(500, 7);
        assert_eq!(trace, generate(500, 7));
        assert_ne!(trace, generate(500, 8));
        let mut text = Vec::new();
        write(&trace, &mut text).unwrap();
        assert_eq!(super::super::file::parse(&text[..]).unwrap(), trace);
    }

    #[test]
    fn the_shape_is_that_of_the_fitted_trace() {
        let trace = generate(REQUESTS, 1);
        let mean = trace.iter().map(|r| r.tokens as f64).sum::<f64>() / trace.len() as f64;
        let hours = trace[trace.len() - 1].at.since(trace[0].at) as f64 / 3.6e9;
        assert!((1_200.0..1_600.0).contains(&mean), "mean of {mean} tokens (fitted: 1,366)");
        assert!((0.9..1.05).contains(&hours), "{hours} hours (fitted: 0.97)");
    }
}
