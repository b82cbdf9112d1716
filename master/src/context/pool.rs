//! The contexts and connections of a master, by what they are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::audit::Audit;
use crate::hop::ssh::WeakConnection;
use crate::lifetime::alarm::Alarm;

use super::segment::Key;
use super::single_flight::SingleFlight;
use super::slaveless::Slaveless;
use super::{Context, ContextError};

/// A context with its key.
pub(super) type Keyed = (Key, Arc<Context>);

/// Everything that attempts share.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) contexts: SingleFlight<Key, Arc<Context>, ContextError>,
    /// SSH connections, held by the contexts at their ends and by those that go through them.
    pub(super) connections: SingleFlight<Key, WeakConnection, ContextError>,
    pub(super) slaveless: Slaveless,
    /// Contexts whose certificate has ended while sessions ran: others may be in their places.
    outdated: Mutex<Vec<Keyed>>,
    /// When somebody has to look for contexts that are to end.
    pub(super) alarm: Arc<Alarm>,
    pub(super) audit: Audit,
}

impl Pool {
    pub(super) fn new(audit: Audit) -> Pool {
        Pool {
            contexts: SingleFlight::new(),
            connections: SingleFlight::new(),
            slaveless: Slaveless::default(),
            outdated: Mutex::default(),
            alarm: Arc::default(),
            audit,
        }
    }

    /// The contexts that are connected now, with their keys.
    pub(super) fn keyed(&self) -> Vec<Keyed> {
        self.forget_lost();
        let outdated = self.outdated();
        // First, so that those in their places are nearer to what hangs on both.
        let mut keyed = outdated.clone();
        let mut current = self.contexts.entries();
        current.retain(|(_, one)| !outdated.iter().any(|(_, other)| Arc::ptr_eq(one, other)));
        keyed.append(&mut current);
        keyed
    }

    /// Forgets what is connected no longer.
    pub(super) fn forget_lost(&self) {
        self.contexts.retain(|context| !context.is_lost());
        self.outdated().retain(|(_, context)| !context.is_lost());
        self.connections.retain(is_usable);
    }

    /// Puts a context aside whose certificate has ended while sessions run in it: another one takes
    /// its place.
    pub(super) fn make_room(&self, key: &Key) {
        let Some(context) = self.contexts.peek(key) else { return };
        let mut outdated = self.outdated();
        let is_there = outdated.iter().any(|(_, other)| Arc::ptr_eq(other, &context));
        if !is_there && !context.is_lost() && context.is_outdated(SystemTime::now()) {
            outdated.push((key.clone(), context));
        }
    }

    /// Whether a context hangs on another one.
    pub(super) fn hangs_on(&self, one: &Keyed, root: &Keyed) -> bool {
        let outdated = self.outdated();
        let is_outdated = |context| outdated.iter().any(|(_, other)| Arc::ptr_eq(other, context));
        // If one is in the place of another, the keys don't say which of them it is.
        if is_outdated(&one.1) || is_outdated(&root.1) {
            return one.1.is_behind(&root.1);
        }
        is_behind(&one.0, &root.0)
    }

    fn outdated(&self) -> MutexGuard<'_, Vec<Keyed>> {
        self.outdated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a context of the first key hangs on one of the second.
pub(super) fn is_behind(key: &Key, root: &Key) -> bool {
    key.len() > root.len() && key.starts_with(root)
}

/// Whether something new may go through a connection.
pub(super) fn is_usable(weak: &WeakConnection) -> bool {
    let now = SystemTime::now();
    weak.upgrade().is_some_and(|connection| {
        !connection.is_closed() && connection.certificate_end().is_none_or(|end| now < end)
    })
}
