//! Accepts connections on sockets that somebody else has made.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{Shutdown, SocketFlags, SocketType, accept_with, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::pump::{Foreign, blocking};
use crate::sys;

/// Pause after a connection could not be accepted for want of descriptors or memory.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// Whether this is a socket that listens for streams.
pub(crate) fn is_stream_listener(socket: &Foreign) -> bool {
    socket_type(socket) == Ok(SocketType::STREAM) && socket_acceptconn(socket) == Ok(true)
}

/// Connections that come in. Dropped, the sockets listen no more.
pub(crate) struct Accepting {
    incoming: mpsc::Receiver<Foreign>,
    _tasks: JoinSet<()>,
}

impl Accepting {
    /// Accepts on these sockets. Must be called in a tokio runtime.
    pub(crate) fn start(sockets: Vec<Foreign>) -> Accepting {
        let (accepted, incoming) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        for socket in sockets {
            let accepted = accepted.clone();
            tasks.spawn(async move {
                if let Err(error) = accept_all(socket, accepted).await {
                    tracing::warn!(%error, "a socket that was listened on takes no more connections");
                }
            });
        }
        Accepting { incoming, _tasks: tasks }
    }

    /// The next connection; `None` when no socket takes any more. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Foreign> {
        self.incoming.recv().await
    }
}

/// A socket, which listens until this is dropped: also if somebody else holds it still.
struct Listening(AsyncFd<Foreign>);

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = shutdown(self.0.get_ref(), Shutdown::Read);
    }
}

/// Accepts until nobody takes what comes.
async fn accept_all(socket: Foreign, accepted: mpsc::Sender<Foreign>) -> io::Result<()> {
    let socket = Listening(sys::watch(socket, Interest::READABLE)?);
    loop {
        let mut ready = socket.0.readable().await?;
        // Whoever has made the socket may have it block, and take the connection first.
        let pooled = socket.0.get_ref().pooled();
        let accept = move || accept_with(&*pooled, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        match blocking(accept).await? {
            Ok(connection) => {
                if accepted.send(connection.into()).await.is_err() {
                    return Ok(());
                }
            }
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                tracing::warn!(%error, "a connection has to wait");
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use super::*;

    /// A socket that others hold as well, and that blocks.
    fn listener() -> (TcpListener, Foreign) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let same = OwnedFd::from(listener.try_clone().unwrap());
        (listener, same.into())
    }

    #[test]
    fn a_listener_that_blocks_holds_up_nobody() {
        let (done, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let (held, socket) = listener();
                assert!(is_stream_listener(&socket));
                let address = held.local_addr().unwrap();
                let mut accepting = Accepting::start(vec![socket]);
                for _ in 0..3 {
                    let connected = TcpStream::connect(address).unwrap();
                    accepting.next().await.unwrap();
                    drop(connected);
                    // It accepts again, and there is nothing.
                    tokio::task::yield_now().await;
                }
                drop(accepting);
                // Its task ends.
                tokio::task::yield_now().await;
                assert!(TcpStream::connect(address).is_err(), "it listens still");
            });
            done.send(()).unwrap();
        });
        // A guard against hangs only.
        waiting
            .recv_timeout(Duration::from_secs(60))
            .expect("it failed, or waits for a connection");
    }

    #[tokio::test]
    async fn what_does_not_listen_is_no_listener() {
        let (held, _) = listener();
        let connected = TcpStream::connect(held.local_addr().unwrap()).unwrap();
        assert!(!is_stream_listener(&OwnedFd::from(connected).into()));
        // Ready at once: its writer is gone.
        let (reader, _) = std::io::pipe().unwrap();
        let mut accepting = Accepting::start(vec![OwnedFd::from(reader).into()]);
        assert!(accepting.next().await.is_none());
    }
}
