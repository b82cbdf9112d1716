//! Connections that come in here, and are passed on there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::{Connection, Peer, ProgramKind, ProgramSetup};
use rustix::net::getsockname;
use rustix::net::sockopt::set_tcp_nodelay;
use tokio::task::JoinSet;

use super::join::{FarEnd, LocalEnd};
use super::socks::{Client as _, destination};
use crate::accepting::Accepting;
use crate::context::Context;
use crate::fd_limit;
use crate::open_forwards::{Connections, Listening, LocalListener};
use crate::pump::Foreign;

/// How long a client may take to name the host that it wants to reach.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// The port that a socket listens on.
pub(super) fn port(socket: &Foreign) -> Option<u16> {
    SocketAddr::try_from(getsockname(socket).ok()?).ok().map(|address| address.port())
}

/// Takes connections until it is to stop, and serves them to their end. Cancelled, it ends them.
pub(super) async fn serve(
    context: Arc<Context>,
    listener: LocalListener,
    to: Option<Peer>,
    connections: Arc<Connections>,
    mut listening: Listening,
) {
    let LocalListener { sockets, file } = listener;
    let mut accepting = Accepting::start(sockets);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            () = listening.stopped() => break,
            socket = accepting.next() => {
                let Some(socket) = socket else { break };
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
    drop(accepting);
    if let Some(file) = file {
        file.dropped().await;
    }
    drop(listening);
    while tasks.join_next().await.is_some() {}
}

/// Passes one connection on.
async fn pass_on(context: &Context, socket: Foreign, to: Option<Peer>) -> Result<(), Failure> {
    fd_limit::check()?;
    // Small pieces are often keystrokes. A Unix socket has no such option.
    let _ = set_tcp_nodelay(&socket, true);
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
