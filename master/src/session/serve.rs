//! All sessions of a run: takes handoffs for as long as somebody can send one.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use fakessh_protocol::message::{Handoff, ToShim};
use fakessh_shim::datagram::{self, CutShort};
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use tokio::task::JoinSet;

use crate::limits;
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
                // What is refused is refused at once: the next one may need its descriptors.
                Some(Ok(admitted)) => _ = sessions.spawn(super::handoff(run.clone(), admitted)),
                Some(Err(())) => {}
                None => break,
            },
            Some(connection) = accept(listener.as_ref()) => {
                let run = run.clone();
                sessions.spawn(async move {
                    if let Some(Ok(admitted)) = receive(&connection).await {
                        super::handoff(run, admitted).await;
                    }
                });
            }
            Some(_) = sessions.join_next() => {}
        }
    }
    while sessions.join_next().await.is_some() {}
}

/// The next handoff, or an error where it was refused; `None` when nobody can send one any more.
/// What is no handoff is passed over.
async fn receive(socket: &Socket) -> Option<Result<Admitted, ()>> {
    loop {
        match socket.receive_message().await {
            Ok(None) => return None,
            Ok(Some((handoff, descriptors))) => return Some(admit(Some(handoff), descriptors)),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                tracing::warn!(%error, "no handoff came over a run's socket");
                if let Ok(cut) = error.downcast::<CutShort>() {
                    return Some(admit(None, cut.descriptors));
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
    pub(super) stdio: [OwnedFd; 3],
    /// The shim's own socket.
    pub(super) socket: Socket,
}

/// Admits a handoff, or tells the shim why not and closes its descriptors. `None` is one for which
/// this process had too few descriptors left.
fn admit(handoff: Option<Handoff>, descriptors: Vec<OwnedFd>) -> Result<Admitted, ()> {
    let mut descriptors = descriptors.into_iter();
    let is_shims = |fd: &OwnedFd| socket_type(fd) == Ok(SocketType::SEQPACKET);
    let Some(socket) = descriptors.next().filter(is_shims) else {
        tracing::warn!("a handoff came without the shim's socket");
        return Err(());
    };
    let whole = || {
        let handoff = handoff.ok_or_else(limits::refusal)?;
        limits::check()?;
        match <[OwnedFd; 3]>::try_from(descriptors.collect::<Vec<_>>()) {
            Ok(stdio) => Ok((handoff, stdio)),
            Err(_) => Err("standard input, output and error did not all reach the master".into()),
        }
    };
    whole().map_err(|why| refuse(&socket, why)).and_then(|(handoff, stdio)| {
        let failed = |error| tracing::warn!(%error, "can't wait for a shim");
        let socket = Socket::new(socket).map_err(failed)?;
        Ok(Admitted { handoff, stdio, socket })
    })
}

/// Tells a shim why there is no session. Its socket is new and has room.
fn refuse(socket: &OwnedFd, why: String) {
    if let Err(error) = datagram::try_send_message(socket.as_fd(), &ToShim::Failed(why), &[]) {
        tracing::warn!(%error, "can't refuse a shim");
    }
}

/// The next connection to a run's directory, from a process of this user.
async fn accept(listener: Option<&Socket>) -> Option<Socket> {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept(limits::FOR_SHIMS).await {
            Ok(connection) if connection.peer_is_ours() => return Some(connection),
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
    use std::os::fd::BorrowedFd;

    use std::io::{ErrorKind, Read};
    use std::time::Duration;

    use fakessh_protocol::invocation::{Destination, Invocation, Request};
    use rustix::net::{AddressFamily, SocketFlags, socketpair};

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
        let hosts = Hosts::Mapped { on: None, every: None, routes: HashMap::new() };
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
                        assert!(why.contains("--route"), "{why}")
                    }
                    (1..=5, Some((ToShim::Failed(why), _))) => {
                        assert!(why.contains("did not all reach"), "{why}");
                    }
                    (_, told) => panic!("{count} descriptors: {told:?}"),
                }
            }
        };
        tokio::join!(serving, shims);
    }

    /// How long something may take. A guard against hangs only.
    const GUARD: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn an_output_that_was_cut_does_not_end_before_the_shim_has_said_why() {
        let registry = Registry::default();
        let every = Some(Route::parse("local").unwrap());
        let hosts = Hosts::Mapped { on: None, every, routes: HashMap::new() };
        let run = Arc::new(Run::new(hosts, registry.clone(), &opener()));
        let (tools, ours) = pair();
        let serving = serve(run, Arc::new(Socket::new(ours).unwrap()), None);
        let shim = async {
            let tools = Socket::new(tools).unwrap();
            let (near, far) = pair();
            let (mut printed, stdout) = std::io::pipe().unwrap();
            let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
            let invocation = Invocation {
                request: Request::Command(b"echo up; exec sleep 1000".to_vec()),
                ..Invocation::default()
            };
            let handoff = Handoff { version: crate::VERSION.to_owned(), invocation };
            let descriptors = [far.as_fd(), null.as_fd(), stdout.as_fd(), null.as_fd()];
            tools.send_message(&handoff, &descriptors).await.unwrap();
            drop((far, stdout));
            let mut source = Source::new(printed.try_clone().unwrap().into()).unwrap();
            assert_eq!(source.read(100).await.unwrap(), "up\n");
            registry.close_all().await;
            let near = Socket::new(near).unwrap();
            let told = near.receive_message::<ToShim>().await.unwrap();
            assert!(matches!(told, Some((ToShim::Failed(_), _))), "{told:?}");
            rustix::io::ioctl_fionbio(&printed, true).unwrap();
            let read = printed.read(&mut [0; 1]).map_err(|error| error.kind());
            assert_eq!(read, Err(ErrorKind::WouldBlock));
            drop(near);
            assert!(source.read(100).await.unwrap().is_empty());
        };
        let both = async { tokio::join!(serving, shim) };
        tokio::time::timeout(GUARD, both).await.expect("hangs");
    }
}
