//! A port that nobody listens on.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

/// A port of 127.0.0.1 that refuses connections, and is kept from those who look for a free one. A
/// server that is given it on purpose can have it: sshd sets SO_REUSEADDR.
#[derive(Debug)]
pub struct ClosedPort {
    number: u16,
    _socket: Option<OwnedFd>,
}

impl ClosedPort {
    /// Any that is free.
    ///
    /// # Panics
    /// If there is none.
    pub fn any() -> ClosedPort {
        let socket = hold(0).expect("holding a port");
        let address = getsockname(&socket).expect("the port that is held");
        let address = SocketAddrV4::try_from(address).expect("an address of IPv4");
        ClosedPort { number: address.port(), _socket: Some(socket) }
    }

    /// This one, which a server has left: of this machine, or of another network namespace. There
    /// it is nobody else's.
    pub(crate) fn left(number: u16) -> ClosedPort {
        ClosedPort { number, _socket: hold(number).ok() }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// A socket that has the port and does not listen.
fn hold(port: u16) -> rustix::io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(socket)
}
