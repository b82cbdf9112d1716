//! The process at the other end of a Unix socket (unix(7), `SO_PEERCRED`).

use std::os::fd::AsFd;

use rustix::net::UCred;
use rustix::process::{Uid, geteuid};

/// Credentials of the process that connected, listened or made the socket pair; `None` if the
/// kernel does not tell them.
pub fn credentials(socket: impl AsFd) -> Option<UCred> {
    rustix::net::sockopt::socket_peercred(socket).ok()
}

/// Whether the process at the other end belongs to this account or to root, who may do everything
/// anyway.
pub fn is_ours(socket: impl AsFd) -> bool {
    credentials(socket).is_some_and(|peer| is_our_uid(peer.uid))
}

/// Whether a user id is the effective one of this process, or root's.
pub fn is_our_uid(uid: Uid) -> bool {
    uid.is_root() || uid == geteuid()
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn the_other_end_of_a_pair_is_this_process() {
        let flags = SocketFlags::CLOEXEC;
        let (one, _other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        assert!(super::is_ours(&one));
        let peer = super::credentials(&one).unwrap();
        assert_eq!(peer.pid, rustix::process::getpid());
        assert!(super::credentials(std::fs::File::open("/dev/null").unwrap()).is_none());
    }
}
