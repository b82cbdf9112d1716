//! One of each: whoever wants what another is just making waits for it, and shares its success or
//! its failure.
//!
//! A login must never be tried thirty times because thirty programs start at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Who comes while another makes it gets what that one got, a failure too. Cancelled, the next
    /// one in line makes it instead.
    pub(super) async fn get(
        &self,
        key: &K,
        usable: impl Fn(&V) -> bool,
        make: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(key.clone()).or_insert_with(|| Arc::new(Slot::new())).clone()
        };
        let ended_before = slot.ended.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        let shared = slot.ended.load(Ordering::Acquire) != ended_before;
        match &*state {
            Some(Ok(value)) if usable(value) => return Ok(value.clone()),
            Some(Err(error)) if shared => return Err(error.clone()),
            _ => {}
        }
        *state = None;
        let made = make().await;
        *state = Some(made.clone());
        slot.ended.fetch_add(1, Ordering::Release);
        made
    }

    /// All values that were made.
    pub(super) fn values(&self) -> Vec<V> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let values = slots.values().filter_map(|slot| {
            let state = slot.state.try_lock().ok()?;
            state.as_ref()?.as_ref().ok().cloned()
        });
        values.collect()
    }

    /// Forgets failures, and values for which `keep` is false, unless somebody makes one anew.
    pub(super) fn retain(&self, keep: impl Fn(&V) -> bool) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| match slot.state.try_lock() {
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
                slots.get(&1, |_| true, make).await
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
        assert_eq!(slots.get(&1, |_| true, async || Ok(1)).await, Ok(1));
        assert_eq!(slots.get(&1, |_| true, async || Ok(2)).await, Ok(1));
        assert_eq!(slots.get(&1, |_| false, async || Ok(3)).await, Ok(3));
        slots.retain(|_| false);
        assert!(slots.values().is_empty());
    }
}
