//! How the contexts of a run are held, who is asked before they are used, and the run's number.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Hosts, Run};
use crate::audit::{Audit, Refusals};
use crate::caller::Ask;
use crate::lifetime::Rules;
use crate::route::Route;

/// What a run brings with it beside its hosts.
pub(super) struct Holding {
    /// Its number, for the audit log.
    id: u64,
    /// How its contexts are held.
    pub(super) rules: Rules,
    /// Who is asked before a session, if not the process that asked for the session.
    pub(super) opener: Option<Arc<dyn Ask>>,
}

impl Default for Holding {
    fn default() -> Holding {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Holding { id, rules: Rules::default(), opener: None }
    }
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holding").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Run {
    /// Has its contexts held by these rules.
    #[must_use]
    pub fn held_by(self, rules: Rules) -> Run {
        Run { holding: Holding { rules, ..self.holding }, ..self }
    }

    /// Has this person asked before each use of a context where that is wanted, and not whoever
    /// asks for a session: that one has the tool's environment, and could answer itself.
    #[must_use]
    pub fn confirmed_by(self, opener: Arc<dyn Ask>) -> Run {
        Run { holding: Holding { opener: Some(opener), ..self.holding }, ..self }
    }

    pub(crate) fn id(&self) -> u64 {
        self.holding.id
    }

    /// Where its names lead, as far as that is known before any command line is.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &Route)> {
        let (on, destination, routes) = match &self.hosts {
            Hosts::Mapped { on, destination, routes } => {
                (on.as_ref(), destination.as_ref(), Some(routes))
            }
            Hosts::CommandLine { .. } => (None, None, None),
        };
        let routes = routes.into_iter().flatten().map(|(name, route)| (name.as_str(), route));
        let on = on.map(|route| ("--on", route));
        let destination = destination.map(|destination| ("", &destination.route));
        on.into_iter().chain(destination).chain(routes)
    }

    /// What is noted of its refusals.
    pub(crate) fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    pub(crate) fn audit(&self) -> &Audit {
        self.registry.audit()
    }
}
