//! All contexts of a master, by what they are.

mod closing;
mod ends;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fakessh_protocol::message::Notice;
use fakessh_protocol::printable;
use tokio::sync::watch;

use crate::audit::Audit;
use crate::caller::{Ask, Caller};
use crate::hop::ssh::SshConnection;
use crate::lifetime::Rules;
use crate::open_forwards::OpenForwards;
use crate::route::Route;

use super::establish::Attempt;
use super::pool::{Pool, is_behind};
use super::segment::{Hops, Segment, Walk};
use super::sharing::along_held;
use super::tell;
use super::{Context, ContextError, SessionOptions};

pub use closing::CloseError;

/// Most characters of the reason in the notice that no slave runs somewhere. The reason quotes the
/// target; `fakessh ls` shows all of it.
const MAX_REASON: usize = 200;

/// All contexts of a master. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    pool: Arc<Pool>,
    /// Whether nothing new is made any more.
    closing: Arc<watch::Sender<bool>>,
    /// How often [`Registry::lock`] was called.
    locks: Arc<AtomicU64>,
    /// The forwards through its contexts.
    forwards: OpenForwards,
}

/// A context as a destination leads to it.
#[derive(Clone, Debug)]
pub struct Reached {
    /// The context; several destinations may share it.
    pub context: Arc<Context>,
    /// What the destination's own configuration says of sessions.
    pub options: Arc<SessionOptions>,
}

impl Reached {
    /// Tells who asks what the configuration wants for sessions and they do not get. It is what this
    /// caller's configuration wants: the connection may be held since long, for another one.
    pub(crate) async fn say_unsupported(&self, ask: &dyn Ask) {
        if let Some(text) = self.options.unsupported() {
            ask.notice(Notice::ours(text)).await;
        }
    }
}

/// A context in the tree of all.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The context.
    pub context: Arc<Context>,
    /// The place in the tree of the one that it hangs on: another one may have the same name.
    pub parent: Option<usize>,
    /// How many it hangs on.
    pub depth: usize,
}

impl Default for Registry {
    fn default() -> Self {
        Registry::with_audit(Audit::default())
    }
}

impl Registry {
    /// A registry that notes in this log what it does.
    pub fn with_audit(audit: Audit) -> Registry {
        let closing = Arc::new(watch::Sender::new(false));
        let (locks, forwards) = Default::default();
        Registry { pool: Arc::new(Pool::new(audit)), closing, locks, forwards }
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.pool.audit
    }

    /// The forwards that are open.
    pub(crate) fn forwards(&self) -> &OpenForwards {
        &self.forwards
    }

    /// Gets the context at the end of a route: the one that is held, or a new one. The contexts that
    /// it hangs on are held from then on, too.
    ///
    /// Questions go to `caller`. If another caller is just connecting to the same context, this waits
    /// for that attempt. Cancelled, the attempt ends and leaves nothing of the step it was at.
    ///
    /// # Errors
    /// [`ContextError`]. Those who waited for the same attempt get the same error, unless it is
    /// only that nobody could be asked: then the next one tries.
    pub async fn context(
        &self,
        route: impl Into<Route>,
        caller: &Caller,
    ) -> Result<Arc<Context>, ContextError> {
        let reached = self.reach(&route.into(), &Rules::default(), caller).await;
        let context = reached?.context;
        context.hold_briefly(false);
        Ok(context)
    }

    /// As [`Registry::context`], with the destination's own options for sessions. By these rules
    /// the contexts of the route are held from then on.
    ///
    /// # Errors
    /// As [`Registry::context`].
    pub async fn reach(
        &self,
        route: &Route,
        rules: &Rules,
        caller: &Caller,
    ) -> Result<Reached, ContextError> {
        let mut closing = self.closing.subscribe();
        let locks = self.locks.load(Ordering::Relaxed);
        let reached = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return Err(ContextError::Closing),
            reached = self.find_or_connect(route, rules, caller) => reached?,
        };
        // Whoever closes looks at the contexts after it has said so: either it has seen this one,
        // or this is true.
        if *self.closing.borrow() {
            reached.context.close().await;
            return Err(ContextError::Closing);
        }
        // Likewise: what was answered before a lock must not be there after it.
        if self.locks.load(Ordering::Relaxed) != locks
            && let Some(root) = reached.context.root_that_needs_answer()
        {
            self.close_those(|context| context.id() == root, |_| closing::LOCKED.to_owned()).await;
            return Err(ContextError::Locked);
        }
        Ok(reached)
    }

    async fn find_or_connect(
        &self,
        route: &Route,
        rules: &Rules,
        caller: &Caller,
    ) -> Result<Reached, ContextError> {
        let walk = Walk::along(route, caller).await?;
        tell::configuration(&walk, caller).await;
        let walk = along_held(walk, &self.pool);
        let held = self.pool.contexts.peek(&walk.key()).filter(|context| context.is_usable());
        match &held {
            Some(held) => {
                let id = held.id();
                caller.detail(1, || format!("the connection {id} is held and serves")).await;
            }
            None => tell::unserving(&walk, &self.pool, caller).await,
        }
        let attempt = Attempt { pool: &self.pool, caller, is_batch: walk.is_batch() };
        let context = attempt.context(&walk.0).await?;
        self.set_terms(&walk, &context, rules);
        if let Some(why) = context.unsaid_reason() {
            let name = context.name();
            let why = printable::beginning(&why.to_string(), MAX_REASON);
            let text = format!(
                "{name}: no slave runs there ({why}); each session has an SSH channel of its own"
            );
            tracing::info!("{text}");
            caller.ask.notice(Notice::ours(text)).await;
        }
        let options = walk.resolved().map(SessionOptions::of).unwrap_or_default();
        let reached = Reached { context, options: Arc::new(options) };
        reached.say_unsupported(&*caller.ask).await;
        Ok(reached)
    }

    /// Makes a new connection to the end of a route, for nobody else. `caller` should ask nobody.
    pub(crate) async fn another(
        &self,
        route: &Route,
        caller: &Caller,
    ) -> Result<SshConnection, ContextError> {
        let Walk(segments) = along_held(Walk::along(route, caller).await?, &self.pool);
        let Some((Segment { hops: Hops::Ssh(hosts), .. }, before)) = segments.split_last() else {
            return Err(ContextError::Local(format!("{route}: no SSH connection")));
        };
        let Some((host, jumps)) = hosts.split_last() else {
            return Err(ContextError::Local("a path without a host".to_owned()));
        };
        let attempt = Attempt { pool: &self.pool, caller, is_batch: true };
        let base = attempt.base(before).await?;
        attempt.connect(&base, host, jumps).await
    }

    /// Contexts that are connected now. What hangs on one follows it at once.
    pub fn tree(&self) -> Vec<Branch> {
        let mut keyed = self.pool.keyed();
        keyed.sort_by(|(a_key, a), (b_key, b)| {
            (a_key.len(), a.name()).cmp(&(b_key.len(), b.name()))
        });
        let mut children = vec![Vec::new(); keyed.len()];
        let mut next = Vec::new();
        // From the last to the first, since the first is to be taken first.
        for (index, (key, _)) in keyed.iter().enumerate().rev() {
            // Shorter keys come first, so the last that fits is the nearest.
            match (0..index).rev().find(|&other| is_behind(key, &keyed[other].0)) {
                Some(parent) => children[parent].push(index),
                None => next.push((index, None, 0)),
            }
        }
        let mut tree = Vec::with_capacity(keyed.len());
        while let Some((index, parent, depth)) = next.pop() {
            let place = tree.len();
            tree.push(Branch { context: keyed[index].1.clone(), parent, depth });
            next.extend(children[index].iter().map(|&child| (child, Some(place), depth + 1)));
        }
        tree
    }

    /// Contexts that are connected now.
    pub fn contexts(&self) -> Vec<Arc<Context>> {
        self.pool.keyed().into_iter().map(|(_, context)| context).collect()
    }
}
