//! Sockets that an SSH server listens on for forwards, and the channels that it opens for what comes
//! in there (RFC 4254 section 7).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::{Listen, ListenAddress};
use fakessh_protocol::message::MAX_ORIGIN;
use fakessh_protocol::printable;
use russh::Channel;
use russh::client::{ChannelOpenHandle, Msg};
use tokio::sync::mpsc;

use super::{SshConnection, WeakConnection};
use crate::link::{Incoming, Listener};

/// An agent's request with a name (draft-ietf-sshm-ssh-agent section 5.8).
const EXTENSION: u8 = 27;

/// The name of the request that binds an agent to a host.
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// What a server listens on, in the words in which it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ForwardedAt {
    Port(String, u32),
    Path(String),
    /// An agent.
    Agent,
}

/// A channel that a server has opened for a connection that came in.
pub(super) struct ForwardedChannel {
    pub(super) channel: Channel<Msg>,
    /// Where the connection comes from.
    pub(super) from: String,
}

/// Who takes the channels of what a server listens on.
#[derive(Clone, Default)]
pub(super) struct Forwarded {
    takers: Arc<Mutex<Takers>>,
    /// What is still listened on, and nobody wants any more.
    unwanted: Arc<Mutex<Vec<ForwardedAt>>>,
}

type Takers = HashMap<ForwardedAt, mpsc::UnboundedSender<ForwardedChannel>>;

impl Forwarded {
    fn takers(&self) -> MutexGuard<'_, Takers> {
        self.takers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwanted(&self) -> MutexGuard<'_, Vec<ForwardedAt>> {
        self.unwanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has somebody take the channels of what is listened on. Returns whether that is so: nobody else
    /// may take them.
    fn add(&self, at: &ForwardedAt, taker: &mpsc::UnboundedSender<ForwardedChannel>) -> bool {
        let mut takers = self.takers();
        let is_new = !takers.contains_key(at);
        if is_new {
            takers.insert(at.clone(), taker.clone());
        }
        is_new
    }

    /// Accepts a channel, if somebody takes it.
    pub(super) async fn take(
        &self,
        at: ForwardedAt,
        channel: ForwardedChannel,
        reply: ChannelOpenHandle,
    ) {
        let taker = self.takers().get(&at).cloned();
        if let Some(taker) = taker.filter(|taker| !taker.is_closed()) {
            reply.accept().await;
            let _ = taker.send(channel);
        }
    }
}

/// Has the server listen no more when it is dropped.
struct StopListening {
    at: ForwardedAt,
    connection: WeakConnection,
}

impl Drop for StopListening {
    fn drop(&mut self) {
        let Some(connection) = self.connection.upgrade() else { return };
        connection.0.forwarded.takers().remove(&self.at);
        connection.0.forwarded.unwanted().push(self.at.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move { connection.cancel_unwanted().await });
    }
}

impl SshConnection {
    /// Has the server listen for a forward. It decides itself which addresses it listens on
    /// (`GatewayPorts` of `sshd_config(5)`), and which rights a Unix socket has.
    ///
    /// # Errors
    /// That the server refuses, or that the connection is lost. Cancelled, nothing is listened on.
    pub(crate) async fn listen(&self, listen: &Listen) -> Result<Listener, Failure> {
        let at = match &listen.address {
            ListenAddress::Tcp { host, port } => {
                let address = host.as_deref().unwrap_or("localhost");
                ForwardedAt::Port(address.to_owned(), (*port).into())
            }
            ListenAddress::Unix(path) => match std::str::from_utf8(path) {
                Ok(path) => ForwardedAt::Path(path.to_owned()),
                Err(_) => {
                    let why = "its SSH server is asked in UTF-8, which the path is not";
                    return Err(Failure::new(FailureKind::Refused, why));
                }
            },
        };
        let (sender, incoming) = mpsc::unbounded_channel();
        let connection = self.clone();
        // If nobody waits for the answer any more, the server is still told to listen no more.
        let asked = tokio::spawn(async move { connection.ask_to_listen(at, sender).await });
        let lost = |error: tokio::task::JoinError| {
            Failure::new(FailureKind::ConnectionLost, error.to_string())
        };
        let (port, stop) = asked.await.map_err(lost)??;
        Ok(Listener { port, incoming, _stop: Box::new(stop) })
    }

    async fn ask_to_listen(
        &self,
        at: ForwardedAt,
        incoming: mpsc::UnboundedSender<Incoming>,
    ) -> Result<(u16, StopListening), Failure> {
        // A port that a session has just left may be the same one.
        self.cancel_unwanted().await;
        let forwarded = &self.0.forwarded;
        let (taker, channels) = mpsc::unbounded_channel();
        let in_use = || {
            let why = "another forward of this connection listens there";
            Failure::new(FailureKind::Refused, why)
        };
        // Connections may come in before the answer is here.
        let is_known = !matches!(at, ForwardedAt::Port(_, 0));
        if is_known && !forwarded.add(&at, &taker) {
            return Err(in_use());
        }
        let handle = &self.0.handle;
        let asked = match &at {
            ForwardedAt::Port(address, port) => handle.tcpip_forward(address.as_str(), *port).await,
            ForwardedAt::Path(path) => handle.streamlocal_forward(path.as_str()).await.map(|()| 0),
            ForwardedAt::Agent => Ok(0),
        };
        let at = match (asked, at) {
            (Ok(given), ForwardedAt::Port(address, 0)) => {
                let at = ForwardedAt::Port(address, given);
                if !forwarded.add(&at, &taker) {
                    return Err(in_use());
                }
                at
            }
            (Ok(_), at) => at,
            (Err(error), at) => {
                if is_known {
                    forwarded.takers().remove(&at);
                }
                return Err(match error {
                    russh::Error::RequestDenied => {
                        Failure::new(FailureKind::Refused, "the server refuses to listen there")
                    }
                    error => Failure::new(FailureKind::ConnectionLost, error.to_string()),
                });
            }
        };
        let port = match &at {
            ForwardedAt::Port(_, port) => u16::try_from(*port).unwrap_or(0),
            ForwardedAt::Path(_) | ForwardedAt::Agent => 0,
        };
        tokio::spawn(pass_on(self.downgrade(), channels, incoming));
        Ok((port, StopListening { at, connection: self.downgrade() }))
    }

    /// Takes the channels that the server opens to reach an agent, those of all sessions: SSH does
    /// not say which session they are for. The last one who takes them does.
    pub(crate) fn listen_for_agent(&self) -> Listener {
        let (taker, channels) = mpsc::unbounded_channel();
        self.0.forwarded.takers().insert(ForwardedAt::Agent, taker);
        let (sender, incoming) = mpsc::unbounded_channel();
        tokio::spawn(pass_on(self.downgrade(), channels, sender));
        let stop = StopListening { at: ForwardedAt::Agent, connection: self.downgrade() };
        Listener { port: 0, incoming, _stop: Box::new(stop) }
    }

    /// What an agent is told before the host has it used: the request `session-bind@openssh.com`
    /// with the host's key, the number of the session and the host's signature of it (PROTOCOL.agent
    /// of OpenSSH).
    pub(crate) fn agent_binding(&self) -> Option<Vec<u8>> {
        let binding = self.0.handle.agent_session_binding()?;
        let mut request = vec![EXTENSION];
        for part in [SESSION_BIND, binding.host_key(), binding.session_id(), binding.signature()] {
            request.extend(u32::try_from(part.len()).ok()?.to_be_bytes());
            request.extend_from_slice(part);
        }
        // It is for forwarding.
        request.push(1);
        Some(request)
    }

    /// Has the server listen no more where nobody wants it to.
    async fn cancel_unwanted(&self) {
        loop {
            let Some(at) = self.0.forwarded.unwanted().pop() else { return };
            let handle = &self.0.handle;
            let cancelled = match at {
                ForwardedAt::Port(address, port) => {
                    handle.cancel_tcpip_forward(address, port).await
                }
                ForwardedAt::Path(path) => handle.cancel_streamlocal_forward(path).await,
                ForwardedAt::Agent => Ok(()),
            };
            if let Err(error) = cancelled {
                tracing::debug!(%error, "a forward was not cancelled");
            }
        }
    }
}

/// Passes on what comes in, until nobody takes it.
async fn pass_on(
    connection: WeakConnection,
    mut channels: mpsc::UnboundedReceiver<ForwardedChannel>,
    incoming: mpsc::UnboundedSender<Incoming>,
) {
    while let Some(ForwardedChannel { channel, from }) = channels.recv().await {
        let Some(connection) = connection.upgrade() else { return };
        let from = printable::word(&from, MAX_ORIGIN);
        if incoming.send(connection.incoming(channel, from)).is_err() {
            return;
        }
    }
}
