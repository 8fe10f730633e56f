//! Who asks: users assigned to requests that have none, and tiers assigned to users.

use super::file::TraceRequest;
use cellar_model::TierName;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};
use std::collections::HashMap;

/// One user of a play.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Person {
    /// A number, or the label of the trace's user column: what reports call him.
    pub(crate) label: String,
    pub(crate) tier: TierName,
}

/// How users are made up.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    pub(crate) users: usize,
    pub(crate) zipf: f64,
    pub(crate) seed: u64,
    /// Tiers with their shares in percent.
    pub(crate) tiers: Vec<(TierName, u32)>,
}

impl Crowd {
    /// The users, and for each request the number of the one who sends it.
    pub(crate) fn assign(&self, requests: &[TraceRequest]) -> anyhow::Result<(Vec<Person>, Vec<usize>)> {
        let rng = ChaCha8Rng::seed_from_u64(self.seed);
        let labelled = requests.iter().all(|request| request.user.is_some());
        let (labels, senders) = if labelled { by_label(requests) } else { self.by_zipf(requests.len(), rng)? };
        // Tiers from a stream of their own: another number of requests changes nobody's tier.
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(1));
        let whole: u32 = self.tiers.iter().map(|(_, share)| share).sum();
        anyhow::ensure!(whole > 0, "the tiers' shares add up to nothing");
        let people = labels.into_iter().map(|label| Person { label, tier: self.tier(rng.random_range(0..whole)) });
        Ok((people.collect(), senders))
    }

    fn by_zipf(&self, requests: usize, rng: ChaCha8Rng) -> anyhow::Result<(Vec<String>, Vec<usize>)> {
        let senders = zipf_senders(self.users, self.zipf, rng)?.take(requests).collect();
        Ok(((1..=self.users).map(|n| n.to_string()).collect(), senders))
    }

    fn tier(&self, mut draw: u32) -> TierName {
        for (tier, share) in &self.tiers {
            if draw < *share {
                return tier.clone();
            }
            draw -= share;
        }
        unreachable!("a draw is below the sum of the shares")
    }
}

/// By number from 0, who sends each request in the order of their times: the same for the same seed.
pub(crate) fn zipf_senders_of(users: usize, exponent: f64, seed: u64) -> anyhow::Result<impl Iterator<Item = usize>> {
    zipf_senders(users, exponent, ChaCha8Rng::seed_from_u64(seed))
}

fn zipf_senders(users: usize, exponent: f64, mut rng: ChaCha8Rng) -> anyhow::Result<impl Iterator<Item = usize>> {
    let zipf = Zipf::new(users as f64, exponent)
        .map_err(|e| anyhow::anyhow!("{users} users with exponent {exponent}: {e}"))?;
    Ok(std::iter::repeat_with(move || (zipf.sample(&mut rng) as usize).clamp(1, users) - 1))
}

/// One new user a label, in the order of first appearance.
fn by_label(requests: &[TraceRequest]) -> (Vec<String>, Vec<usize>) {
    let (mut labels, mut numbers) = (Vec::new(), HashMap::new());
    let senders = requests.iter().map(|request| {
        let label = request.user.clone().unwrap_or_default();
        *numbers.entry(label.clone()).or_insert_with(|| {
            labels.push(label);
            labels.len() - 1
        })
    });
    let senders = senders.collect();
    (labels, senders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::Micros;

    fn crowd() -> Crowd {
        let tier = |name: &str| TierName::new(name).unwrap();
        Crowd {
            users: 1_000,
            zipf: 1.1,
            seed: 1,
            tiers: vec![(tier("free"), 80), (tier("pro"), 17), (tier("enterprise"), 3)],
        }
    }

    fn requests(n: usize) -> Vec<TraceRequest> {
        vec![TraceRequest { at: Micros(0), tokens: 1, user: None }; n]
    }

    #[test]
    fn a_seed_gives_one_crowd_whose_tiers_do_not_depend_on_the_trace() {
        let (people, senders) = crowd().assign(&requests(5_000)).unwrap();
        assert_eq!(crowd().assign(&requests(5_000)).unwrap(), (people.clone(), senders.clone()));
        assert_eq!(crowd().assign(&requests(10)).unwrap().0, people);
        let free = people.iter().filter(|p| p.tier.as_str() == "free").count();
        assert!((750..850).contains(&free), "{free} of 1,000 are free");
        let first = senders.iter().filter(|s| **s == 0).count();
        assert!((700..1_200).contains(&first), "the first of a Zipf law sent {first} of 5,000");
    }

    #[test]
    fn labels_of_a_user_column_are_one_user_each() {
        let mut requests = requests(3);
        for (request, user) in requests.iter_mut().zip(["b", "a", "b"]) {
            request.user = Some(user.into());
        }
        let (people, senders) = crowd().assign(&requests).unwrap();
        assert_eq!(people.iter().map(|p| p.label.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(senders, [0, 1, 0]);
    }
}
