//! All contexts of a master, by what they are.

mod closing;
mod ends;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fakessh_protocol::message::Notice;
use fakessh_protocol::printable;
use tokio::sync::watch;

use crate::audit::{Audit, Event};
use crate::caller::Caller;
use crate::hop::ssh::{ConnectError, SshConnection, Via, WeakConnection};
use crate::lifetime::alarm::Alarm;
use crate::lifetime::{Rules, Use};
use crate::route::Route;
use crate::start::StartError;

use super::leg::{self, Key, Leg, Walk};
use super::slots::Slots;
use super::way::Host;
use super::{Context, ContextError, SessionOptions};

pub use closing::CloseError;

/// How long it is remembered that no slave can run somewhere, for reasons that last. Then, and
/// after its context was closed, it is tried again: whoever looks after the host may have changed
/// that.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Most characters of such a reason in a notice. It quotes the target, which has more to say
/// where it is asked for.
const MAX_REASON: usize = 200;

/// Where no slave can run, why, and since when that is known.
type Slaveless = HashMap<Key, (Arc<StartError>, Instant)>;

/// Contexts with what they are.
type Keyed = Vec<(Key, Arc<Context>)>;

/// All contexts of a master. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    contexts: Arc<Slots<Key, Arc<Context>, ContextError>>,
    /// SSH connections, held by the contexts at their ends and by those that go through them.
    connections: Arc<Slots<Key, WeakConnection, ContextError>>,
    slaveless: Arc<Mutex<Slaveless>>,
    /// Contexts whose certificate has ended while sessions ran: others may be in their places.
    outdated: Arc<Mutex<Keyed>>,
    /// When somebody has to look for contexts that are to end.
    alarm: Arc<Alarm>,
    audit: Audit,
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
        Registry {
            contexts: Arc::new(Slots::new()),
            connections: Arc::new(Slots::new()),
            slaveless: Arc::default(),
            outdated: Arc::default(),
            alarm: Arc::default(),
            audit: Audit::default(),
            closing: Arc::new(watch::Sender::new(false)),
        }
    }
}

impl Registry {
    /// A registry that notes in this log what it does.
    pub fn with_audit(audit: Audit) -> Registry {
        Registry { audit, ..Registry::default() }
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The context at the end of a route: the one that is held, or a new one. Those on the way are
    /// held from then on, too.
    ///
    /// Questions go to `caller`. Who asks for a context that another caller is just connecting to
    /// waits for that one. Cancelled, the attempt ends and leaves nothing of the step it was at.
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
        Ok(reached)
    }

    /// The context at the end of a route, if it is connected. Asks nobody, connects nowhere.
    ///
    /// # Errors
    /// Where the configuration can't be read.
    pub async fn held(
        &self,
        route: &Route,
        caller: &Caller,
    ) -> Result<Option<Arc<Context>>, ContextError> {
        let walk = Walk::along(route, caller).await?;
        let held = self.contexts.peek(&walk.key());
        Ok(held.filter(|context| context.is_usable()))
    }

    async fn find_or_connect(
        &self,
        route: &Route,
        rules: &Rules,
        caller: &Caller,
    ) -> Result<Reached, ContextError> {
        let walk = Walk::along(route, caller).await?;
        let context = self.obtain(&walk.legs, walk.is_batch(), caller).await?;
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
        Ok(Reached { context, options: Arc::new(options) })
    }

    /// The context at the end of these legs, and by the way those before it.
    ///
    /// Slots are taken from the longest way to the shortest, so that nobody waits for itself.
    async fn obtain(
        &self,
        legs: &[(Leg, String)],
        is_batch: bool,
        caller: &Caller,
    ) -> Result<Arc<Context>, ContextError> {
        let usable = |context: &Arc<Context>| context.is_usable();
        let shared = |error: &ContextError| is_shared(error, caller, is_batch);
        let key = leg::key(legs);
        let make = async || {
            let Some(((last, name), before)) = legs.split_last() else {
                return Err(ContextError::Local("a route without a step".to_owned()));
            };
            let base = match before {
                [] => None,
                before => Some(Box::pin(self.obtain(before, is_batch, caller)).await?),
            };
            // It must not end while somebody types a password.
            let _held = base.as_ref().and_then(|base| base.hold(Use::Dependent));
            let made = match last {
                Leg::Ssh(hosts) => {
                    let base_key = leg::key(before);
                    let base = (base.as_ref(), &base_key);
                    self.ssh_context(&key, name, base, hosts, is_batch, caller).await
                }
                Leg::Helper(kind, argument, _) => {
                    let settings = leg::resolved(before);
                    let helper = (*kind, argument.as_str());
                    Context::behind_helper(name, helper, base, settings, caller, &self.alarm).await
                }
            };
            let by = caller.ask.who();
            self.audit.note(&match &made {
                Ok(context) => Event::Context {
                    context: name.clone(),
                    id: context.id().to_string(),
                    user: context.user().to_owned(),
                    by,
                },
                Err(error) => Event::Refused { what: name.clone(), why: error.to_string(), by },
            });
            made.map(Arc::new)
        };
        self.make_room(&key);
        self.contexts.get(&key, usable, shared, make).await
    }

    async fn ssh_context(
        &self,
        key: &Key,
        name: &str,
        base: (Option<&Arc<Context>>, &Key),
        hosts: &[Host],
        is_batch: bool,
        caller: &Caller,
    ) -> Result<Context, ContextError> {
        let connection = self.connection(base, hosts, is_batch, caller).await?;
        let Some(Host { resolved, .. }) = hosts.last() else {
            return Err(ContextError::Local("a way without a host".to_owned()));
        };
        let remembered = self.why_slaveless(key);
        let known = remembered.clone().filter(|why| why.is_lasting());
        let is_known = known.is_some();
        let (alarm, on) = (&self.alarm, base.0.cloned());
        let mut made = Context::at_host(name, resolved, on.clone(), connection, known, alarm).await;
        if let Err(ContextError::EndedAtStart(_)) = made {
            // Some servers end their connection with the first session: that was ours. Nothing
            // tells that from a connection that was cut just then, but for its happening again.
            let connection = self.connection(base, hosts, is_batch, caller).await?;
            let why = match remembered {
                Some(_) => StartError::OneSession,
                None => StartError::EndedConnection,
            };
            let why = Some(Arc::new(why));
            made = Context::at_host(name, resolved, on, connection, why, alarm).await;
        }
        let context = made?;
        context.said.store(is_known, Ordering::Relaxed);
        if !is_known {
            self.remember(key, context.why_direct());
        }
        if let Some(notice) = resolved.unsupported_notice() {
            caller.ask.notice(Notice::ours(notice)).await;
        }
        Ok(context)
    }

    /// The connection to the last of these hosts, shared by all whose way begins so.
    ///
    /// Slots are taken from the longest way to the shortest, so that nobody waits for itself.
    async fn connection(
        &self,
        base: (Option<&Arc<Context>>, &Key),
        hosts: &[Host],
        is_batch: bool,
        caller: &Caller,
    ) -> Result<SshConnection, ContextError> {
        let Some((host, before)) = hosts.split_last() else {
            return Err(ContextError::Local("a way without a host".to_owned()));
        };
        let key: Key = base.1.iter().cloned().chain(leg::parts(hosts)).collect();
        let mut made = None;
        let shared = |error: &ContextError| is_shared(error, caller, is_batch);
        let make = async || {
            let connection = self.connect(base, host, before, is_batch, caller).await?;
            let weak = connection.downgrade();
            made = Some(connection);
            Ok(weak)
        };
        let weak = self.connections.get(&key, is_usable, shared, make).await?;
        made.or_else(|| weak.upgrade()).ok_or_else(|| {
            let name = &host.resolved.host;
            ContextError::Local(format!("{name}: the connection was lost at once"))
        })
    }

    /// A new connection to the end of a route, for nobody else. `caller` should ask
    /// nobody.
    pub(crate) async fn another(
        &self,
        route: &Route,
        caller: &Caller,
    ) -> Result<SshConnection, ContextError> {
        let walk = Walk::along(route, caller).await?;
        let Some(((Leg::Ssh(hosts), _), before)) = walk.legs.split_last() else {
            return Err(ContextError::Local(format!("{route}: no SSH connection")));
        };
        let Some((host, jumps)) = hosts.split_last() else {
            return Err(ContextError::Local("a way without a host".to_owned()));
        };
        let base = match before {
            [] => None,
            before => Some(self.obtain(before, true, caller).await?),
        };
        let key = leg::key(before);
        self.connect((base.as_ref(), &key), host, jumps, true, caller).await
    }

    /// Connects to a host behind these others.
    async fn connect(
        &self,
        base: (Option<&Arc<Context>>, &Key),
        host: &Host,
        before: &[Host],
        is_batch: bool,
        caller: &Caller,
    ) -> Result<SshConnection, ContextError> {
        let through = match before {
            [] => None,
            before => Some(Box::pin(self.connection(base, before, is_batch, caller)).await?),
        };
        let via = match (&through, base.0, &host.resolved.proxy_command) {
            (Some(through), ..) => Via::Through(through),
            (None, Some(base), _) => {
                Via::Stream(base.tcp(&host.resolved.hostname, host.resolved.port).await?)
            }
            (None, None, Some(command)) => Via::Command(command),
            (None, None, None) => Via::Tcp,
        };
        let mut connected = SshConnection::connect(&host.resolved, via, caller).await;
        if let Err(ConnectError::Jump { forbidden: true, .. }) = &connected
            && let Some(slave) = Box::pin(self.slave_of(base, before, is_batch, caller)).await
        {
            // Where programs may be run, one of them can connect.
            let stream = slave.tcp(&host.resolved.hostname, host.resolved.port).await?;
            let via = Via::Stream(stream);
            connected = SshConnection::connect(&host.resolved, via, caller).await;
        }
        let connection = connected.map_err(|error| ContextError::Connect(Arc::new(error)))?;
        self.audit.note(&Event::Login {
            host: host.resolved.host.clone(),
            address: format!("{}:{}", host.resolved.hostname, host.resolved.port),
            user: host.resolved.user.clone(),
            accepted: connection.accepted().to_vec(),
            by: caller.ask.who(),
        });
        Ok(connection)
    }

    /// The context of a host that is passed on a way, where a slave serves it.
    async fn slave_of(
        &self,
        base: (Option<&Arc<Context>>, &Key),
        hosts: &[Host],
        is_batch: bool,
        caller: &Caller,
    ) -> Option<Arc<Context>> {
        let host = &hosts.last()?.resolved.host;
        let name = base.0.map_or_else(|| host.clone(), |base| format!("{}+{host}", base.name()));
        let key: Key = base.1.iter().cloned().chain(leg::parts(hosts)).collect();
        let usable = |context: &Arc<Context>| context.is_usable();
        let shared = |error: &ContextError| is_shared(error, caller, is_batch);
        let make = async || {
            self.ssh_context(&key, &name, base, hosts, is_batch, caller).await.map(Arc::new)
        };
        self.make_room(&key);
        let context = self.contexts.get(&key, usable, shared, make).await.ok()?;
        context.slave().await.is_ok().then_some(context)
    }

    /// Notes why no slave runs somewhere, if that counts the next time; else that one can.
    fn remember(&self, key: &Key, why: Option<Arc<StartError>>) {
        let counts = |why: &Arc<StartError>| {
            why.is_lasting() || matches!(**why, StartError::EndedConnection)
        };
        match why.filter(counts) {
            Some(why) => drop(self.slaveless().insert(key.clone(), (why, Instant::now()))),
            None => drop(self.slaveless().remove(key)),
        }
    }

    fn why_slaveless(&self, key: &Key) -> Option<Arc<StartError>> {
        let mut slaveless = self.slaveless();
        slaveless.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        slaveless.get(key).map(|(why, _)| why.clone())
    }

    fn slaveless(&self) -> MutexGuard<'_, Slaveless> {
        self.slaveless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Contexts that are connected now. What hangs on one follows it at once.
    pub fn tree(&self) -> Vec<Branch> {
        let mut keyed = self.keyed();
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
        self.keyed().into_iter().map(|(_, context)| context).collect()
    }

    fn keyed(&self) -> Keyed {
        self.contexts.retain(|context| !context.is_lost());
        self.connections.retain(is_usable);
        let mut outdated = self.outdated();
        outdated.retain(|(_, context)| !context.is_lost());
        // First, so that those in their places are nearer to what hangs on both.
        let mut keyed = outdated.clone();
        let mut current = self.contexts.entries();
        current.retain(|(_, one)| !outdated.iter().any(|(_, other)| Arc::ptr_eq(one, other)));
        keyed.append(&mut current);
        keyed
    }
}

/// Whether a context of the first key hangs on one of the second.
fn is_behind(key: &Key, root: &Key) -> bool {
    key.len() > root.len() && key.starts_with(root)
}

fn is_usable(weak: &WeakConnection) -> bool {
    let now = SystemTime::now();
    weak.upgrade().is_some_and(|connection| {
        !connection.is_closed() && connection.certificate_end().is_none_or(|end| now < end)
    })
}

/// Whether another caller's failure is this one's, too. It is not where that one could not be
/// asked, and this one perhaps can.
fn is_shared(error: &ContextError, caller: &Caller, is_batch: bool) -> bool {
    !error.is_unanswered() || is_batch || !caller.ask.may_answer()
}
