//! Sockets that an SSH server listens on for forwards, and the channels that it opens for what comes
//! in there (RFC 4254 section 7).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::{Listen, ListenAddress};
use fakessh_protocol::message::MAX_ORIGIN;
use fakessh_protocol::printable;
use russh::Channel;
use russh::client::{ChannelOpenHandle, Msg};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{SshConnection, WeakConnection};
use crate::link::{Incoming, Listener};

/// An agent's request with a name (draft-ietf-sshm-ssh-agent section 5.8).
const EXTENSION: u8 = 27;

/// The name of the request that binds an agent to a host.
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// What a server listens on, in the words in which it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ForwardedAt {
    Port(String, u32),
    Path(String),
    /// An agent.
    Agent,
}

/// Most channels that a server may have opened and that have not ended.
const MAX_CHANNELS: usize = 1024;

/// A channel that a server has opened for a connection that came in.
pub(super) struct ForwardedChannel {
    channel: Channel<Msg>,
    /// The address and the port that the connection comes from, if the server tells them.
    from: String,
    /// Its place among those that have not ended.
    place: OwnedSemaphorePermit,
}

/// Who takes the channels of what a server listens on.
#[derive(Clone)]
pub(super) struct Forwarded {
    takers: Arc<Mutex<Vec<Taker>>>,
    /// What is still listened on, and nobody wants any more.
    unwanted: Arc<Mutex<Vec<ForwardedAt>>>,
    places: Arc<Semaphore>,
}

struct Taker {
    at: ForwardedAt,
    channels: mpsc::UnboundedSender<ForwardedChannel>,
}

impl Default for Forwarded {
    fn default() -> Forwarded {
        let (takers, unwanted) = Default::default();
        Forwarded { takers, unwanted, places: Arc::new(Semaphore::new(MAX_CHANNELS)) }
    }
}

impl Forwarded {
    fn takers(&self) -> MutexGuard<'_, Vec<Taker>> {
        self.takers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwanted(&self) -> MutexGuard<'_, Vec<ForwardedAt>> {
        self.unwanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has somebody take the channels of what is listened on. Returns whether that is so: nobody else
    /// may take them, but for those of agents.
    fn add(&self, at: &ForwardedAt, channels: &mpsc::UnboundedSender<ForwardedChannel>) -> bool {
        let mut takers = self.takers();
        if *at != ForwardedAt::Agent && takers.iter().any(|taker| taker.at == *at) {
            return false;
        }
        takers.push(Taker { at: at.clone(), channels: channels.clone() });
        true
    }

    /// Has somebody take no more channels.
    fn remove(&self, channels: &mpsc::UnboundedSender<ForwardedChannel>) {
        self.takers().retain(|taker| !taker.channels.same_channel(channels));
    }

    /// Accepts a channel, if somebody takes it. Of several, the last one does.
    pub(super) async fn take(
        &self,
        at: ForwardedAt,
        channel: Channel<Msg>,
        from: String,
        reply: ChannelOpenHandle,
    ) {
        let taken = |taker: &&Taker| taker.at == at && !taker.channels.is_closed();
        let taker = self.takers().iter().rev().find(taken).map(|taker| taker.channels.clone());
        let place = self.places.clone().try_acquire_owned();
        if let (Some(taker), Ok(place)) = (taker, place) {
            reply.accept().await;
            let _ = taker.send(ForwardedChannel { channel, from, place });
        }
    }
}

/// Has the server listen no more when it is dropped.
struct StopListening {
    at: ForwardedAt,
    channels: mpsc::WeakUnboundedSender<ForwardedChannel>,
    connection: WeakConnection,
}

impl Drop for StopListening {
    fn drop(&mut self) {
        let Some(connection) = self.connection.upgrade() else { return };
        let Some(channels) = self.channels.upgrade() else { return };
        connection.0.forwarded.remove(&channels);
        if self.at == ForwardedAt::Agent {
            return;
        }
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
            (Err(error), _) => {
                forwarded.remove(&taker);
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
        let channels = taker.downgrade();
        Ok((port, StopListening { at, channels, connection: self.downgrade() }))
    }

    /// Takes the channels that the server opens to reach an agent, those of all sessions: SSH does
    /// not say which session they are for. Of several who take them, the last one does.
    pub(crate) fn listen_for_agent(&self) -> Listener {
        let at = ForwardedAt::Agent;
        let (taker, channels) = mpsc::unbounded_channel();
        self.0.forwarded.add(&at, &taker);
        let (sender, incoming) = mpsc::unbounded_channel();
        tokio::spawn(pass_on(self.downgrade(), channels, sender));
        let channels = taker.downgrade();
        let stop = StopListening { at, channels, connection: self.downgrade() };
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
    while let Some(ForwardedChannel { channel, from, place }) = channels.recv().await {
        let Some(connection) = connection.upgrade() else { return };
        let from = printable::word(&from, MAX_ORIGIN);
        if incoming.send(connection.incoming(channel, from, place)).is_err() {
            return;
        }
    }
}
