//! What a shim hands over, and how it is told why that comes to nothing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use fakessh_protocol::VERSION;
use fakessh_protocol::failure::Failure;
use fakessh_protocol::message::{Handoff, ToShim};
use fakessh_unix::datagram::{self, MAX_DESCRIPTORS};
use fakessh_unix::ready::has_hung_up;
use fakessh_unix::reserve::Reserve;
use rustix::net::{SocketType, sockopt::socket_type};

use crate::poll::Watched;

/// Descriptors in reserve: for all that one datagram may bring, and the memory file of a large one.
pub(super) const RESERVED: usize = MAX_DESCRIPTORS + 1;

/// A handoff that may become a session.
#[derive(Debug)]
pub(super) struct Handed {
    /// The shim's own socket.
    pub(super) shim: OwnedFd,
    pub(super) handoff: Handoff,
    /// Its standard descriptors, if they all arrived.
    pub(super) descriptors: Vec<OwnedFd>,
}

/// What came over a socket on which handoffs are expected.
#[derive(Debug)]
pub(super) enum Received {
    Handoff(Box<Handed>),
    /// Something that does not become a session. A shim was told why.
    Other,
    Nothing,
    /// Nobody can send anything any more.
    End,
}

impl Handed {
    /// Tells the shim why there is no session.
    pub(super) fn refuse(&self, why: String) {
        // A shim that does not listen sees that its socket is closed.
        let _ = datagram::try_send_message(
            self.shim.as_fd(),
            &ToShim::Failed(Failure::other(why)),
            &[],
        );
    }
}

/// Receives from a non-blocking socket, with a reserve for the descriptors that come.
pub(super) fn receive(socket: &Watched, reserve: &mut Reserve) -> Received {
    let (received, is_whole) =
        reserve.lend(RESERVED, || datagram::try_receive_message::<Handoff>(socket.as_fd()));
    match received {
        Ok(Some((handoff, descriptors))) => judge(handoff, descriptors, is_whole),
        // An empty datagram looks like the end.
        Ok(None) if has_hung_up(socket) => Received::End,
        Ok(None) => Received::Other,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Received::Other,
        Err(_) => Received::End,
    }
}

/// Decides whether a handoff may become a session. Without a whole reserve it may not: the next
/// shim could not even be told why.
fn judge(handoff: Handoff, mut descriptors: Vec<OwnedFd>, reserve_is_whole: bool) -> Received {
    let is_socket = |fd| socket_type(fd) == Ok(SocketType::SEQPACKET);
    if !descriptors.first().is_some_and(is_socket) {
        return Received::Other;
    }
    let shim = descriptors.remove(0);
    let handed = Handed { shim, handoff, descriptors };
    if handed.handoff.version != VERSION {
        handed.refuse(format!(
            "this ssh is of version {}, and the one that started the tool of {VERSION}",
            handed.handoff.version
        ));
        return Received::Other;
    }
    if !reserve_is_whole {
        handed.refuse(
            "the slave on this host is at its limit of open descriptors; try again when other \
             sessions have ended"
                .to_owned(),
        );
        return Received::Other;
    }
    Received::Handoff(Box::new(handed))
}
