//! How long a context is held, and what for.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use super::{Context, ContextId, Serving};
use crate::lifetime::{Ends, Expiry, InUse, Moment, Persist, Use};
use crate::link::LinkLost;
use crate::start::StartError;

/// Why nothing begins in a context that has come to its end. It is a moment before its link is
/// closed.
pub(super) fn just_ended() -> LinkLost {
    LinkLost("the connection was not used for long, and was just closed; try again".into())
}

impl Context {
    /// Has it held for a moment only, unless somebody has it held for longer: see
    /// [`Expiry::hold_briefly`].
    pub(crate) fn hold_briefly(&self, is_brief: bool) {
        self.uses.with(|expiry| expiry.hold_briefly(is_brief));
    }

    /// What tells it from all others, of the same name too.
    pub fn id(&self) -> ContextId {
        self.id
    }

    /// Host name or address, and port, of the nearest SSH connection; `None` if there is none.
    pub fn address(&self) -> Option<(&str, u16)> {
        self.address.as_ref().map(|(host, port)| (host.as_str(), *port))
    }

    /// Why each session has an SSH channel of its own; `None` if a slave serves them.
    pub fn why_direct(&self) -> Option<Arc<StartError>> {
        match &self.serving {
            Serving::Slave(_) => None,
            Serving::Direct(_, starting) => starting.why_none(),
        }
    }

    /// When the connection was made.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Sessions that run now.
    pub fn sessions(&self) -> usize {
        self.uses.with(|expiry| expiry.sessions())
    }

    /// Sessions that were started since the beginning.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Whether something new may begin in it: it is not lost, not just being closed, and not past
    /// its certificate's end.
    pub fn is_usable(&self) -> bool {
        let is_over = self.uses.with(|expiry| expiry.is_over());
        !is_over && !self.is_lost() && !self.is_outdated(SystemTime::now())
    }

    /// When it ends if nobody uses it until then; `None` while it is used, and where it ends never
    /// by itself.
    pub fn ends_at(&self) -> Option<SystemTime> {
        let now = (Moment::now(), SystemTime::now());
        let unused = match self.uses.with(|expiry| expiry.ends()) {
            Ends::At(moment) => Some(now.1 + moment.0.saturating_sub(now.0.0)),
            Ends::InUse | Ends::Never => None,
        };
        if self.is_busy() { None } else { crate::auth::earlier(unused, self.certificate_end) }
    }

    /// How long it is held while nothing runs in it.
    pub fn persist(&self) -> Persist {
        self.uses.with(|expiry| expiry.persist())
    }

    /// Whether a session runs in it, or something hangs on it.
    pub fn is_busy(&self) -> bool {
        self.uses.with(|expiry| expiry.is_busy())
    }

    /// Whether a person has to answer something to get here again: a password, a passphrase, or
    /// what a change of account asks.
    pub fn needs_answer(&self) -> bool {
        self.needs_answer
    }

    /// Whether the person is asked before each session: here, or in what this hangs on. A client
    /// that says no rules must not get behind a context that others have to be asked for.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.uses.with(|expiry| expiry.is_confirmed())
            || self.base.as_ref().is_some_and(|base| base.is_confirmed())
    }

    /// When the first certificate ends by which it was reached.
    pub(super) fn certificate_end(&self) -> Option<SystemTime> {
        self.certificate_end
    }

    /// Whether a certificate has ended by which it was reached.
    pub(super) fn is_outdated(&self, now: SystemTime) -> bool {
        self.certificate_end.is_some_and(|end| end <= now)
    }

    /// Holds it until the result is dropped; `None` if it is just being closed.
    pub(crate) fn hold(&self, kind: Use) -> Option<InUse> {
        self.uses.begin(kind)
    }

    /// Whether it hangs on the other one.
    pub(super) fn is_behind(&self, other: &Arc<Context>) -> bool {
        let mut bases = std::iter::successors(self.base(), |context| context.base());
        bases.any(|context| Arc::ptr_eq(context, other))
    }

    /// The context that it hangs on.
    pub(super) fn base(&self) -> Option<&Arc<Context>> {
        self.base.as_ref()
    }

    /// It is closed, and uses what it hung on no longer.
    pub(super) fn let_go_of_base(&self) {
        self.use_of_base.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Looks at its uses, or changes how long it is held.
    pub(super) fn expiry<T>(&self, look: impl FnOnce(&mut Expiry) -> T) -> T {
        self.uses.with(look)
    }
}
