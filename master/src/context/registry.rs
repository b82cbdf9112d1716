//! All contexts of a master, by what they are.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::caller::Caller;
use crate::hop::ssh::{SshConnection, Via, WeakConnection};
use crate::ssh_config::Target;

use super::slots::Slots;
use super::way::{self, Host, Key};
use super::{Context, ContextError, SessionOptions};

/// All contexts of a master. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    contexts: Arc<Slots<Key, Arc<Context>, ContextError>>,
    /// Connections to jump hosts, held by those that go through them.
    jumps: Arc<Slots<Key, WeakConnection, ContextError>>,
    /// Whether nothing new is made any more.
    closing: Arc<watch::Sender<bool>>,
}

/// A context as a destination leads to it.
#[derive(Clone, Debug)]
pub struct Reached {
    /// The context; several destinations may share it.
    pub context: Arc<Context>,
    /// What the destination's own configuration says of sessions.
    pub options: Arc<SessionOptions>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            contexts: Arc::new(Slots::new()),
            jumps: Arc::new(Slots::new()),
            closing: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Registry {
    /// The context of a destination: the one that is held, or a new connection.
    ///
    /// Questions go to `caller`. Who asks for a context that another caller is just connecting to
    /// waits for that one. Cancelled, the attempt ends and leaves nothing.
    ///
    /// # Errors
    /// [`ContextError`]. Those who waited for the same attempt get the same error, unless it is
    /// only that nobody could be asked: then the next one tries.
    pub async fn context(
        &self,
        target: &Target,
        caller: &Caller,
    ) -> Result<Arc<Context>, ContextError> {
        self.reach(target, caller).await.map(|reached| reached.context)
    }

    /// As [`Registry::context`], with the destination's own options for sessions.
    ///
    /// # Errors
    /// As [`Registry::context`].
    pub async fn reach(&self, target: &Target, caller: &Caller) -> Result<Reached, ContextError> {
        let mut closing = self.closing.subscribe();
        let reached = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return Err(ContextError::Closing),
            reached = self.find_or_connect(target, caller) => reached?,
        };
        // Whoever closes looks at the contexts after it has said so: either it has seen this one,
        // or this is true.
        if *self.closing.borrow() {
            reached.context.close().await;
            return Err(ContextError::Closing);
        }
        Ok(reached)
    }

    /// The context that a destination leads to, if it is connected. Asks nobody, connects nowhere.
    ///
    /// # Errors
    /// Where the configuration can't be read.
    pub async fn held(
        &self,
        target: &Target,
        caller: &Caller,
    ) -> Result<Option<Arc<Context>>, ContextError> {
        let (host, before) = way::way(target, caller).await?;
        let held = self.contexts.peek(&way::key(&before, &host));
        Ok(held.filter(|context| !context.is_lost()))
    }

    async fn find_or_connect(
        &self,
        target: &Target,
        caller: &Caller,
    ) -> Result<Reached, ContextError> {
        let (host, before) = way::way(target, caller).await?;
        let usable = |context: &Arc<Context>| !context.is_lost();
        let shared = |error: &ContextError| is_shared(error, caller, &before, &host);
        let make = async || {
            let connection = self.connect(&before, &host, caller).await?;
            let name = target.to_string();
            let context = Context::start(name, host.resolved.clone(), connection).await?;
            if let Some(notice) = host.resolved.unsupported_notice() {
                caller.ask.notice(notice).await;
            }
            Ok(Arc::new(context))
        };
        let options = Arc::new(SessionOptions::of(&host.resolved));
        let context = self.contexts.get(&way::key(&before, &host), usable, shared, make).await?;
        Ok(Reached { context, options })
    }

    /// Contexts that are connected now.
    pub fn contexts(&self) -> Vec<Arc<Context>> {
        self.contexts.retain(|context| !context.is_lost());
        self.jumps.retain(is_usable);
        self.contexts.values()
    }

    /// Closes contexts by name, all at the same time, and says which names there were. Cancelled,
    /// some may stay open.
    pub async fn close(&self, names: &[String]) -> Vec<String> {
        self.close_those(|context| names.iter().any(|name| name == context.name())).await
    }

    /// Closes all contexts, all at the same time. Cancelled, some may stay open.
    pub async fn close_all(&self) {
        self.close_those(|_| true).await;
    }

    /// Closes all contexts for good: attempts that are being made end, and new ones are refused
    /// with [`ContextError::Closing`].
    pub async fn shut_down(&self) {
        self.closing.send_replace(true);
        self.close_all().await;
    }

    async fn close_those(&self, wanted: impl Fn(&Context) -> bool) -> Vec<String> {
        let mut closed = Vec::new();
        let mut closing = JoinSet::new();
        for context in self.contexts().into_iter().filter(|context| wanted(context)) {
            closed.push(context.name().to_owned());
            closing.spawn(async move { context.close().await });
        }
        while closing.join_next().await.is_some() {}
        self.contexts.retain(|context| !context.is_lost());
        self.jumps.retain(is_usable);
        closed
    }

    /// Makes a connection to a host, by way of those before it.
    async fn connect(
        &self,
        before: &[Host],
        host: &Host,
        caller: &Caller,
    ) -> Result<SshConnection, ContextError> {
        let through = match before.split_last() {
            Some((jump, before)) => Some(Box::pin(self.jump(before, jump, caller)).await?),
            None => None,
        };
        let via = match (&through, &host.resolved.proxy_command) {
            (Some(through), _) => Via::Through(through),
            (None, Some(command)) => Via::Command(command),
            (None, None) => Via::Tcp,
        };
        let connection = SshConnection::connect(&host.resolved, via, caller).await;
        connection.map_err(|error| ContextError::Connect(Arc::new(error)))
    }

    /// The connection to a jump host, shared by all whose way begins with the same hosts.
    ///
    /// Slots are taken from the longest way to the shortest, so that nobody waits for itself.
    async fn jump(
        &self,
        before: &[Host],
        host: &Host,
        caller: &Caller,
    ) -> Result<SshConnection, ContextError> {
        let mut made = None;
        let shared = |error: &ContextError| is_shared(error, caller, before, host);
        let make = async || {
            let connection = self.connect(before, host, caller).await?;
            let weak = connection.downgrade();
            made = Some(connection);
            Ok(weak)
        };
        let weak = self.jumps.get(&way::key(before, host), is_usable, shared, make).await?;
        made.or_else(|| weak.upgrade()).ok_or_else(|| {
            let name = &host.resolved.host;
            ContextError::Local(format!("{name}: the connection was lost at once"))
        })
    }
}

fn is_usable(weak: &WeakConnection) -> bool {
    weak.upgrade().is_some_and(|connection| !connection.is_closed())
}

/// Whether another caller's failure is this one's, too. It is not where that one could not be
/// asked, and this one perhaps can.
fn is_shared(error: &ContextError, caller: &Caller, before: &[Host], host: &Host) -> bool {
    let batch_mode = before.iter().chain([host]).any(|host| host.resolved.batch_mode);
    !error.is_unanswered() || batch_mode || !caller.ask.may_answer()
}
