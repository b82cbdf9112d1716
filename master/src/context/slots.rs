//! One of each: whoever wants what another is just making waits for it, and shares its success or
//! its failure.
//!
//! A login must never be tried thirty times because thirty programs start at once. But where one
//! fails because its caller could not be asked, the next caller perhaps can be.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Most attempts that fail while somebody waits, before their failure is shared whatever it is.
/// Servers and their guards (fail2ban: 5) take more for an attack.
const MOST_FAILURES: u64 = 3;

/// Values by key, each made once.
#[derive(Debug)]
pub(super) struct Slots<K, V, E> {
    slots: Mutex<HashMap<K, Arc<Slot<V, E>>>>,
}

#[derive(Debug)]
struct Slot<V, E> {
    /// Attempts that have ended.
    ended: AtomicU64,
    /// The value, or the last attempt's failure. Held while an attempt is made.
    state: tokio::sync::Mutex<Option<Result<V, E>>>,
}

impl<K: Clone + Eq + Hash, V: Clone, E: Clone> Slots<K, V, E> {
    pub(super) fn new() -> Slots<K, V, E> {
        Slots { slots: Mutex::new(HashMap::new()) }
    }

    /// The value of a key, where `usable` says that it still serves; else what `make` makes.
    ///
    /// Who comes while another makes it gets what that one got; a failure too, where `shared` says
    /// that it is not that other caller's alone. Cancelled, the next one in line makes it instead.
    pub(super) async fn get(
        &self,
        key: &K,
        usable: impl Fn(&V) -> bool,
        shared: impl Fn(&E) -> bool,
        make: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(key.clone()).or_insert_with(|| Arc::new(Slot::new())).clone()
        };
        let ended_before = slot.ended.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        let waited_for = slot.ended.load(Ordering::Acquire) - ended_before;
        match &*state {
            Some(Ok(value)) if usable(value) => return Ok(value.clone()),
            Some(Err(error)) if waited_for >= MOST_FAILURES => return Err(error.clone()),
            Some(Err(error)) if waited_for > 0 && shared(error) => return Err(error.clone()),
            _ => {}
        }
        *state = None;
        let made = make().await;
        *state = Some(made.clone());
        slot.ended.fetch_add(1, Ordering::Release);
        made
    }

    /// The value of a key, if it was made and nobody makes it anew just now.
    pub(super) fn peek(&self, key: &K) -> Option<V> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let state = slots.get(key)?.state.try_lock().ok()?;
        state.as_ref()?.as_ref().ok().cloned()
    }

    /// All values that were made, with their keys.
    pub(super) fn entries(&self) -> Vec<(K, V)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = slots.iter().filter_map(|(key, slot)| {
            let state = slot.state.try_lock().ok()?;
            Some((key.clone(), state.as_ref()?.as_ref().ok().cloned()?))
        });
        entries.collect()
    }

    /// Forgets failures, and values for which `keep` is false, unless somebody makes one anew or is
    /// about to: what is made must be where the next one looks.
    pub(super) fn retain(&self, keep: impl Fn(&V) -> bool) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| match slot.state.try_lock() {
            // Nobody gets hold of a slot while the map is locked.
            Ok(_) if Arc::strong_count(slot) > 1 => true,
            Ok(state) => matches!(&*state, Some(Ok(value)) if keep(value)),
            Err(_) => true,
        });
    }
}

impl<V, E> Slot<V, E> {
    fn new() -> Slot<V, E> {
        Slot { ended: AtomicU64::new(0), state: tokio::sync::Mutex::new(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[tokio::test]
    async fn many_at_once_make_one_and_share_it() {
        let slots: Arc<Slots<u8, usize, ()>> = Arc::new(Slots::new());
        let made = Arc::new(AtomicUsize::new(0));
        let tasks = (0..50).map(|_| {
            let (slots, made) = (slots.clone(), made.clone());
            tokio::spawn(async move {
                let make = async || {
                    tokio::task::yield_now().await;
                    Ok(made.fetch_add(1, Ordering::SeqCst))
                };
                slots.get(&1, |_| true, |()| true, make).await
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            assert_eq!(task.await.unwrap(), Ok(0));
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn those_who_waited_share_a_failure_and_later_ones_try_again() {
        let slots: Slots<u8, (), u32> = Slots::new();
        let tries = AtomicUsize::new(0);
        let attempt = || {
            slots.get(
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
        let slots: Slots<u8, u32, ()> = Slots::new();
        let get = async |usable, made| {
            slots.get(&1, |_| usable, |()| true, async || Ok(made)).await.unwrap()
        };
        assert_eq!(get(true, 1).await, 1);
        assert_eq!(get(true, 2).await, 1);
        assert_eq!(get(false, 3).await, 3);
        slots.retain(|_| false);
        assert!(slots.entries().is_empty() && slots.slots.lock().unwrap().is_empty());
    }

    /// What those get who come at once, of whom `answers` can be asked.
    async fn together(answers: &[bool]) -> (Vec<Result<usize, &'static str>>, usize) {
        let slots: Arc<Slots<u8, usize, &'static str>> = Arc::new(Slots::new());
        let tries = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for (number, answers) in answers.iter().copied().enumerate() {
            let (slots, tries) = (slots.clone(), tries.clone());
            tasks.push(tokio::spawn(async move {
                let make = async || {
                    tries.fetch_add(1, Ordering::SeqCst);
                    // The others come meanwhile.
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    if answers { Ok(number) } else { Err("nobody to ask") }
                };
                slots.get(&1, |_| true, |_| false, make).await
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
        let slots: Slots<u8, u32, ()> = Slots::new();
        let forever = async || std::future::pending().await;
        let mut first = Box::pin(slots.get(&1, |_| true, |()| true, forever));
        let mut second = Box::pin(slots.get(&1, |_| true, |()| true, async || Ok(2)));
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
    async fn a_slot_that_somebody_is_about_to_use_stays() {
        let slots: Slots<u8, u32, ()> = Slots::new();
        slots.get(&1, |_| true, |()| true, async || Ok(1)).await.unwrap();
        let about_to_use = slots.slots.lock().unwrap().get(&1).cloned();
        slots.retain(|_| false);
        assert_eq!(slots.entries(), [(1, 1)]);
        drop(about_to_use);
        slots.retain(|_| false);
        assert!(slots.entries().is_empty());
    }
}
