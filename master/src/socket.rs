//! Datagrams with descriptors, driven by tokio: the socket of a shim, of a run, of a client.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use fakessh_unix::datagram::{self, Datagram};
use fakessh_unix::peer;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::audit::Who;
use crate::pump::Foreign;
use crate::{fd_limit, sys};

/// Pause before a datagram is sent again for which the kernel had no room. There is no event to
/// wait for.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(5);

/// Times that it is tried again: ten seconds.
const SHORTAGE_TRIES: u32 = 2000;

/// Connections that may wait to be accepted: fifty programs that start at once, and as many more
/// as a kernel's default allows.
const BACKLOG: i32 = 4096;

/// A Unix socket that keeps message boundaries. Its flags stay as they are, since its other
/// descriptors may be a tool's.
#[derive(Debug)]
pub(crate) struct Socket(AsyncFd<Foreign>);

impl Socket {
    /// Takes a connected or listening socket. Must be called in a tokio runtime.
    pub(crate) fn new(fd: impl Into<Foreign>) -> io::Result<Socket> {
        Ok(Socket(sys::watch(fd.into(), Interest::READABLE | Interest::WRITABLE)?))
    }

    /// Whether the process at the other end is ours, or root's.
    pub(crate) fn peer_is_ours(&self) -> bool {
        peer::is_ours(self.0.as_fd())
    }

    /// The process at the other end: the one that made a socket pair, or connected.
    pub(crate) fn peer(&self) -> Option<Who> {
        Who::at(self.0.get_ref())
    }

    /// Whether everything was received and nobody can send any more.
    pub(crate) fn is_at_end(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        // A datagram is never empty.
        matches!(rustix::net::recv(self.0.get_ref(), &mut [0; 1], flags), Ok((_, 0)))
    }

    /// Accepts a connection on a listening socket, once there are so many descriptors in reserve:
    /// what comes over it may need one, and who waits is served when some are free again. Cancel
    /// safe.
    pub(crate) async fn accept(&self, reserve: usize) -> io::Result<Socket> {
        while !fd_limit::has_reserve(reserve) {
            tokio::time::sleep(SHORTAGE_PAUSE).await;
        }
        let accept = |fd: &Foreign| {
            // A listening socket of ours alone, made with O_NONBLOCK.
            Ok(fd_limit::lend(|| rustix::net::accept_with(fd, SocketFlags::CLOEXEC))?)
        };
        Socket::new(self.0.async_io(Interest::READABLE, accept).await?)
    }

    /// Receives a datagram; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// As [`datagram::try_receive`]; of a datagram that is cut short at the limit of open
    /// descriptors, the first one arrives.
    pub(crate) async fn receive(&self) -> io::Result<Option<Datagram>> {
        let receive = |fd: &Foreign| fd_limit::lend(|| datagram::try_receive(fd.as_fd()));
        self.0.async_io(Interest::READABLE, receive).await
    }

    /// Receives a message of the protocol with its descriptors; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// As [`Socket::receive`], and `InvalidData` for bytes that are no such message.
    pub(crate) async fn receive_message<T: DeserializeOwned>(
        &self,
    ) -> io::Result<Option<(T, Vec<Foreign>)>> {
        let receive = |fd: &Foreign| fd_limit::lend(|| datagram::try_receive_message(fd.as_fd()));
        let received = self.0.async_io(Interest::READABLE, receive).await?;
        Ok(received.map(|(message, descriptors)| (message, foreign(descriptors))))
    }

    /// Sends a datagram. Cancel safe: it goes as a whole or not at all.
    pub(crate) async fn send(&self, payload: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(|socket| datagram::try_send(socket, payload, fds)).await
    }

    /// Sends a message of the protocol. Cancel safe: it goes as a whole or not at all.
    pub(crate) async fn send_message<T: Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.send_with(|socket| datagram::try_send_message(socket, message, fds)).await
    }

    async fn send_with(&self, send: impl Fn(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut tries = 0;
        loop {
            match self.0.async_io(Interest::WRITABLE, |fd| send(fd.as_fd())).await {
                Err(error) if datagram::is_shortage(&error) && tries < SHORTAGE_TRIES => {
                    tries += 1;
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                }
                sent => return sent,
            }
        }
    }
}

/// Descriptors that came with a message.
pub(crate) fn foreign(descriptors: Vec<OwnedFd>) -> Vec<Foreign> {
    descriptors.into_iter().map(Foreign::from).collect()
}

/// Whether this is a Unix socket that keeps message boundaries, and listens or does not.
pub(crate) fn is_packet_socket(socket: impl AsFd, listens: bool) -> bool {
    socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && socket_type(&socket) == Ok(SocketType::SEQPACKET)
        && socket_acceptconn(&socket) == Ok(listens)
}

/// A listening socket of ours alone, at a path.
pub(crate) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::SEQPACKET;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}
