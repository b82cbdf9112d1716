//! Walks a route: connects what is not connected yet, and makes the context at its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::audit::Event;
use crate::caller::Caller;
use crate::hop::ssh::{ConnectError, SshConnection, Via};
use crate::lifetime::Use;
use crate::start::StartError;

use super::arrive::{self, BehindHelper};
use super::path::Host;
use super::pool::{Pool, is_usable};
use super::segment::{self, Hops, Key, Segment};
use super::{Context, ContextError};

/// One caller's attempt to get to the end of a route.
pub(super) struct Attempt<'a> {
    pub(super) pool: &'a Pool,
    pub(super) caller: &'a Caller,
    /// Whether a configuration on the path says that nobody is to be asked.
    pub(super) is_batch: bool,
}

/// The place that a segment starts from.
pub(super) struct Base {
    /// `None` for this host.
    pub(super) context: Option<Arc<Context>>,
    key: Key,
}

impl Base {
    /// The key of the context that these hosts lead to.
    fn key_of(&self, hosts: &[Host]) -> Key {
        self.key.iter().cloned().chain(segment::parts(hosts)).collect()
    }
}

impl Attempt<'_> {
    /// Gets the context at the end of these segments, and by the way those before it.
    ///
    /// Flights are joined from the longest path to the shortest, so that nobody waits for itself.
    pub(super) async fn context(&self, segments: &[Segment]) -> Result<Arc<Context>, ContextError> {
        let key = segment::key(segments);
        let make = async || {
            let Some((last, before)) = segments.split_last() else {
                return Err(ContextError::Local("a route without a step".to_owned()));
            };
            let base = Box::pin(self.base(before)).await?;
            // It must not end while somebody types a password.
            let _held = base.context.as_ref().and_then(|base| base.hold(Use::Dependent));
            let name = &last.name;
            let made = match &last.hops {
                Hops::Ssh(hosts) => self.context_of_host(&key, name, &base, hosts).await,
                Hops::Helper(hop) => {
                    let behind = BehindHelper { name, hop, resolved: segment::resolved(before) };
                    behind.context(base.context, self.caller, &self.pool.alarm).await
                }
            };
            let by = self.caller.ask.who();
            self.pool.audit.note(&match &made {
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
        self.shared_context(&key, make).await
    }

    /// Gets the place at the end of these segments, from which others start.
    pub(super) async fn base(&self, segments: &[Segment]) -> Result<Base, ContextError> {
        let context = match segments {
            [] => None,
            segments => Some(self.context(segments).await?),
        };
        Ok(Base { context, key: segment::key(segments) })
    }

    async fn shared_context(
        &self,
        key: &Key,
        make: impl AsyncFnOnce() -> Result<Arc<Context>, ContextError>,
    ) -> Result<Arc<Context>, ContextError> {
        self.pool.make_room(key);
        let usable = |context: &Arc<Context>| context.is_usable();
        self.pool.contexts.get(key, usable, |error| self.shares(error), make).await
    }

    /// Whether another caller's failure is this one's, too. It is not if the other caller could not
    /// be asked, and this one perhaps can.
    fn shares(&self, error: &ContextError) -> bool {
        !error.is_unanswered() || self.is_batch || !self.caller.ask.may_answer()
    }

    async fn context_of_host(
        &self,
        key: &Key,
        name: &str,
        base: &Base,
        hosts: &[Host],
    ) -> Result<Context, ContextError> {
        let connection = self.connection(base, hosts).await?;
        let Some(Host { resolved, .. }) = hosts.last() else {
            return Err(ContextError::Local("a path without a host".to_owned()));
        };
        let known = self.pool.slaveless.why(key);
        let is_known = known.is_some();
        let at = async |connection, known| {
            let alarm = &self.pool.alarm;
            arrive::at_host(name, resolved, base.context.clone(), connection, known, alarm).await
        };
        let mut made = at(connection, known).await;
        // Some servers end their connection with the first session: that was ours. A connection
        // that was cut just then looks the same, but for its happening again at once.
        for known in [None, Some(Arc::new(StartError::OneSession))] {
            if let Err(ContextError::EndedAtStart(_)) = made {
                let connection = self.connection(base, hosts).await?;
                made = at(connection, known).await;
            }
        }
        let context = made?;
        context.said.store(is_known, Ordering::Relaxed);
        if !is_known {
            self.pool.slaveless.note(key, context.why_direct());
        }
        Ok(context)
    }

    /// Gets the connection to the last of these hosts, shared by all whose path begins so.
    ///
    /// Flights are joined from the longest path to the shortest, so that nobody waits for itself.
    async fn connection(&self, base: &Base, hosts: &[Host]) -> Result<SshConnection, ContextError> {
        let Some((host, before)) = hosts.split_last() else {
            return Err(ContextError::Local("a path without a host".to_owned()));
        };
        let key = base.key_of(hosts);
        let mut made = None;
        let make = async || {
            let connection = self.connect(base, host, before).await?;
            let weak = connection.downgrade();
            made = Some(connection);
            Ok(weak)
        };
        let shares = |error: &ContextError| self.shares(error);
        let weak = self.pool.connections.get(&key, is_usable, shares, make).await?;
        made.or_else(|| weak.upgrade()).ok_or_else(|| {
            let name = &host.resolved.host;
            ContextError::Local(format!("{name}: the connection was lost at once"))
        })
    }

    /// Connects to a host after these others.
    pub(super) async fn connect(
        &self,
        base: &Base,
        host: &Host,
        before: &[Host],
    ) -> Result<SshConnection, ContextError> {
        let through = match before {
            [] => None,
            before => Some(Box::pin(self.connection(base, before)).await?),
        };
        let via = match (&through, &base.context, &host.resolved.proxy_command) {
            (Some(through), ..) => Via::Through(through),
            (None, Some(base), _) => {
                Via::Stream(base.tcp(&host.resolved.hostname, host.resolved.port).await?)
            }
            (None, None, Some(command)) => Via::Command(command),
            (None, None, None) => Via::Tcp,
        };
        let mut connected = SshConnection::connect(&host.resolved, via, self.caller).await;
        if let Err(ConnectError::Jump { forbidden: true, .. }) = &connected
            && let Some(slave) = Box::pin(self.slave_of(base, before)).await
        {
            // The server forbids forwarding. A program that runs there can connect nevertheless.
            let stream = slave.tcp(&host.resolved.hostname, host.resolved.port).await?;
            let via = Via::Stream(stream);
            connected = SshConnection::connect(&host.resolved, via, self.caller).await;
        }
        let connection = connected.map_err(|error| ContextError::Connect(Arc::new(error)))?;
        self.pool.audit.note(&Event::Login {
            host: host.resolved.host.clone(),
            address: format!("{}:{}", host.resolved.hostname, host.resolved.port),
            user: host.resolved.user.clone(),
            accepted: connection.accepted().to_vec(),
            by: self.caller.ask.who(),
        });
        Ok(connection)
    }

    /// Gets the context of a host on the path, if a slave serves it.
    async fn slave_of(&self, base: &Base, hosts: &[Host]) -> Option<Arc<Context>> {
        let host = &hosts.last()?.resolved.host;
        let name = match &base.context {
            Some(base) => format!("{}+{host}", base.name()),
            None => host.clone(),
        };
        let key = base.key_of(hosts);
        let make = async || self.context_of_host(&key, &name, base, hosts).await.map(Arc::new);
        let context = self.shared_context(&key, make).await.ok()?;
        context.slave().await.is_ok().then_some(context)
    }
}
