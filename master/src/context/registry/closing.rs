//! How contexts are closed: each with all that hangs on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use fakessh_protocol::failure::{Failure, FailureKind};
use thiserror::Error;
use tokio::task::JoinSet;

use crate::audit::Event;
use crate::lifetime::Moment;

use super::ends::mark_passed;
use super::{Branch, Registry};
use crate::context::pool::Keyed;
use crate::context::{Context, ContextId};

/// Why a context was closed if somebody wanted it.
const ASKED: &str = "somebody asked for it";

/// The same for [`Registry::lock`].
pub(super) const LOCKED: &str = "locked";

/// Why a name does not say which context to close. Its text is one line that says what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CloseError {
    /// No context has it.
    #[error("{0}: there is no connection of this name (fakessh ls)")]
    Missing(String),
    /// Several contexts have it.
    #[error("{name}: {} connections have this name: {}; close one by its id, as in: fakessh close {}",
        .contexts.len(),
        .contexts.iter().map(|(id, what)| format!("{id} ({what})")).collect::<Vec<_>>().join(", "),
        .contexts.first().map(|(id, _)| id.to_string()).unwrap_or_default())]
    Ambiguous {
        /// The name.
        name: String,
        /// Each context that has it: its id, and what tells it from the others.
        contexts: Vec<(ContextId, String)>,
    },
}

impl CloseError {
    /// The same as a failure, for another process.
    pub fn failure(&self) -> Failure {
        let kind = match self {
            CloseError::Missing(_) => FailureKind::NotFound,
            CloseError::Ambiguous { .. } => FailureKind::Refused,
        };
        Failure::new(kind, self.to_string())
    }
}

impl Registry {
    /// Closes contexts by name or id (`@3`) with all that hangs on them, from the far ends inwards.
    /// A name or id that no context has is no reason to leave out the others. Cancelled, some may
    /// stay open.
    ///
    /// # Errors
    /// [`CloseError::Ambiguous`] where several contexts have a name; none is closed then.
    /// [`CloseError::Missing`].
    pub async fn close(&self, names: &[String]) -> Result<(), CloseError> {
        let tree = self.tree();
        let (mut found, mut missing) = (Vec::new(), None);
        for name in names {
            let id: Option<ContextId> = name.parse().ok();
            let is_it = |branch: &&Branch| match id {
                Some(id) => branch.context.id() == id,
                None => branch.context.name() == name,
            };
            let named: Vec<&Branch> = tree.iter().filter(is_it).collect();
            match named.as_slice() {
                [] => missing = missing.or_else(|| Some(name.clone())),
                [one] => found.push(one.context.id()),
                several => {
                    let contexts =
                        several.iter().map(|branch| (branch.context.id(), told(branch, &tree)));
                    let contexts = contexts.collect();
                    return Err(CloseError::Ambiguous { name: name.clone(), contexts });
                }
            }
        }
        self.close_those(|context| found.contains(&context.id()), |_| ASKED.to_owned()).await;
        missing.map_or(Ok(()), |name| Err(CloseError::Missing(name)))
    }

    /// Closes all contexts. Cancelled, some may stay open.
    pub async fn close_all(&self) {
        self.close_those(|_| true, |_| ASKED.to_owned()).await;
    }

    /// Closes the contexts to which nobody gets again without an answer, with all that hangs on
    /// them: those of logins with a password, a passphrase or a second factor, and those behind
    /// sudo, su and doas. With `keeps_busy` those stay in which a session runs, or behind which one
    /// does. Cancelled, some may stay open.
    pub async fn lock(&self, keeps_busy: bool) {
        // First, so that who is just connecting sees it, or is seen here.
        self.locks.fetch_add(1, Ordering::Relaxed);
        let keyed = self.pool.keyed();
        let is_busy = |root: &Keyed| {
            keyed.iter().any(|one| {
                let is_in = Arc::ptr_eq(&one.1, &root.1) || self.pool.hangs_on(one, root);
                is_in && one.1.sessions() > 0
            })
        };
        let wanted =
            keyed.iter().filter(|one| one.1.needs_answer() && !(keeps_busy && is_busy(one)));
        let wanted: Vec<ContextId> = wanted.map(|(_, context)| context.id()).collect();
        self.close_those(|context| wanted.contains(&context.id()), |_| LOCKED.to_owned()).await;
    }

    /// Closes all contexts for good: attempts that are being made end, and new ones are refused
    /// with [`ContextError::Closing`](crate::context::ContextError::Closing).
    pub async fn shut_down(&self) {
        self.closing.send_replace(true);
        self.close_all().await;
    }

    /// Whether [`Registry::shut_down`] was called.
    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    pub(super) async fn close_those(
        &self,
        wanted: impl Fn(&Context) -> bool,
        why: impl Fn(&Context) -> String,
    ) {
        let keyed = self.pool.keyed();
        let named: Vec<&Keyed> = keyed.iter().filter(|(_, context)| wanted(context)).collect();
        let mut doomed: Vec<&Keyed> = keyed
            .iter()
            .filter(|one| {
                let is_in =
                    |root: &&Keyed| Arc::ptr_eq(&one.1, &root.1) || self.pool.hangs_on(one, root);
                named.iter().any(is_in)
            })
            .collect();
        let closed: Vec<Event> = doomed
            .iter()
            .map(|(_, context)| Event::Closed {
                context: context.name().to_owned(),
                id: context.id().to_string(),
                why: why(context),
            })
            .collect();
        doomed.sort_by_key(|(key, _)| key.len());
        // A person who closes a context and connects anew wants a slave to be tried again.
        self.pool.slaveless.forget(|key| doomed.iter().any(|(other, _)| other == key));
        // All of one length at the same time: none of them hangs on another.
        while let Some((last, _)) = doomed.last() {
            let len = last.len();
            let mut closing = JoinSet::new();
            while let Some((_, context)) = doomed.pop_if(|(key, _)| key.len() == len) {
                let context = context.clone();
                closing.spawn(async move { context.close().await });
            }
            while closing.join_next().await.is_some() {}
        }
        self.pool.forget_lost();
        // What they went through may be idle from now on.
        mark_passed(&self.pool.keyed(), Moment::now(), SystemTime::now());
        closed.iter().for_each(|event| self.pool.audit.note(event));
    }
}

/// What tells a context from others of the same name.
fn told(branch: &Branch, tree: &[Branch]) -> String {
    let context = &branch.context;
    let mut told = context.user().to_owned();
    if let Some((host, port)) = context.address() {
        told += &format!(" at {host}:{port}");
    }
    if let Some(parent) = branch.parent {
        told += &format!(", on {}", tree[parent].context.id());
    }
    told
}
