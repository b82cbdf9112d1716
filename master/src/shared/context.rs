//! A context that the user's master holds.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use fakessh_protocol::message::ProgramSetup;
use tokio::sync::{mpsc, watch};

use super::session::{Program, SharedSession};
use super::{Outgoing, master_has_ended, received, to_bytes};
use crate::caller::Ask;
use crate::control::{ClientMessage, Reached, Reply};
use crate::error::Error;
use crate::socket::Socket;

/// A context that the user's master holds. As long as this lives, the context is in use.
pub(crate) struct SharedContext {
    name: String,
    user: String,
    ask: Arc<dyn Ask>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    /// Why the context is gone.
    lost: watch::Receiver<Option<Error>>,
}

impl std::fmt::Debug for SharedContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedContext").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SharedContext {
    /// Takes over a connection on which the master has said that the context is there.
    pub(super) fn start(reached: Reached, socket: Socket, ask: Arc<dyn Ask>) -> SharedContext {
        let (outgoing, waiting) = mpsc::unbounded_channel();
        let (tell, lost) = watch::channel(None);
        let Reached { name, user, .. } = reached;
        let of = name.clone();
        // When nobody can send any more, the task sends what waits, and ends.
        tokio::spawn(async move {
            if let Some(error) = speak(&of, &socket, waiting).await {
                tell.send_replace(Some(error));
            }
        });
        SharedContext { name, user, ask, outgoing, lost }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Starts a program. Nothing is waited for.
    ///
    /// # Errors
    /// If the context is lost, or this process has no descriptors left.
    pub(crate) fn open(
        &self,
        program: Program,
        stdio: [OwnedFd; 3],
        setup: ProgramSetup,
    ) -> Result<SharedSession, Error> {
        if let Some(error) = &*self.lost.borrow() {
            return Err(error.clone());
        }
        let (session, starting) =
            SharedSession::new(&self.name, program, stdio, setup, self.ask.clone())?;
        // If the context is lost meanwhile, the session's own socket is closed, and tells.
        let _ = self.outgoing.send(starting);
        Ok(session)
    }

    /// Waits until the context is lost, and says why. Cancel safe.
    pub(crate) async fn lost(&self) -> Error {
        let mut lost = self.lost.clone();
        let why = lost.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| master_has_ended(&self.name))
    }
}

impl SharedContext {
    /// Closes the context for everybody, and waits until that is done.
    pub(crate) async fn close(&self) {
        let message = to_bytes(&ClientMessage::Close);
        let _ = self.outgoing.send(Outgoing { message, descriptors: Vec::new() });
        self.lost().await;
    }
}

/// Speaks with the master until the context is lost, or nobody holds it any more.
async fn speak(
    name: &str,
    socket: &Socket,
    mut waiting: mpsc::UnboundedReceiver<Outgoing>,
) -> Option<Error> {
    loop {
        tokio::select! {
            outgoing = waiting.recv() => {
                let Outgoing { message, descriptors } = outgoing?;
                let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
                if socket.send(&message, &descriptors).await.is_err() {
                    return Some(master_has_ended(name));
                }
            }
            reply = received(socket) => match reply {
                Ok(Reply::Lost(failure) | Reply::Failed(failure)) => {
                    return Some(Error::of_failure(name, failure));
                }
                Ok(_) => {}
                Err(_) => return Some(master_has_ended(name)),
            },
        }
    }
}
