//! Holds a context for a client, and starts programs in it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use fakessh_protocol::failure::{Failure, FailureKind};

use super::messages::Messages;
use super::request::ConnectRequest;
use super::shared::{Busy, MasterState};
use crate::audit::Event;
use crate::caller::{Ask as _, Caller};
use crate::context::Context;
use crate::control::{AskedClient, ClientMessage, Reached, Reply, StartRequest};
use crate::fd_limit;
use crate::pump::Foreign;
use crate::run::Run;
use crate::session;
use crate::socket::{Socket, foreign, is_packet_socket};

/// A context that a connection of a client stands for. As long as this lives, the context is in use.
///
/// Programs outlive the connection of the client: each of them has a socket of its own.
pub(super) struct HeldContext {
    context: Arc<Context>,
    /// Leads to that context alone.
    run: Arc<Run>,
}

impl HeldContext {
    /// Connects to a context, or finds it connected.
    pub(super) async fn connect(
        shared: &MasterState,
        request: ConnectRequest,
        caller: &Caller,
    ) -> Result<HeldContext, Failure> {
        request.check()?;
        let ConnectRequest { to, rules } = request;
        let route = to.into_route()?;
        let reached = shared.registry.reach(&route, &rules, caller).await;
        let reached = reached.map_err(|error| error.failure().of(&route))?;
        let context = reached.context.clone();
        context.hold_briefly(false);
        let run = Run::in_context(route, reached, shared.registry.clone(), caller);
        Ok(HeldContext { context, run: Arc::new(run.held_by(rules)) })
    }

    /// What the client is told of it.
    pub(super) fn reached(&self) -> Reached {
        Reached {
            id: self.context.id().to_string(),
            name: self.context.name().to_owned(),
            user: self.context.user().to_owned(),
        }
    }

    /// Serves the client until the context is lost or there are no more messages. Gives what the
    /// client is told last.
    pub(super) async fn serve(
        &self,
        shared: &Arc<MasterState>,
        client: &AskedClient,
        messages: &mut Messages,
    ) -> Option<Reply> {
        let mut is_noted = false;
        loop {
            let (message, descriptors) = tokio::select! {
                why = self.context.lost() => {
                    let failure = Failure::new(FailureKind::ConnectionLost, why.to_string());
                    return Some(Reply::Lost(failure.of(self.context.name())));
                }
                message = messages.recv() => message?,
            };
            let request = match message {
                ClientMessage::Start(request) => request,
                ClientMessage::Close => {
                    // If it is not there any more, that is what was wanted.
                    let _ = shared.registry.close(&[self.context.id().to_string()]).await;
                    continue;
                }
                other => {
                    let text = format!("{} is not for the connection of a context", other.name());
                    return Some(Reply::Failed(Failure::other(text)));
                }
            };
            if !is_noted {
                is_noted = true;
                note(&self.run, client);
            }
            if let Err(failure) = start(shared, &self.run, *request, descriptors).await {
                return Some(Reply::Failed(failure));
            }
        }
    }
}

fn note(run: &Run, client: &AskedClient) {
    run.audit().note(&Event::Run {
        run: run.id(),
        by: client.who(),
        tool: None,
        routes: run.names().map(|(name, route)| (name.to_owned(), route.to_string())).collect(),
    });
}

/// Starts a program, and serves its session in a task of its own. What goes wrong is said over the
/// socket of the session.
///
/// # Errors
/// If there is no such socket.
async fn start(
    shared: &Arc<MasterState>,
    run: &Arc<Run>,
    request: StartRequest,
    mut descriptors: Vec<OwnedFd>,
) -> Result<(), Failure> {
    let stdio = descriptors.split_off(descriptors.len().min(1));
    let Some(socket) = session_socket(descriptors) else {
        let text = "a program was asked for without a socket for its session, which comes first";
        return Err(Failure::new(FailureKind::Config, text));
    };
    let checked = fd_limit::check().and_then(|()| standard_streams(stdio));
    let busy = Busy::new(shared);
    let run = run.clone();
    match checked {
        Ok(stdio) => drop(tokio::spawn(async move {
            let _busy = busy;
            session::start(run, request, stdio, socket).await;
        })),
        Err(failure) => {
            let (client, _) = AskedClient::new(socket);
            let _ = client.reply(&Reply::Failed(failure)).await;
        }
    }
    Ok(())
}

/// The standard streams of a program.
///
/// A session ends when nobody holds the other end of its socket. So that end must not come along, and
/// any socket of its type might be it.
fn standard_streams(descriptors: Vec<OwnedFd>) -> Result<[Foreign; 3], Failure> {
    let text = "a program needs a socket for its session, and standard input, output and error, of \
                which none is such a socket (SOCK_SEQPACKET)";
    let refused = || Failure::new(FailureKind::Config, text);
    let streams = <[Foreign; 3]>::try_from(foreign(descriptors)).map_err(|_| refused())?;
    if streams.iter().any(|stream| is_packet_socket(stream, false)) {
        return Err(refused());
    }
    Ok(streams)
}

/// The socket of a session, which is the first descriptor of the message that starts a program.
fn session_socket(descriptors: Vec<OwnedFd>) -> Option<Socket> {
    let socket = descriptors.into_iter().next()?;
    if !is_packet_socket(&socket, false) {
        tracing::warn!(
            "a program was asked for, and the first descriptor is no socket of a session"
        );
        return None;
    }
    let socket = Socket::new(socket);
    let failed =
        |error: &std::io::Error| tracing::warn!(%error, "can't wait for a session's client");
    socket.inspect_err(failed).ok()
}

/// The client of a session that can't be understood, if these are its descriptors.
pub(super) fn session_of(descriptors: Vec<OwnedFd>) -> Option<AskedClient> {
    session_socket(descriptors).map(|socket| AskedClient::new(socket).0)
}
