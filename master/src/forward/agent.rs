//! An agent here that a session there reaches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::Peer;
use tokio::task::JoinSet;

use super::join::{FarEnd, LocalEnd};
use crate::fd_limit;
use crate::link::{Incoming, Listener};
use crate::open_forwards::Sockets;

/// Most bytes of an agent's answer to a binding: agents give one or none.
const MAX_ANSWER: usize = 16 * 1024;

/// How long an agent may take for that answer. It asks nobody for it.
const SILENCE: Duration = Duration::from_secs(30);

/// Takes and counts connections, until it is cancelled or the connection to the target is lost, and
/// has each reach the agent at this path. Before that, the agent is told which host has it used.
pub(crate) async fn serve(
    mut listener: Listener,
    (path, binding): (Vec<u8>, Option<Vec<u8>>),
    count: Arc<AtomicU64>,
    sockets: &Arc<dyn Sockets>,
) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            incoming = listener.incoming.recv() => {
                let Some(incoming) = incoming else { return };
                count.fetch_add(1, Ordering::Relaxed);
                let (peer, binding) = (Peer::Unix(path.clone()), binding.clone());
                let sockets = sockets.clone();
                tasks.spawn(async move {
                    if let Err(failure) = pass_on(incoming, peer, binding, sockets).await {
                        tracing::info!(why = failure.message, "an agent was not reached");
                    }
                });
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Passes one connection on.
async fn pass_on(
    incoming: Incoming,
    peer: Peer,
    binding: Option<Vec<u8>>,
    sockets: Arc<dyn Sockets>,
) -> Result<(), Failure> {
    fd_limit::check()?;
    let far = FarEnd::incoming(incoming);
    let socket = sockets.connect(peer).await;
    drop(sockets);
    let socket = socket.map_err(|why| Failure::new(FailureKind::Connect, why))?;
    let mut local = LocalEnd::new(socket)?;
    if let Some(binding) = binding {
        // An agent that knows no bindings refuses this one, and serves all the same.
        let told = local.ask(&binding, MAX_ANSWER);
        let silent = || Failure::new(FailureKind::Connect, "the agent does not answer");
        tokio::time::timeout(SILENCE, told).await.map_err(|_| silent())??;
    }
    local.join(far).await
}
