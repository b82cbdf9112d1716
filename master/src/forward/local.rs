//! Connections that come in here, and are passed on there.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::{Connection, Peer, ProgramKind, ProgramSetup};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{SocketFlags, accept_with, getsockname};
use tokio::io::Interest;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::join::{FarEnd, LocalEnd};
use super::socks::{Client as _, destination};
use crate::context::Context;
use crate::open_forwards::Connections;
use crate::{fd_limit, sys};

/// Pause after a connection could not be accepted for want of descriptors or memory.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may take to say where it wants to go.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// The port that a socket listens on.
pub(super) fn port(socket: &OwnedFd) -> Option<u16> {
    SocketAddr::try_from(getsockname(socket).ok()?).ok().map(|address| address.port())
}

/// Takes connections on these sockets, until it is cancelled, and serves them.
pub(super) async fn serve(
    context: Arc<Context>,
    sockets: Vec<OwnedFd>,
    to: Option<Peer>,
    connections: Arc<Connections>,
) {
    let mut tasks = JoinSet::new();
    let (accepted, mut incoming) = mpsc::channel(1);
    for socket in sockets {
        tasks.spawn(accept(socket, accepted.clone()));
    }
    loop {
        tokio::select! {
            Some(socket) = incoming.recv() => {
                let (context, to, open) = (context.clone(), to.clone(), connections.begin());
                tasks.spawn(async move {
                    let _open = open;
                    if let Err(failure) = pass_on(&context, socket, to).await {
                        tracing::info!(context = context.name(), why = failure.message, "a forwarded connection failed");
                    }
                });
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Accepts connections on a socket.
async fn accept(socket: OwnedFd, accepted: mpsc::Sender<OwnedFd>) {
    let Ok(socket) = sys::watch(socket, Interest::READABLE) else { return };
    loop {
        let next = socket.async_io(Interest::READABLE, |socket| {
            Ok(accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
        });
        match next.await {
            Ok(socket) => {
                // Small pieces are often keystrokes. A Unix socket has no such option.
                let _ = set_tcp_nodelay(&socket, true);
                if accepted.send(socket).await.is_err() {
                    return;
                }
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CONNABORTED) => {}
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection of a forward");
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
        }
    }
}

/// Passes one connection on.
async fn pass_on(context: &Context, socket: OwnedFd, to: Option<Peer>) -> Result<(), Failure> {
    fd_limit::check()?;
    let mut local = LocalEnd::new(socket)?;
    let peer = match to {
        Some(peer) => return local.join(connect(context, peer)?).await,
        None => tokio::time::timeout(HANDSHAKE, destination(&mut local)).await,
    };
    let Ok(Some((peer, reply))) = peer else { return Ok(()) };
    let mut far = connect(context, peer)?;
    match far.connected().await {
        Ok(()) => local.write(reply.connected()).await,
        Err(failure) => {
            local.write(reply.failed(failure.kind)).await;
            return Err(failure);
        }
    }
    local.join(far).await
}

/// Opens a connection there. It may not be there yet.
fn connect(context: &Context, peer: Peer) -> Result<FarEnd, Failure> {
    let program = ProgramKind::Connection(Connection { peer, reports: true });
    let opened = context.open(program, ProgramSetup::default());
    let (io, running) =
        opened.map_err(|lost| Failure::new(FailureKind::ConnectionLost, lost.to_string()))?;
    Ok(FarEnd::opened(io, running))
}
