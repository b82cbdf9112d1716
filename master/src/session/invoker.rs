//! The invoker of a session: the shim or the client that waits for its end.

use std::os::fd::AsFd;
use std::sync::Arc;

use fakessh_protocol::exit::TRANSPORT_FAILURE;
use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::{FromShim, ListenAnswer, Secret, ToShim};
use fakessh_protocol::terminal::WindowSize;
use tokio::sync::mpsc;

use super::multiplex::{MultiplexedShim, ShimMessages};
use super::outcome::SessionOutcome;
use super::reverse;
use super::stdio::Stdio;
use crate::caller::Ask;
use crate::control::{
    AskedClient, ClientMessage, Heard, OutputName, ProgramEnd, Reply, heard, not_understood,
};
use crate::link::ReverseShim;
use crate::pump::Foreign;
use crate::run::not_from_a_target;
use crate::socket::Socket;

/// Sends an invoker messages.
pub(super) enum Invoker {
    /// A shim on this host.
    Local(Arc<Socket>),
    /// A client of the control protocol.
    Client(Arc<AskedClient>),
    /// A shim on a target.
    Reverse(ReverseShim),
    /// A client of a ControlPath.
    Multiplexed(MultiplexedShim),
}

/// Receives the messages of an invoker.
pub(super) enum Messages {
    Local(Arc<Socket>),
    Client(Arc<AskedClient>),
    Reverse(mpsc::Receiver<FromShim>),
    Multiplexed(ShimMessages),
}

/// What an invoker says.
#[derive(Debug)]
pub(super) enum Message {
    /// The answer to a question.
    Answer(Option<Secret>),
    /// To send the program this signal.
    Signal(u8),
    /// To give the program's terminal another size.
    Resize(WindowSize),
    /// What came of the request to listen.
    Listening(ListenAnswer, Vec<Foreign>),
    /// What came of the request to connect that has this number: a socket, or why there is none.
    Connected(u32, String, Option<Foreign>),
    /// Whether output may go to the invoker's terminal.
    Showing(bool),
    /// The invoker goes on as this process.
    Background(u32),
    /// Terminals of others may have other sizes.
    WindowChanged,
    /// To cut standard input.
    Abort,
    /// To let the program run on when the invoker is gone.
    Detach,
}

impl Message {
    /// A message of a shim, with the descriptors that came with it.
    fn of_shim(message: FromShim, descriptors: Vec<Foreign>) -> Message {
        match message {
            FromShim::Showing(shows) => Message::Showing(shows),
            FromShim::Background(pid) => Message::Background(pid),
            FromShim::WindowChanged => Message::WindowChanged,
            FromShim::Listening(answer) => Message::Listening(answer, descriptors),
            FromShim::Connected(number, why_not) => {
                Message::Connected(number, why_not, descriptors.into_iter().next())
            }
            FromShim::Answer(answer) => Message::Answer(answer),
            FromShim::Signal(number) => Message::Signal(number),
            FromShim::Resize(size) => Message::Resize(size),
        }
    }
}

impl Messages {
    /// Waits for the next message; `None` when the invoker is gone, or says something that is no
    /// message of a session. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Message> {
        match self {
            Messages::Local(socket) => {
                let received = socket.receive_message::<FromShim>().await;
                let (message, descriptors) = received.ok().flatten()?;
                Some(Message::of_shim(message, descriptors))
            }
            Messages::Client(client) => {
                let received = client.socket().receive().await.ok()??;
                let message = match heard(received.payload) {
                    Ok(message) => message,
                    Err(error) => {
                        let _ = client.reply(&Reply::Failed(not_understood(&error))).await;
                        return None;
                    }
                };
                match message {
                    Heard::Answer(answer) => Some(Message::Answer(answer)),
                    Heard::Message(ClientMessage::Signal(number)) => Some(Message::Signal(number)),
                    Heard::Message(ClientMessage::Abort) => Some(Message::Abort),
                    Heard::Message(ClientMessage::Detach) => Some(Message::Detach),
                    Heard::Message(
                        other @ (ClientMessage::Start(_)
                        | ClientMessage::Close
                        | ClientMessage::Ended),
                    ) => {
                        let text = format!("{} is not for the socket of a session", other.name());
                        let failed = Failure::new(FailureKind::Config, text);
                        let _ = client.reply(&Reply::Failed(failed)).await;
                        None
                    }
                }
            }
            Messages::Multiplexed(messages) => messages.next().await.map(Message::Resize),
            Messages::Reverse(messages) => {
                messages.recv().await.map(|message| Message::of_shim(message, Vec::new()))
            }
        }
    }
}

impl Invoker {
    /// Whether a program that can't be started has a status, as for a shell. A client is told the
    /// kind of the failure.
    pub(super) fn takes_statuses(&self) -> bool {
        !matches!(self, Invoker::Client(_))
    }

    /// Tells a client that all of an output was written, before the output is closed: a client that
    /// finds the end of a pipe must be able to tell it from the end of the master.
    pub(super) async fn whole(&self, output: OutputName) {
        if let Invoker::Client(client) = self {
            let _ = client.reply(&Reply::Whole(output)).await;
        }
    }

    /// Sends a message. If the invoker is gone, [`Messages`] tells.
    pub(super) async fn send(&self, message: ToShim) {
        match self {
            Invoker::Client(client) => {
                if let ToShim::Notice(notice) = message {
                    client.notice(notice).await;
                }
            }
            Invoker::Local(socket) => {
                let _ = socket.send_message(&message, &[]).await;
            }
            Invoker::Reverse(shim) => shim.send(message),
            // There are no words for it.
            Invoker::Multiplexed(_) => {}
        }
    }

    /// Reports how the session ended, to an invoker that asked for this host.
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
            Invoker::Client(client) => {
                let reply = match outcome {
                    SessionOutcome::Exited(status) => {
                        serde_json::to_value(ProgramEnd::from(status)).map_or_else(
                            |error| Reply::Failed(Failure::other(error.to_string())),
                            Reply::Done,
                        )
                    }
                    SessionOutcome::Failed(denied) => Reply::Failed(denied.failure),
                    SessionOutcome::RealSsh { why, .. } => {
                        Reply::Failed(Failure::new(FailureKind::Refused, why))
                    }
                };
                let _ = client.reply(&reply).await;
            }
            Invoker::Multiplexed(shim) => {
                let status = match outcome {
                    SessionOutcome::Exited(status) => status.shell_code(),
                    SessionOutcome::Failed(denied) => {
                        tracing::info!(
                            why = denied.failure.message,
                            "a session of a ControlPath failed"
                        );
                        TRANSPORT_FAILURE
                    }
                    SessionOutcome::RealSsh { .. } => TRANSPORT_FAILURE,
                };
                stdio.close();
                shim.ended(status).await;
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
