//! Sockets that the master asks for, for forwards. They are made here: with the rights of this
//! process, and in the namespaces that it lives in.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;

use fakessh_protocol::forward::Listen;
use fakessh_protocol::message::{FromShim, ListenAnswer, Peer};
use fakessh_unix::datagram;
use fakessh_unix::listen::{self, Listening, SocketFile};
use fakessh_unix::without_number;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, getppid, pidfd_open,
    set_parent_process_death_signal, waitpid,
};

use crate::sys::{self, Fork};

/// Listens for the master, and answers.
pub(super) fn listen(socket: BorrowedFd<'_>, request: &Listen) {
    let listening = listen::listen(request, resolve).and_then(|listening| {
        let Listening { mut sockets, file, .. } = listening;
        let left = file.map(SocketFile::leave).transpose().map_err(|error| error.to_string())?;
        let file = left.map(|(name, directory)| {
            sockets.push(directory);
            name
        });
        Ok((sockets, ListenAnswer { why_not: String::new(), file }))
    });
    let (descriptors, answer) = listening
        .unwrap_or_else(|why_not| (Vec::new(), ListenAnswer { why_not, ..Default::default() }));
    let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    // A master that has gone is noticed at the next receive.
    let _ = datagram::send_message(socket, &FromShim::Listening(answer), &descriptors);
}

fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Processes that connect for the master, or have.
#[derive(Default)]
pub(super) struct Connecting(VecDeque<Pid>);

impl Connecting {
    /// Connects for the master. A process of its own does, and answers: looking up a name and
    /// connecting may take minutes.
    pub(super) fn connect(&mut self, socket: BorrowedFd<'_>, number: u32, peer: &Peer) {
        let parent = getpid();
        match sys::fork() {
            Ok(Fork::Parent(child)) => self.0.push_back(child),
            Ok(Fork::Child) => {
                sys::default_signals();
                let ends_with_parent = set_parent_process_death_signal(Some(Signal::KILL));
                if ends_with_parent.is_ok() && getppid() == Some(parent) {
                    connected(socket, number, open(peer));
                }
                sys::exit_now()
            }
            Err(error) => connected(socket, number, Err(error)),
        }
    }

    /// Takes note of those that have ended.
    pub(super) fn reap(&mut self) {
        self.0.retain(|&pid| matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)));
    }

    /// Waits for a message on `socket` or for a byte on `windows`, and meanwhile takes note of those
    /// that end. If there is nothing but the message to be waited for, that is left to the caller.
    pub(super) fn wait(&mut self, socket: BorrowedFd<'_>, windows: Option<&OwnedFd>) -> Woken {
        loop {
            self.reap();
            // An old kernel has no such descriptors. Then what has ended stays until the next one.
            let ends = self.0.front().and_then(|&pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            if ends.is_none() && windows.is_none() {
                return Woken::Message;
            }
            let mut fds = vec![PollFd::new(&socket, PollFlags::IN)];
            fds.extend(windows.map(|windows| PollFd::new(windows, PollFlags::IN)));
            fds.extend(ends.as_ref().map(|ends| PollFd::new(ends, PollFlags::IN)));
            if poll(&mut fds, None).is_err() {
                continue;
            }
            if let Some(windows) = windows
                && !fds[1].revents().is_empty()
            {
                // It does not block, and a few bytes are more than are in there.
                let _ = rustix::io::read(windows, &mut [0; 64]);
                return Woken::Window;
            }
            if !fds[0].revents().is_empty() {
                return Woken::Message;
            }
        }
    }
}

/// What ended a wait.
pub(super) enum Woken {
    /// There is a message, or nothing else to be waited for.
    Message,
    /// A terminal may have another size.
    Window,
}

fn connected(socket: BorrowedFd<'_>, number: u32, opened: io::Result<OwnedFd>) {
    let (why_not, descriptor) = match opened {
        Ok(descriptor) => (String::new(), Some(descriptor)),
        Err(error) => (without_number(&error), None),
    };
    let descriptors: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_fd()).collect();
    let _ = datagram::send_message(socket, &FromShim::Connected(number, why_not), &descriptors);
}

fn open(peer: &Peer) -> io::Result<OwnedFd> {
    match peer {
        Peer::Tcp { host, port } => {
            let socket = TcpStream::connect((host.as_str(), *port))?;
            // Small pieces are often keystrokes. It is no loss if this can't be set.
            let _ = socket.set_nodelay(true);
            Ok(socket.into())
        }
        Peer::Unix(path) => Ok(UnixStream::connect(OsStr::from_bytes(path))?.into()),
    }
}
