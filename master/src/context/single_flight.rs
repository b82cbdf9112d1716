//! Single flight: a caller who wants what another caller is just making waits for it, and shares its
//! success or its failure.
//!
//! A login must never be tried thirty times because thirty programs start at once. But if an
//! attempt fails because its caller could not be asked, perhaps the next caller can be.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Most attempts that may fail while a caller waits; then the caller shares the failure, whatever
/// it is. Servers and their guards (fail2ban: 5) take more for an attack.
const MOST_FAILURES: u64 = 3;

/// Values by key, each made by one caller at a time.
#[derive(Debug)]
pub(super) struct SingleFlight<K, V, E> {
    flights: Mutex<HashMap<K, Arc<Flight<V, E>>>>,
}

#[derive(Debug)]
struct Flight<V, E> {
    /// Attempts that have ended.
    ended: AtomicU64,
    /// The value, or the last attempt's failure. Held while an attempt is made.
    state: tokio::sync::Mutex<Option<Result<V, E>>>,
}

impl<K: Clone + Eq + Hash, V: Clone, E: Clone> SingleFlight<K, V, E> {
    pub(super) fn new() -> SingleFlight<K, V, E> {
        SingleFlight { flights: Mutex::new(HashMap::new()) }
    }

    /// Gets the value of a key, if `usable` says that it still serves; else makes it with `make`.
    ///
    /// A caller who comes while another makes the value gets the same. It also gets the other's
    /// failure, if `shared` says that the failure is not the other caller's alone. If this is
    /// cancelled, the next caller in line makes the value instead.
    pub(super) async fn get(
        &self,
        key: &K,
        usable: impl Fn(&V) -> bool,
        shared: impl Fn(&E) -> bool,
        make: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.entry(key.clone()).or_insert_with(|| Arc::new(Flight::new())).clone()
        };
        let ended_before = flight.ended.load(Ordering::Acquire);
        let mut state = flight.state.lock().await;
        let waited_for = flight.ended.load(Ordering::Acquire) - ended_before;
        match &*state {
            Some(Ok(value)) if usable(value) => return Ok(value.clone()),
            Some(Err(error)) if waited_for >= MOST_FAILURES => return Err(error.clone()),
            Some(Err(error)) if waited_for > 0 && shared(error) => return Err(error.clone()),
            _ => {}
        }
        *state = None;
        let made = make().await;
        *state = Some(made.clone());
        flight.ended.fetch_add(1, Ordering::Release);
        made
    }

    /// The value of a key, if it was made and nobody is making it anew.
    pub(super) fn peek(&self, key: &K) -> Option<V> {
        let flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let state = flights.get(key)?.state.try_lock().ok()?;
        state.as_ref()?.as_ref().ok().cloned()
    }

    /// All values that were made, with their keys.
    pub(super) fn entries(&self) -> Vec<(K, V)> {
        let flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = flights.iter().filter_map(|(key, flight)| {
            let state = flight.state.try_lock().ok()?;
            Some((key.clone(), state.as_ref()?.as_ref().ok().cloned()?))
        });
        entries.collect()
    }

    /// Forgets failures, and values for which `keep` is false. A value that somebody makes anew, or is
    /// about to, stays: the next caller must find what is made.
    pub(super) fn retain(&self, keep: impl Fn(&V) -> bool) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| match flight.state.try_lock() {
            // Nobody gets hold of a flight while the map is locked.
            Ok(_) if Arc::strong_count(flight) > 1 => true,
            Ok(state) => matches!(&*state, Some(Ok(value)) if keep(value)),
            Err(_) => true,
        });
    }
}

impl<V, E> Flight<V, E> {
    fn new() -> Flight<V, E> {
        Flight { ended: AtomicU64::new(0), state: tokio::sync::Mutex::new(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[tokio::test]
    async fn many_at_once_make_one_and_share_it() {
        let flights: Arc<SingleFlight<u8, usize, ()>> = Arc::new(SingleFlight::new());
        let made = Arc::new(AtomicUsize::new(0));
        let tasks = (0..50).map(|_| {
            let (flights, made) = (flights.clone(), made.clone());
            tokio::spawn(async move {
                let make = async || {
                    tokio::task::yield_now().await;
                    Ok(made.fetch_add(1, Ordering::SeqCst))
                };
                flights.get(&1, |_| true, |()| true, make).await
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            assert_eq!(task.await.unwrap(), Ok(0));
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn those_who_waited_share_a_failure_and_later_ones_try_again() {
        let flights: SingleFlight<u8, (), u32> = SingleFlight::new();
        let tries = AtomicUsize::new(0);
        let attempt = || {
            flights.get(
                &1,
                |()| true,
                |_| true,
                async || {
                    tokio::task::yield_now().await;
                    Err(tries.fetch_add(1, Ordering::SeqCst) as u32)
                },
            )
        };
        let (first, second) = tokio::join!(attempt(), attempt());
        assert_eq!((first, second), (Err(0), Err(0)));
        assert_eq!(attempt().await, Err(1));
    }

    #[tokio::test]
    async fn what_is_no_longer_usable_is_made_anew() {
        let flights: SingleFlight<u8, u32, ()> = SingleFlight::new();
        let get = async |usable, made| {
            flights.get(&1, |_| usable, |()| true, async || Ok(made)).await.unwrap()
        };
        assert_eq!(get(true, 1).await, 1);
        assert_eq!(get(true, 2).await, 1);
        assert_eq!(get(false, 3).await, 3);
        flights.retain(|_| false);
        assert!(flights.entries().is_empty() && flights.flights.lock().unwrap().is_empty());
    }

    /// What those get who come at once, of whom `answers` can be asked.
    async fn together(answers: &[bool]) -> (Vec<Result<usize, &'static str>>, usize) {
        let flights: Arc<SingleFlight<u8, usize, &'static str>> = Arc::new(SingleFlight::new());
        let tries = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for (number, answers) in answers.iter().copied().enumerate() {
            let (flights, tries) = (flights.clone(), tries.clone());
            tasks.push(tokio::spawn(async move {
                let make = async || {
                    tries.fetch_add(1, Ordering::SeqCst);
                    // The others come meanwhile.
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    if answers { Ok(number) } else { Err("nobody to ask") }
                };
                flights.get(&1, |_| true, |_| false, make).await
            }));
        }
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.unwrap());
        }
        (results, tries.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_failure_of_the_first_caller_alone_is_not_that_of_the_next() {
        let nobody = Err("nobody to ask");
        let (results, tries) = together(&[false, true, true]).await;
        assert_eq!((results, tries), (vec![nobody, Ok(1), Ok(1)], 2));
        // But servers are not asked for ever.
        let (results, tries) = together(&[false; 30]).await;
        assert_eq!((results, tries), (vec![nobody; 30], 3));
    }

    #[tokio::test]
    async fn a_first_caller_that_goes_away_leaves_the_rest_to_the_next() {
        let flights: SingleFlight<u8, u32, ()> = SingleFlight::new();
        let forever = async || std::future::pending().await;
        let mut first = Box::pin(flights.get(&1, |_| true, |()| true, forever));
        let mut second = Box::pin(flights.get(&1, |_| true, |()| true, async || Ok(2)));
        tokio::select! {
            biased;
            _ = &mut first => unreachable!(),
            _ = &mut second => panic!("it did not wait"),
            () = std::future::ready(()) => {}
        }
        drop(first);
        assert_eq!(second.await, Ok(2));
    }

    #[tokio::test]
    async fn a_flight_that_somebody_is_about_to_use_stays() {
        let flights: SingleFlight<u8, u32, ()> = SingleFlight::new();
        flights.get(&1, |_| true, |()| true, async || Ok(1)).await.unwrap();
        let about_to_use = flights.flights.lock().unwrap().get(&1).cloned();
        flights.retain(|_| false);
        assert_eq!(flights.entries(), [(1, 1)]);
        drop(about_to_use);
        flights.retain(|_| false);
        assert!(flights.entries().is_empty());
    }
}
