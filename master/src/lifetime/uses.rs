//! The uses of one context, shared by all who use it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::alarm::Alarm;
use super::{Ends, Expiry, Moment, Use};

/// The uses of one context.
#[derive(Debug)]
pub(crate) struct Uses {
    expiry: Mutex<Expiry>,
    alarm: Arc<Alarm>,
}

impl Uses {
    /// Of a context that was just made, and whose end this alarm is set to.
    pub(crate) fn new(alarm: Arc<Alarm>) -> Arc<Uses> {
        let uses = Uses { expiry: Mutex::new(Expiry::new(Moment::now())), alarm };
        uses.set_alarm(uses.lock().ends());
        Arc::new(uses)
    }

    /// Begins a use; `None` where the context is just being closed.
    pub(crate) fn begin(self: &Arc<Self>, kind: Use) -> Option<InUse> {
        self.lock().begin(kind).then(|| InUse { uses: self.clone(), kind })
    }

    /// Looks at, or changes, what is known. The alarm is set to what it has become.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Expiry) -> T) -> T {
        let (looked, ends) = {
            let mut expiry = self.lock();
            (look(&mut expiry), expiry.ends())
        };
        self.set_alarm(ends);
        looked
    }

    fn set_alarm(&self, ends: Ends) {
        if let Ends::At(moment) = ends {
            self.alarm.no_later_than(moment);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Expiry> {
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A use of a context, until it is dropped.
#[derive(Debug)]
pub(crate) struct InUse {
    uses: Arc<Uses>,
    kind: Use,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let now = Moment::now();
        self.uses.with(|expiry| expiry.end(self.kind, now));
    }
}
