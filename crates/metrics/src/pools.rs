//! Connections to databases, as their pools have them at the scrape.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;

/// Connections in use, and the most there can be.
pub type Use = (u32, u32);

type Used = Box<dyn Fn() -> Use + Send + Sync>;

/// The pools of a process, by name.
pub struct Pools(Vec<(&'static str, Used)>);

/// One of the two families: name, help, and which of the figures it shows.
type Shown = (&'static str, &'static str, fn(Use) -> u32);

impl Pools {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn with(mut self, name: &'static str, used: impl Fn() -> Use + Send + Sync + 'static) -> Self {
        self.0.push((name, Box::new(used)));
        self
    }

    /// Adds `db_connection_pool_in_use` and `_max`, by pool.
    pub fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }
}

impl Default for Pools {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Collector for Pools {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let uses: Vec<(&str, Use)> = self.0.iter().map(|(name, used)| (*name, used())).collect();
        let families: [Shown; 2] = [
            ("db_connection_pool_in_use", "Connections in use, by pool.", |(in_use, _)| in_use),
            ("db_connection_pool_max", "The most connections that there can be, by pool.", |(_, max)| max),
        ];
        for (name, help, value) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (pool, used) in &uses {
                let gauge = ConstGauge::new(i64::from(value(*used)));
                gauge.encode(family.encode_family(&[("pool", *pool)])?)?;
            }
        }
        Ok(())
    }
}
