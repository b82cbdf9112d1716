//! One client of the daemon: its request, the questions it has to answer, the reply.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::{Notice, Question, Secret};
use fakessh_unix::datagram::{CutShort, Datagram};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, oneshot};
use zeroize::Zeroizing;

use super::control::{self, Envelope, Listing, Reply, Request, RunEnd, RunRequest};
use super::shared::{Busy, MasterState};
use crate::audit::{Event, Who};
use crate::caller::{Ask, Caller};
use crate::context::Branch;
use crate::fd_limit;
use crate::run::{Hosts, Run};
use crate::runtime_dir::RuntimeDir;
use crate::session::{self, Answers};
use crate::socket::{Socket, is_packet_socket};
use crate::tool::RunDirectoryName;

/// How often it is looked whether the maker of a run directory has let go of it: for ten seconds.
const ABANDONED_LOOKS: u32 = 1000;

/// Time between two such looks.
const ABANDONED_LOOK: Duration = Duration::from_millis(10);

/// A client that can be asked while its request is worked on.
struct AskedClient {
    socket: Socket,
    /// What it answers. Whoever asks holds this until the answer is there.
    answers: Mutex<Answers>,
    /// Its tool has ended.
    ended: Notify,
}

impl AskedClient {
    async fn reply(&self, reply: &Reply) -> std::io::Result<()> {
        self.socket.send(&serde_json::to_vec(reply)?, &[]).await
    }
}

#[async_trait]
impl Ask for AskedClient {
    async fn ask(&self, question: Question) -> Option<Secret> {
        let mut answers = self.answers.lock().await;
        answers.ask(self.reply(&Reply::ask(&question))).await
    }

    fn who(&self) -> Option<Who> {
        self.socket.peer()
    }

    async fn notice(&self, notice: Notice) {
        let _ = self.reply(&Reply::Notice(notice)).await;
    }
}

/// A request that was made less than this time before the end of the master is done by the next one:
/// it was not meant to be stopped.
const JUST_ARRIVED: Duration = Duration::from_secs(1);

/// Serves one client to its end. When it goes away, what it asked for is given up.
pub(super) async fn serve(shared: Arc<MasterState>, socket: Socket) {
    let _busy = Busy::new(&shared);
    let request = match socket.receive().await {
        Ok(Some(request)) => request,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, "a client sent something else than a request");
            if error.downcast::<CutShort>().is_ok() {
                let reply = serde_json::to_vec(&Reply::Failed(fd_limit::refusal()));
                let _ = socket.send(&reply.unwrap_or_default(), &[]).await;
            }
            return;
        }
    };
    let (answers, sender) = Answers::new();
    let client =
        Arc::new(AskedClient { socket, answers: Mutex::new(answers), ended: Notify::new() });
    let listen = async {
        while let Ok(Some(message)) = client.socket.receive().await {
            if message.payload == control::ENDED {
                client.ended.notify_one();
                continue;
            }
            let message = Zeroizing::new(message.payload);
            let _ = sender.send(control::answer(&message)).await;
        }
    };
    tokio::select! {
        () = work(&shared, &client, request) => {}
        () = listen => {}
    }
}

/// Does what a client asks for, and tells it.
async fn work(shared: &Arc<MasterState>, client: &Arc<AskedClient>, request: Datagram) {
    let begun = Instant::now();
    let reply = match open(&request.payload, client.clone()) {
        Ok((wanted, caller)) => handle(shared, client, wanted, &caller, request.descriptors).await,
        Err(why) => Err(why),
    };
    let reply = match reply {
        Ok(value) => Reply::Done(value),
        // Whatever it looked like, the reason is that this master ends. The next one will do it.
        Err(_) if shared.registry.is_closing() && begun.elapsed() < JUST_ARRIVED => Reply::Ending,
        Err(_) if shared.registry.is_closing() => {
            let text = "the master was stopped (fakessh stop) before it was done";
            Reply::Failed(Failure::other(text))
        }
        Err(failure) => Reply::Failed(failure),
    };
    let _ = client.reply(&reply).await;
}

/// Reads a request; one of another version is refused before it is understood.
fn open(payload: &[u8], client: Arc<AskedClient>) -> Result<(Request, Caller), Failure> {
    let malformed =
        |error: serde_json::Error| Failure::other(format!("the request can't be read: {error}"));
    let envelope: Envelope = serde_json::from_slice(payload).map_err(malformed)?;
    let ours = crate::VERSION;
    // Any client may end a master of another version: it is the way out.
    let stops = envelope.request == json!(Request::Stop);
    if envelope.version != ours && !stops {
        let message = format!(
            "the master that runs is fakessh {ours} and this is fakessh {}; \
             run `fakessh stop` and try again",
            envelope.version
        );
        return Err(Failure::new(FailureKind::Version, message));
    }
    let request = if stops {
        Request::Stop
    } else {
        serde_json::from_value(envelope.request).map_err(malformed)?
    };
    let variables = envelope.environment.into_iter();
    let caller = Caller {
        environment: variables.map(|(name, value)| (name.into(), value.into())).collect(),
        directory: PathBuf::from(std::ffi::OsString::from(envelope.directory)),
        ask: client,
    };
    Ok((request, caller))
}

/// Does what a request asks for.
async fn handle(
    shared: &Arc<MasterState>,
    client: &Arc<AskedClient>,
    request: Request,
    caller: &Caller,
    descriptors: Vec<OwnedFd>,
) -> Result<Value, Failure> {
    match request {
        Request::Connect(route, rules) => {
            let connected = shared.registry.reach(&route, &rules, caller).await;
            let reached = connected.map_err(|error| error.failure().of(&route))?;
            reached.context.hold_briefly(false);
            Ok(Value::Null)
        }
        Request::Run(request) => run(shared, client, *request, caller, descriptors).await,
        Request::List => {
            let tree = shared.registry.tree();
            to_value(&tree.iter().map(|branch| listing(branch, &tree)).collect::<Vec<_>>())
        }
        Request::Close(names) => {
            shared.registry.close(&names).await.map_err(|error| error.failure())?;
            Ok(Value::Null)
        }
        Request::CloseAll => {
            shared.registry.close_all().await;
            Ok(Value::Null)
        }
        Request::Lock { idle } => {
            shared.registry.lock(idle).await;
            Ok(Value::Null)
        }
        Request::Stop => {
            // The daemon's loop takes the socket away before it closes the contexts: a client that
            // is turned away meanwhile finds no master, and starts the next one.
            shared.stop.notify_one();
            // The end of this connection is the end of the master.
            std::future::pending().await
        }
    }
}

/// Serves a tool until nobody holds its descriptor any more.
async fn run(
    shared: &Arc<MasterState>,
    client: &Arc<AskedClient>,
    request: RunRequest,
    caller: &Caller,
    descriptors: Vec<OwnedFd>,
) -> Result<Value, Failure> {
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
    client.ended.notified().await;
    drop(client_lives);
    to_value(&RunEnd { is_held: !socket.is_at_end(), was_called: run.was_called() })
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

fn listing(Branch { context, parent, depth }: &Branch, tree: &[Branch]) -> Listing {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Listing {
        id: context.id().to_string(),
        name: context.name().to_owned(),
        parent: parent.map(|parent| tree[parent].context.name().to_owned()),
        parent_index: *parent,
        depth: *depth,
        user: context.user().to_owned(),
        host: context.address().map(|(host, _)| host.to_owned()),
        port: context.address().map(|(_, port)| port),
        direct: context.why_direct().map(|why| why.to_string()),
        connected_at: seconds(context.since()),
        ends_at: context.ends_at().map(seconds),
        persist: context.persist().limit().map(|limit| limit.as_secs()),
        busy: context.is_busy(),
        sessions: context.sessions(),
        served: context.served(),
    }
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::other(error.to_string()))
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
