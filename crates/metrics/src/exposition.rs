//! The page that is scraped: OpenMetrics, made for all who ask at once.

use bytes::Bytes;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Whoever scrapes gets this form, whatever he says he takes: every Prometheus since 2.5 reads it.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry, as pages of text.
///
/// One page is made at a time, and whoever has come before it was begun gets it: ten scrapers at once cost two
/// pages, and none of them gets figures from before it asked. A page is made beside the runtime, holding the lock of
/// no more than one metric at a time, so that requests go on.
#[derive(Debug)]
pub struct Exposition {
    registry: Arc<Registry>,
    begun: AtomicU64,
    last: Mutex<Page>,
}

/// The text, and the how many-th it is.
#[derive(Debug, Default)]
struct Page {
    number: u64,
    text: Bytes,
}

impl Exposition {
    pub fn new(registry: Registry) -> Self {
        Self { registry: Arc::new(registry), begun: AtomicU64::new(0), last: Mutex::default() }
    }

    /// The figures as they are now, or a little later.
    ///
    /// # Errors
    /// When a metric cannot be written, which is a mistake of ours.
    pub async fn page(&self) -> Result<Bytes, fmt::Error> {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.number > begun {
            return Ok(last.text.clone());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let (registry, size) = (self.registry.clone(), last.text.len());
        let made = tokio::task::spawn_blocking(move || page_of(&registry, size)).await;
        let text = Bytes::from(made.map_err(|_| fmt::Error)??);
        *last = Page { number, text: text.clone() };
        Ok(text)
    }
}

/// `size` is about how long it will be: the last one's.
fn page_of(registry: &Registry, size: usize) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(size + size / 8);
    encode_registry(&mut text, registry)?;
    let series = text.lines().filter(|line| !line.starts_with('#')).count() + 1;
    writeln!(text, "# HELP cellar_metrics_series Series on this page, this one among them.")?;
    writeln!(text, "# TYPE cellar_metrics_series gauge\ncellar_metrics_series {series}")?;
    encode_eof(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::DescriptorEncoder;
    use prometheus_client::metrics::counter::Counter;

    #[derive(Debug, Clone, Default)]
    struct Made(Arc<AtomicU64>);

    impl Collector for Made {
        fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
            self.0.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(20));
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_page_counts_its_series_and_ends() {
        let (mut registry, counter) = (Registry::default(), Counter::<u64>::default());
        registry.register("cellar_things", "Things", counter.clone());
        let exposition = Exposition::new(registry);
        counter.inc();
        let page = String::from_utf8(exposition.page().await.unwrap().to_vec()).unwrap();
        assert!(page.contains("cellar_things_total 1\n") && page.contains("cellar_metrics_series 2\n"), "{page}");
        assert!(page.ends_with("# EOF\n"));
    }

    /// Goal: scrapers share pages, and none gets one from before it asked.
    #[tokio::test]
    async fn ten_at_once_cost_two_pages_and_each_next_one_is_new() {
        let (mut registry, made, counter) = (Registry::default(), Made::default(), Counter::<u64>::default());
        registry.register("cellar_things", "Things", counter.clone());
        registry.register_collector(Box::new(made.clone()));
        let exposition = Arc::new(Exposition::new(registry));
        let scrapers: Vec<_> = (0..10)
            .map(|_| {
                let exposition = exposition.clone();
                tokio::spawn(async move { exposition.page().await.unwrap() })
            })
            .collect();
        for scraper in scrapers {
            assert!(scraper.await.unwrap().ends_with(b"# EOF\n"));
        }
        let pages = made.0.load(Ordering::SeqCst);
        assert!((1..=2).contains(&pages), "{pages}");
        counter.inc();
        let page = String::from_utf8(exposition.page().await.unwrap().to_vec()).unwrap();
        assert!(page.contains("cellar_things_total 1\n"), "{page}");
        assert_eq!(made.0.load(Ordering::SeqCst), pages + 1);
    }
}
