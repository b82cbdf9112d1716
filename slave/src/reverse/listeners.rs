//! Sockets that are listened on for forwards, and the connections that come in there.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fakessh_protocol::forward::{Listen, ListenAddress};
use fakessh_protocol::message::MAX_ORIGIN;
use fakessh_protocol::printable;
use fakessh_protocol::wire::Handle;
use fakessh_unix::listen::{self, Listening, SocketFile};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, accept_with, getpeername, shutdown};

use super::run_directory::RunDirectory;
use crate::cleanup::Watchdog;
use crate::poll::{Interest, Poll, Token, Watched};

/// Most requests to listen that are served at a time: a process has no endless number of descriptors.
const MAX_REQUESTS: usize = 1024;

/// The name of an agent's socket in its directory.
const AGENT: &str = "agent";

/// What one request has us listen on.
#[derive(Debug)]
struct Listener {
    sockets: Vec<Watched>,
    /// The path of an agent's socket.
    agent: Option<PathBuf>,
    /// Removed with the listener, in this order.
    _file: Option<SocketFile>,
    _directory: Option<RunDirectory>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // A child that was just forked may hold it for a moment more.
            let _ = shutdown(socket, Shutdown::Both);
        }
    }
}

/// All sockets that are listened on, by the control handle of what has asked for it.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    by_control: HashMap<Handle, Listener>,
}

/// A connection that came in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) socket: OwnedFd,
    /// The address and the port that the connection comes from, to be shown to people. Empty for a
    /// Unix socket.
    pub(super) from: String,
}

/// What became of an attempt to accept a connection.
pub(super) enum Accepted {
    Incoming(Incoming),
    /// There are none.
    Nothing,
    /// There is no room for more.
    Full,
}

impl Listeners {
    /// Listens; returns the port.
    ///
    /// # Errors
    /// One line for the person.
    pub(super) fn add(
        &mut self,
        poll: &Poll,
        control: Handle,
        request: &Listen,
    ) -> Result<u16, String> {
        self.add_in(poll, control, request, None)
    }

    /// Listens on a socket that stands for an agent, in the first of these places where that can be
    /// done.
    ///
    /// # Errors
    /// One line for the person.
    pub(super) fn add_agent(
        &mut self,
        poll: &Poll,
        control: Handle,
        places: &[PathBuf],
        watchdog: &mut Watchdog,
    ) -> Result<u16, String> {
        let directory =
            RunDirectory::for_agent(places, watchdog).map_err(|refusal| refusal.message)?;
        let path = directory.path().join(AGENT);
        let address = ListenAddress::Unix(path.as_os_str().as_bytes().to_vec());
        let request = Listen { address, unlink: false, mask: 0o177 };
        self.add_in(poll, control, &request, Some((path, directory)))
    }

    /// The path of an agent's socket, if this is the handle of one.
    pub(super) fn agent(&self, control: Handle) -> Option<&Path> {
        self.by_control.get(&control)?.agent.as_deref()
    }

    fn add_in(
        &mut self,
        poll: &Poll,
        control: Handle,
        request: &Listen,
        agent: Option<(PathBuf, RunDirectory)>,
    ) -> Result<u16, String> {
        if self.by_control.len() >= MAX_REQUESTS {
            return Err(format!("{MAX_REQUESTS} forwards are listened for here already"));
        }
        let Listening { sockets, port, file } = listen::listen(request, no_name)?;
        let watched = sockets.into_iter().map(|socket| {
            let mut socket = Watched::new(socket, Token::Listener(control));
            socket.watch(poll, Interest::Read).map(|()| socket).map_err(|error| error.to_string())
        });
        let sockets = watched.collect::<Result<_, _>>()?;
        let (agent, directory) = agent.unzip();
        let listener = Listener { sockets, agent, _file: file, _directory: directory };
        self.by_control.insert(control, listener);
        Ok(port)
    }

    /// Listens no more. Returns whether there was such a listener.
    pub(super) fn remove(&mut self, control: Handle) -> bool {
        self.by_control.remove(&control).is_some()
    }

    pub(super) fn contains(&self, control: Handle) -> bool {
        self.by_control.contains_key(&control)
    }

    /// Listens no more to anything.
    pub(super) fn clear(&mut self) {
        self.by_control.clear();
    }

    /// Accepts a connection.
    pub(super) fn accept(&self, control: Handle) -> Accepted {
        let Some(listener) = self.by_control.get(&control) else { return Accepted::Nothing };
        for socket in &listener.sockets {
            match accept_with(socket, SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    let from = origin(&socket);
                    return Accepted::Incoming(Incoming { socket, from });
                }
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return Accepted::Full,
            }
        }
        Accepted::Nothing
    }

    /// Waits for connections, or no more. Returns whether that is possible.
    pub(super) fn watch(&mut self, poll: &Poll, control: Handle, interest: Interest) -> bool {
        let Some(listener) = self.by_control.get_mut(&control) else { return false };
        listener.sockets.iter_mut().all(|socket| socket.watch(poll, interest).is_ok())
    }
}

/// The loop waits for no name server.
fn no_name(_: &str) -> std::io::Result<Vec<IpAddr>> {
    Err(std::io::Error::other("it is no IP address of the target"))
}

/// Where a connection comes from. Small pieces on it are often keystrokes.
fn origin(socket: &OwnedFd) -> String {
    let Ok(Some(peer)) = getpeername(socket) else { return String::new() };
    if peer.address_family() == AddressFamily::UNIX {
        return String::new();
    }
    let _ = set_tcp_nodelay(socket, true);
    let shown = match std::net::SocketAddr::try_from(peer) {
        Ok(address) => address.to_string(),
        Err(_) => String::new(),
    };
    printable::beginning(&shown, MAX_ORIGIN / 4)
}
