//! All sessions of a run: takes handoffs for as long as somebody can send one.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use fakessh_protocol::failure::Failure;
use fakessh_protocol::message::{Handoff, ToShim};
use fakessh_unix::datagram::{self, CutShort};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::audit::Refusals;
use crate::fd_limit;
use crate::pump::Foreign;
use crate::run::Run;
use crate::socket::{Socket, foreign, is_packet_socket};

/// Most connections to a run's directory over which nothing has come yet. A shim sends its handoff
/// at once: others wait until one of these has, and only others of the same run.
const MAX_WAITING: usize = 256;

/// How long such a connection may be silent. A shim that was stopped just then starts its session
/// again.
const SILENCE: Duration = Duration::from_secs(60);

/// Serves the shims of a tool that come over the run's socket and, while `listener` is there,
/// over connections to the run directory's socket.
///
/// Ends when nobody holds the other end of `socket` and the last session is over. Cancelled,
/// it hangs up every session.
pub(crate) async fn serve(run: Arc<Run>, socket: Arc<Socket>, listener: Option<Socket>) {
    let mut sessions = JoinSet::new();
    let waiting = Arc::new(Semaphore::new(MAX_WAITING));
    loop {
        tokio::select! {
            handoff = receive(&socket, run.refusals()) => {
                let Some(arrival) = handoff else { break };
                run.note_call();
                sessions.spawn(take(run.clone(), arrival));
            }
            Some((connection, waiting)) = accept(listener.as_ref(), &waiting) => {
                run.note_call();
                let run = run.clone();
                sessions.spawn(async move {
                    let arrival = receive(&connection, run.refusals());
                    let arrival = tokio::time::timeout(SILENCE, arrival).await;
                    drop(waiting);
                    if let Ok(Some(arrival)) = arrival {
                        take(run, arrival).await;
                    }
                });
            }
            Some(_) = sessions.join_next() => {}
        }
    }
    // A session that is left may be the way of a connection that this run holds, and end with it.
    run.let_go();
    while sessions.join_next().await.is_some() {}
}

/// Serves what has arrived to its end.
async fn take(run: Arc<Run>, arrival: Result<Admitted, Refused>) {
    match arrival {
        Ok(admitted) => super::handoff(run, admitted).await,
        Err(refused) => refused.wait().await,
    }
}

/// The next handoff; `None` when nobody can send one any more. What is no handoff is passed over.
async fn receive(socket: &Socket, refusals: &Refusals) -> Option<Result<Admitted, Refused>> {
    loop {
        match socket.receive_message().await {
            Ok(None) => return None,
            Ok(Some((handoff, descriptors))) => {
                if let Some(arrival) = admit(Some(handoff), descriptors, refusals) {
                    return Some(arrival);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                if refusals.is_noted() {
                    tracing::warn!(%error, "no handoff came over a run's socket");
                }
                if let Ok(cut) = error.downcast::<CutShort>()
                    && let Some(arrival) = admit(None, foreign(cut.descriptors), refusals)
                {
                    return Some(arrival);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a run's socket failed");
                return None;
            }
        }
    }
}

/// A handoff that is whole, and for which there is room.
pub(super) struct Admitted {
    pub(super) handoff: Handoff,
    /// Standard input, output and error.
    pub(super) stdio: [Foreign; 3],
    /// The shim's own socket.
    pub(super) socket: Socket,
}

/// A handoff that can't be served, with what of it has arrived.
struct Refused {
    socket: Foreign,
    why: Failure,
    stdio: Vec<Foreign>,
}

impl Refused {
    /// Tells the shim why there is no session. Its streams are closed when it has said so and is
    /// gone: a tool that sees an end before that may end its `ssh`.
    async fn wait(self) {
        let Refused { socket, why, stdio } = self;
        // The socket is new and has room.
        if let Err(error) = datagram::try_send_message(socket.as_fd(), &ToShim::Failed(why), &[]) {
            tracing::warn!(%error, "can't refuse a shim");
            return;
        }
        if fd_limit::check().is_err() {
            // The next one needs these, to be told as much.
            return;
        }
        if let Ok(socket) = Socket::new(socket) {
            while let Ok(Some(_)) = socket.receive().await {}
        }
        drop(stdio);
    }
}

/// Admits a handoff. `None` is one for which this process had too few descriptors left, and where
/// there is no shim to be told why not, nothing is returned.
fn admit(
    handoff: Option<Handoff>,
    mut descriptors: Vec<Foreign>,
    refusals: &Refusals,
) -> Option<Result<Admitted, Refused>> {
    if descriptors.first().is_none_or(|fd| !is_packet_socket(fd, false)) {
        if refusals.is_noted() {
            tracing::warn!("a handoff came without the shim's socket");
        }
        return None;
    }
    let socket = descriptors.remove(0);
    let checked = handoff.ok_or_else(fd_limit::refusal).and_then(|handoff| {
        fd_limit::check()?;
        Ok(handoff)
    });
    let refused = |socket, why, stdio| Some(Err(Refused { socket, why, stdio }));
    let handoff = match checked {
        Ok(handoff) => handoff,
        Err(why) => return refused(socket, why, descriptors),
    };
    let stdio = match <[Foreign; 3]>::try_from(descriptors) {
        Ok(stdio) => stdio,
        Err(some) => {
            let why = "standard input, output and error did not all reach the master";
            return refused(socket, Failure::other(why), some);
        }
    };
    match Socket::new(socket) {
        Ok(socket) => Some(Ok(Admitted { handoff, stdio, socket })),
        Err(error) => {
            tracing::warn!(%error, "can't wait for a shim");
            None
        }
    }
}

/// The next connection to a run's directory, from a process of this user, with its place among
/// those that have not handed anything over yet.
async fn accept(
    listener: Option<&Socket>,
    waiting: &Arc<Semaphore>,
) -> Option<(Socket, OwnedSemaphorePermit)> {
    let Some(listener) = listener else { return std::future::pending().await };
    let place = waiting.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept(fd_limit::FOR_SHIMS).await {
            Ok(connection) if connection.peer_is_ours() => return Some((connection, place)),
            Ok(_) => tracing::warn!("a shim of another user was turned away"),
            Err(error) => {
                tracing::warn!(%error, "can't accept a shim");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::fd::{BorrowedFd, OwnedFd};

    use fakessh_protocol::invocation::{Destination, Invocation, Request};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::caller::{AskNobody, Caller};
    use crate::context::Registry;
    use crate::pump::Source;
    use crate::route::Route;
    use crate::run::Hosts;

    fn opener() -> Caller {
        Caller::current(Arc::new(AskNobody)).unwrap()
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        socketpair(AddressFamily::UNIX, kind, flags, None).unwrap()
    }

    #[tokio::test]
    async fn a_handoff_that_lacks_descriptors_is_refused_and_the_next_one_is_served() {
        let hosts = Hosts::Mapped { on: None, destination: None, routes: HashMap::new() };
        let run = Arc::new(Run::new(hosts, Registry::default(), &opener()));
        let (tools, ours) = pair();
        let serving = serve(run, Arc::new(Socket::new(ours).unwrap()), None);
        let null = std::fs::File::open("/dev/null").unwrap();
        let invocation = Invocation {
            destination: Destination { host: "nowhere".into(), ..Destination::default() },
            ..Invocation::default()
        };
        let shims = async {
            let tools = Socket::new(tools).unwrap();
            for count in 0..=5 {
                let (near, far) = pair();
                let mut descriptors: Vec<BorrowedFd<'_>> = vec![null.as_fd(); count];
                descriptors.iter_mut().take(1).for_each(|first| *first = far.as_fd());
                let handoff =
                    Handoff { version: crate::VERSION.to_owned(), invocation: invocation.clone() };
                tools.send_message(&handoff, &descriptors).await.unwrap();
                drop(far);
                let near = Socket::new(near).unwrap();
                let told = near.receive_message::<ToShim>().await.unwrap();
                match (count, told) {
                    // There is nobody to be told.
                    (0, None) => {}
                    (4, Some((ToShim::Failed(why), _))) => {
                        assert!(why.message.contains("--route"), "{why}")
                    }
                    (1..=5, Some((ToShim::Failed(why), _))) => {
                        assert!(why.message.contains("did not all reach"), "{why}");
                    }
                    (_, told) => panic!("{count} descriptors: {told:?}"),
                }
            }
        };
        tokio::join!(serving, shims);
    }

    /// How long something may take. A guard against hangs only.
    const GUARD: Duration = Duration::from_secs(60);

    /// A shim's ends of a session, and those of its neighbours.
    struct Neighbours {
        writer: std::io::PipeWriter,
        reader: std::io::PipeReader,
        shim: Socket,
    }

    impl Neighbours {
        /// Hands an invocation over, with pipes as standard input and output.
        async fn hand_over(tools: &Socket, handoff: &Handoff, descriptors: usize) -> Neighbours {
            let (near, far) = pair();
            let (stdin, writer) = std::io::pipe().unwrap();
            let (reader, stdout) = std::io::pipe().unwrap();
            let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
            let all = [far.as_fd(), stdin.as_fd(), stdout.as_fd(), null.as_fd()];
            tools.send_message(handoff, &all[..descriptors]).await.unwrap();
            Neighbours { writer, reader, shim: Socket::new(near).unwrap() }
        }

        fn see_an_end(&self) -> [bool; 2] {
            let look = |fd: BorrowedFd<'_>| {
                let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
                poll(&mut fds, Some(&Timespec::default())).unwrap();
                fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
            };
            [look(self.writer.as_fd()), look(self.reader.as_fd())]
        }

        /// Waits for the reason, which comes before any end; and then for the ends.
        async fn expect_reason_before_ends(self, word: &str) {
            let told = self.shim.receive_message::<ToShim>().await.unwrap();
            let is_it =
                matches!(&told, Some((ToShim::Failed(why), _)) if why.message.contains(word));
            assert!(is_it, "{told:?}");
            assert_eq!(self.see_an_end(), [false, false], "{told:?}");
            let Neighbours { writer, reader, shim } = self;
            drop(shim);
            assert!(Source::new(reader.into()).unwrap().read(100).await.unwrap().is_empty());
            drop(writer);
        }
    }

    #[tokio::test]
    async fn no_stream_ends_before_the_shim_has_said_why() {
        let registry = Registry::default();
        let routes = HashMap::from([("here".to_owned(), Route::parse("local").unwrap())]);
        let hosts = Hosts::Mapped { on: None, destination: None, routes };
        let run = Arc::new(Run::new(hosts, registry.clone(), &opener()));
        let (tools, ours) = pair();
        let serving = serve(run, Arc::new(Socket::new(ours).unwrap()), None);
        let shims = async {
            let tools = Socket::new(tools).unwrap();
            let handoff = |host: &str, command: &[u8]| Handoff {
                version: crate::VERSION.to_owned(),
                invocation: Invocation {
                    destination: Destination { host: host.into(), ..Destination::default() },
                    request: Request::Command(command.to_vec()),
                    ..Invocation::default()
                },
            };
            let another_version = Handoff { version: "0".into(), ..handoff("here", b"true") };
            let another_user = {
                let mut handoff = handoff("here", b"true");
                handoff.invocation.destination.user = Some("nobody-at-all".into());
                handoff
            };
            for (handoff, descriptors, word) in [
                (handoff("elsewhere", b"true"), 4, "--route"),
                (another_version, 4, "version 0"),
                (another_user, 4, "nobody-at-all"),
                (handoff("here", b"true"), 3, "did not all reach"),
                (handoff("here", &vec![b'x'; 200_000]), 4, "long"),
            ] {
                let shim = Neighbours::hand_over(&tools, &handoff, descriptors).await;
                shim.expect_reason_before_ends(word).await;
            }
            // The program lives until the connection is lost, reads what is written, and keeps its
            // output open: the shell does.
            let lasting = handoff("here", b"echo up; cat >/dev/null; true");
            let shim = Neighbours::hand_over(&tools, &lasting, 4).await;
            let mut source = Source::new(shim.reader.try_clone().unwrap().into()).unwrap();
            assert_eq!(source.read(100).await.unwrap(), "up\n");
            drop(source);
            registry.close_all().await;
            shim.expect_reason_before_ends("closed").await;
        };
        let both = async { tokio::join!(serving, shims) };
        tokio::time::timeout(GUARD, both).await.expect("hangs");
    }
}
