//! Serves the tool of a client.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use fakessh_protocol::failure::{Failure, FailureKind};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::messages::{Messages, done};
use super::request::{RunEnd, RunRequest};
use super::shared::{Busy, MasterState};
use crate::audit::Event;
use crate::caller::{Ask as _, Caller};
use crate::control::{AskedClient, ClientMessage, Reply};
use crate::fd_limit;
use crate::run::{Hosts, Run};
use crate::runtime_dir::RuntimeDir;
use crate::session;
use crate::socket::{Socket, is_packet_socket};
use crate::tool::RunDirectoryName;

/// How often it is looked whether the maker of a run directory has let go of it: for ten seconds.
const ABANDONED_LOOKS: u32 = 1000;

/// Time between two such looks.
const ABANDONED_LOOK: Duration = Duration::from_millis(10);

/// Serves a tool until nobody holds its descriptor any more.
pub(super) async fn run(
    shared: &Arc<MasterState>,
    client: &Arc<AskedClient>,
    messages: &mut Messages,
    request: RunRequest,
    (caller, descriptors): (&Caller, Vec<OwnedFd>),
) -> Result<Reply, Failure> {
    let ours = crate::VERSION;
    if request.version != ours {
        let message = format!(
            "the master that runs is fakessh {ours} and this is fakessh {}; run `fakessh stop` and try again",
            request.version
        );
        return Err(Failure::new(FailureKind::Version, message));
    }
    // Dropped on every way out: a client that is killed can't remove its directory any more.
    let directory = Abandoned { base: shared.directory.clone(), name: request.directory };
    fd_limit::check()?;
    let (socket, listener) = sockets(descriptors)?;
    let system = |error: std::io::Error| Failure::other(format!("can't serve the run: {error}"));
    let socket = Arc::new(Socket::new(socket).map_err(system)?);
    let listener = listener.map(Socket::new).transpose().map_err(system)?;
    let RunRequest { on, destination, routes, names, connect_later, connection, real_ssh, .. } =
        request;
    let (rules, answers, tool) = (request.rules, request.answers, request.tool);
    let hosts = if on.is_none() && destination.is_none() && routes.is_empty() {
        let connection = connection.into_iter().map(Into::into).collect();
        Hosts::CommandLine { connection, names: names.into_iter().collect(), real_ssh }
    } else {
        Hosts::Mapped { on, destination, routes: routes.into_iter().collect() }
    };
    let run = Run::new(hosts, shared.registry.clone(), caller);
    let mut run = run.held_by(rules);
    if answers {
        run = run.confirmed_by(client.clone());
    }
    let run = Arc::new(run);
    run.audit().note(&Event::Run {
        run: run.id(),
        by: client.who(),
        tool,
        routes: run.names().map(|(name, route)| (name.to_owned(), route.to_string())).collect(),
    });
    if !connect_later {
        let connected = run.connect(&caller.ask).await;
        connected.map_err(|(route, error)| error.failure().of(route))?;
    }
    let (client_lives, client_gone) = oneshot::channel::<()>();
    let (busy, serving, served) = (Busy::new(shared), socket.clone(), run.clone());
    tokio::spawn(async move {
        let _busy = busy;
        session::serve(served, serving, listener).await;
        let _ = client_gone.await;
        drop(directory);
    });
    client.reply(&Reply::Done(Value::Null)).await.map_err(system)?;
    // The connection lasts as long as the tool. Then the client wants to know whether somebody
    // still holds the run: a process that outlives the tool.
    while let Some((message, _)) = messages.recv().await {
        if message == ClientMessage::Ended {
            break;
        }
    }
    drop(client_lives);
    done(&RunEnd { is_held: !socket.is_at_end(), was_called: run.was_called() })
}

/// The sockets of a run: the one that its tool holds the other end of, and the one that listens in
/// its directory.
///
/// A run is over when nobody holds that other end. So it must not come with the request, and any
/// socket that is connected might be it.
fn sockets(descriptors: Vec<OwnedFd>) -> Result<(OwnedFd, Option<OwnedFd>), Failure> {
    let mut descriptors = descriptors.into_iter();
    let socket =
        descriptors.next().ok_or_else(|| Failure::other("a run came without its socket"))?;
    let listener = descriptors.next();
    let is_sound = is_packet_socket(&socket, false)
        && listener.as_ref().is_none_or(|listener| is_packet_socket(listener, true));
    if !is_sound || descriptors.next().is_some() {
        let text = "a run brings one end of a socket pair and one listening socket";
        return Err(Failure::other(text));
    }
    Ok((socket, listener))
}

/// A run directory that is removed with this, unless its maker still holds it.
struct Abandoned {
    base: RuntimeDir,
    name: Option<RunDirectoryName>,
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        let (Some(name), Ok(runtime)) = (self.name.take(), Handle::try_current()) else { return };
        let base = self.base.clone();
        // A process that is killed closes its socket a moment before it lets go of its lock.
        runtime.spawn(async move {
            for _ in 0..ABANDONED_LOOKS {
                if crate::tool::remove_abandoned(&base, &name) {
                    return;
                }
                tokio::time::sleep(ABANDONED_LOOK).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::socket::listen;

    fn pair(kind: SocketType) -> [OwnedFd; 2] {
        socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap().into()
    }

    #[test]
    fn a_run_does_not_hold_itself() {
        let directory = tempfile::tempdir().unwrap();
        let listener = || {
            let path = directory.path().join("socket");
            let _ = std::fs::remove_file(&path);
            listen(&path).unwrap()
        };
        let [end, _other] = pair(SocketType::SEQPACKET);
        let copy = end.as_fd().try_clone_to_owned().unwrap();
        assert!(sockets(vec![copy]).is_ok());
        assert!(sockets(vec![end, listener()]).is_ok());
        // Both ends of its socket pair, in every place.
        assert!(sockets(pair(SocketType::SEQPACKET).into()).is_err());
        let [end, other] = pair(SocketType::SEQPACKET);
        assert!(sockets(vec![end, listener(), other]).is_err());
        // One for which there is no end.
        let [end, _other] = pair(SocketType::DGRAM);
        assert!(sockets(vec![end]).is_err());
        assert!(sockets(vec![listener()]).is_err());
        assert!(sockets(vec![std::fs::File::open("/dev/null").unwrap().into()]).is_err());
        assert!(sockets(Vec::new()).is_err());
    }
}
