//! Work that many ask for at once, and that is done once: who comes while it is under way joins it.

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// `None`: it panicked.
pub(crate) type Flight<T> = Shared<BoxFuture<'static, Option<T>>>;

/// What is under way, by what it is for. Whoever starts something bounds how much there is.
pub(crate) struct Flights<K, T>(Arc<Mutex<HashMap<K, Flight<T>>>>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Clone + Send + Sync + 'static> Flights<K, T> {
    /// What is under way for `key`, or what `start` makes of how many others there are. It goes to its end
    /// whoever gives up, and is then off the list, however it ended.
    pub(crate) fn join<F, E>(&self, key: K, start: impl FnOnce(usize) -> Result<F, E>) -> Result<Flight<T>, E>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut under_way = lock(&self.0);
        if let Some(flight) = under_way.get(&key) {
            return Ok(flight.clone());
        }
        let work = start(under_way.len())?;
        let ends = Ends { key: key.clone(), flights: self.0.clone() };
        let task = async move {
            // It takes itself off the list after this call has put it there: both hold the lock.
            let _ends = ends;
            work.await
        };
        let flight = tokio::spawn(cellar_trace::carry(task)).map(Result::ok).boxed().shared();
        under_way.insert(key, flight.clone());
        Ok(flight)
    }
}

struct Ends<K: Eq + Hash, T: Clone> {
    key: K,
    flights: Arc<Mutex<HashMap<K, Flight<T>>>>,
}

impl<K: Eq + Hash, T: Clone> Drop for Ends<K, T> {
    fn drop(&mut self) {
        lock(&self.flights).remove(&self.key);
    }
}

fn lock<T>(flights: &Mutex<T>) -> MutexGuard<'_, T> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn who_comes_meanwhile_joins_and_who_comes_after_starts_anew() {
        let (flights, go) = (Flights::<&str, u32>::default(), Arc::new(Notify::new()));
        let start = |answer: u32| {
            let go = go.clone();
            move |_| {
                Ok::<_, Infallible>(async move {
                    go.notified().await;
                    answer
                })
            }
        };
        let first = flights.join("a", start(1)).unwrap();
        let second = flights.join("a", start(2)).unwrap();
        go.notify_one();
        assert_eq!((first.await, second.await), (Some(1), Some(1)));
        go.notify_one();
        assert_eq!(flights.join("a", start(3)).unwrap().await, Some(3));
    }

    #[tokio::test]
    async fn one_that_panics_has_failed_and_stands_in_nobodys_way() {
        let flights = Flights::<&str, u32>::default();
        let broken = |_| Ok::<_, Infallible>(async { panic!("as it is meant to") });
        assert_eq!(flights.join("a", broken).unwrap().await, None);
        let whole = |others| Ok::<_, Infallible>(async move { others as u32 });
        assert_eq!(flights.join("a", whole).unwrap().await, Some(0));
    }
}
