//! The invoker of a session: the shim that waits for its end.

use std::os::fd::AsFd;
use std::sync::Arc;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::{FromShim, ToShim};
use tokio::sync::mpsc;

use super::outcome::SessionOutcome;
use super::reverse;
use super::stdio::Stdio;
use crate::caller::Ask;
use crate::link::ReverseShim;
use crate::run::not_from_a_target;
use crate::socket::Socket;

/// Sends a shim messages.
pub(super) enum Invoker {
    /// A shim on this host.
    Local(Arc<Socket>),
    /// A shim on a target.
    Reverse(ReverseShim),
}

/// Receives the messages of a shim.
pub(super) enum Messages {
    Local(Arc<Socket>),
    Reverse(mpsc::Receiver<FromShim>),
}

impl Messages {
    /// Waits for the next message; `None` when the shim is gone. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<FromShim> {
        match self {
            Messages::Local(socket) => {
                let received = socket.receive_message::<FromShim>().await;
                received.ok().flatten().map(|(message, _)| message)
            }
            Messages::Reverse(messages) => messages.recv().await,
        }
    }
}

impl Invoker {
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Invoker::Local(_))
    }

    /// Sends a message. If the shim is gone, [`Messages`] tells.
    pub(super) async fn send(&self, message: ToShim) {
        match self {
            Invoker::Local(socket) => {
                let _ = socket.send_message(&message, &[]).await;
            }
            Invoker::Reverse(shim) => shim.send(message),
        }
    }

    /// Reports how the session ended, to a shim that asked for this host.
    pub(super) async fn report(
        &self,
        outcome: SessionOutcome,
        host: &str,
        stdio: &mut Stdio,
        ask: &dyn Ask,
    ) {
        match self {
            Invoker::Local(socket) => {
                let sent = match outcome {
                    SessionOutcome::Exited(status) => {
                        socket.send_message(&ToShim::Exited(status), &[]).await
                    }
                    SessionOutcome::Failed(denied) => {
                        socket.send_message(&ToShim::Failed(denied.failure), &[]).await
                    }
                    SessionOutcome::RealSsh { why, words } => match stdio.give_back() {
                        Some(descriptors) => {
                            let descriptors = descriptors.each_ref().map(AsFd::as_fd);
                            socket.send_message(&ToShim::RealSsh { why, words }, &descriptors).await
                        }
                        None => {
                            let failure = Failure::new(FailureKind::Refused, why);
                            socket.send_message(&ToShim::Failed(failure), &[]).await
                        }
                    },
                };
                if let Err(error) = sent {
                    // If the shim is gone, `Messages` tells.
                    tracing::debug!(%error, "a shim was not told how its session ended");
                }
            }
            Invoker::Reverse(shim) => {
                let message = match outcome {
                    SessionOutcome::Exited(status) => ToShim::Exited(status),
                    SessionOutcome::Failed(denied) => {
                        ToShim::Failed(reverse::shown_failure(host, denied, ask).await)
                    }
                    SessionOutcome::RealSsh { .. } => {
                        let text = not_from_a_target(host);
                        ToShim::Failed(Failure::new(FailureKind::Refused, text))
                    }
                };
                // The outputs have to be closed first. The slave keeps the tool's ends open.
                stdio.cut_handles();
                shim.send(message);
            }
        }
    }
}
