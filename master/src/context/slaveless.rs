//! Remembers where no slave can run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::start::StartError;

use super::segment::Key;

/// How long it is remembered that no slave can run somewhere, for reasons that last. Then, and
/// after its context was closed, a slave is tried again: somebody may have changed the host.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The places in which no slave can run, why, and since when that is known.
#[derive(Debug, Default)]
pub(super) struct Slaveless(Mutex<HashMap<Key, (Arc<StartError>, Instant)>>);

impl Slaveless {
    /// Notes why no slave runs somewhere, if that counts the next time; else that one can.
    pub(super) fn note(&self, key: &Key, why: Option<Arc<StartError>>) {
        match why.filter(|why| why.is_lasting()) {
            Some(why) => drop(self.lock().insert(key.clone(), (why, Instant::now()))),
            None => drop(self.lock().remove(key)),
        }
    }

    /// Why no slave runs there, as far as that is known.
    pub(super) fn why(&self, key: &Key) -> Option<Arc<StartError>> {
        let mut slaveless = self.lock();
        slaveless.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        slaveless.get(key).map(|(why, _)| why.clone())
    }

    /// Forgets places, so that a slave is tried there again.
    pub(super) fn forget(&self, is_forgotten: impl Fn(&Key) -> bool) {
        self.lock().retain(|key, _| !is_forgotten(key));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (Arc<StartError>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
