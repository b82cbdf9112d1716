//! All sessions of a run: takes handoffs for as long as somebody can send one.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use fakessh_protocol::message::Handoff;
use tokio::task::JoinSet;

use crate::run::Run;
use crate::socket::Socket;

/// Serves the shims of a tool that come over the run's socket and, while `listener` is there,
/// over connections to the run directory's socket.
///
/// Ends when nobody holds the other end of `socket` and the last session is over. Cancelled,
/// it hangs up every session.
pub(crate) async fn serve(run: Arc<Run>, socket: Arc<Socket>, listener: Option<Socket>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            handoff = receive(&socket) => match handoff {
                Some((handoff, descriptors)) => {
                    sessions.spawn(super::handoff(run.clone(), handoff, descriptors));
                }
                None => break,
            },
            Some(connection) = accept(listener.as_ref()) => {
                let run = run.clone();
                sessions.spawn(async move {
                    if let Some((handoff, descriptors)) = receive(&connection).await {
                        super::handoff(run, handoff, descriptors).await;
                    }
                });
            }
            Some(_) = sessions.join_next() => {}
        }
    }
    while sessions.join_next().await.is_some() {}
}

/// The next handoff; `None` when nobody can send one any more. What is no handoff is passed over.
async fn receive(socket: &Socket) -> Option<(Handoff, Vec<OwnedFd>)> {
    loop {
        match socket.receive_message().await {
            Ok(received) => return received,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                tracing::warn!(%error, "something that is no handoff came over a run's socket");
            }
            Err(error) => {
                tracing::warn!(%error, "a run's socket failed");
                return None;
            }
        }
    }
}

/// The next connection to a run's directory, from a process of this user.
async fn accept(listener: Option<&Socket>) -> Option<Socket> {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok(connection) if connection.peer_is_ours() => return Some(connection),
            Ok(_) => tracing::warn!("a shim of another user was turned away"),
            Err(error) => {
                tracing::warn!(%error, "can't accept a shim");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}
