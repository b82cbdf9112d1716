//! Runs: what a tool's `ssh` comes back to. Each has a directory, a socket that the tool inherits,
//! and a socket in the directory for programs that have lost the inherited one.
//!
//! A run begins with its tool. It serves handoffs as long as somebody can send one, also after the
//! tool's session is over: whether the master still serves them is the master's to say. The
//! directory stays that long, so that a program that calls `ssh` from there never gets another
//! `ssh` instead. A run ends when the session is over, nobody holds the socket, and none of its
//! reverse sessions is left; with a hang-up of the tool's session; and with the link.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use fakessh_protocol::message::{Refusal, RefusalReason};
use fakessh_protocol::wire::Handle;
use fakessh_unix::peer;
use fakessh_unix::reserve::Reserve;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, socketpair};

use super::handoff::{Handed, RESERVED, Received, receive};
use super::run_directory::{self, RunDirectory, Shim};
use crate::cleanup::Watchdog;
use crate::poll::{Interest, Poll, RunPart, Token, Watched};
use crate::program::Launcher;

/// Connections at once that have not handed over yet. A shim does so at once. Who only connects
/// keeps others out for as long, but only in the runs of this account.
const MAX_PENDING: usize = 1024;

/// A run.
#[derive(Debug)]
struct Run {
    directory: RunDirectory,
    /// Our end of the socket that the tool inherits. `None` when nobody holds the other end.
    inherited: Option<Watched>,
    listener: Watched,
    /// Whether the tool's session is over.
    is_left: bool,
}

/// A connection from which no handoff has come.
#[derive(Debug)]
struct PendingShim {
    tool: Handle,
    socket: Watched,
}

/// All runs, by the control handle of their tool.
#[derive(Debug)]
pub(super) struct Runs {
    by_tool: HashMap<Handle, Run>,
    pending: HashMap<u32, PendingShim>,
    /// The number of the next pending shim.
    next: u32,
    reserve: Reserve,
}

/// What became of an attempt to accept a connection.
pub(super) enum Accepted {
    /// There may be more connections.
    More,
    /// There are none.
    Nothing,
    /// There is no room for more.
    Full,
}

impl Default for Runs {
    fn default() -> Runs {
        let (by_tool, pending) = (HashMap::new(), HashMap::new());
        Runs { by_tool, pending, next: 0, reserve: Reserve::new(RESERVED) }
    }
}

impl Runs {
    /// Opens the run of a tool. Returns its directory, and the end of its socket for the tool.
    ///
    /// # Errors
    /// What the master is to be told.
    pub(super) fn open(
        &mut self,
        poll: &Poll,
        watchdog: &mut Watchdog,
        launcher: &Launcher,
        tool: Handle,
    ) -> Result<(PathBuf, OwnedFd), Refusal> {
        let limit = |error: io::Error| Refusal {
            reason: RefusalReason::Limit,
            message: format!("can't make a run for the tool on the target: {error}"),
        };
        self.reserve.fill().map_err(|error| limit(error.into()))?;
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|error| limit(error.into()))?;
        let program = launcher.program().map_err(limit)?;
        let sibling = self.by_tool.values().next().map(|run| run.directory.path());
        let places = run_directory::places(launcher.variable("XDG_RUNTIME_DIR"), launcher.home());
        let (directory, listener) =
            RunDirectory::create(&places, Shim { program, sibling }, watchdog)?;
        let path = directory.path().to_owned();
        let watched = |fd, part| {
            let mut watched = Watched::new(fd, Token::Run(tool, part));
            watched.watch(poll, Interest::Read).map(|()| watched).map_err(limit)
        };
        let inherited = Some(watched(ours, RunPart::Inherited)?);
        let listener = watched(listener, RunPart::Listener)?;
        self.by_tool.insert(tool, Run { directory, inherited, listener, is_left: false });
        Ok((path, theirs))
    }

    /// The control handles of all tools that have a run.
    pub(super) fn tools(&self) -> Vec<Handle> {
        self.by_tool.keys().copied().collect()
    }

    /// The tool's session is over. Programs that it has left behind may hold the run.
    pub(super) fn leave(&mut self, tool: Handle) {
        if let Some(run) = self.by_tool.get_mut(&tool) {
            run.is_left = true;
        }
    }

    /// Whether nobody can begin a session in this run any more.
    pub(super) fn is_unused(&self, tool: Handle) -> bool {
        self.by_tool.get(&tool).is_some_and(|run| run.is_left && run.inherited.is_none())
    }

    /// Ends a run: its directory is removed, and nobody can hand over to it. Returns whether there
    /// was one.
    pub(super) fn end(&mut self, tool: Handle) -> bool {
        self.pending.retain(|_, shim| shim.tool != tool);
        self.by_tool.remove(&tool).is_some()
    }

    /// Receives from the socket that a tool inherits.
    pub(super) fn receive(&mut self, tool: Handle) -> Received {
        let Some(run) = self.by_tool.get_mut(&tool) else { return Received::Nothing };
        let Some(socket) = &run.inherited else { return Received::Nothing };
        let received = receive(socket, &mut self.reserve);
        if let Received::End = received {
            run.inherited = None;
        }
        received
    }

    /// Accepts a connection to the socket in a run's directory.
    pub(super) fn accept(&mut self, poll: &Poll, tool: Handle) -> Accepted {
        // Without a reserve, a connection could not hand over.
        let has_room = self.has_room();
        let Some(run) = self.by_tool.get(&tool) else { return Accepted::Nothing };
        if !has_room {
            return Accepted::Full;
        }
        let accept = || accept_with(&run.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        let accepted = match accept() {
            // The reserve lets one connection in, which is told why it is the last.
            Err(Errno::MFILE) => self.reserve.lend(RESERVED, accept).0,
            accepted => accepted,
        };
        match accepted {
            Ok(socket) if peer::is_ours(&socket) => {
                let number = self.free_number();
                let mut socket = Watched::new(socket, Token::PendingShim(number));
                if socket.watch(poll, Interest::Read).is_ok() {
                    self.pending.insert(number, PendingShim { tool, socket });
                }
                Accepted::More
            }
            Ok(_) | Err(Errno::INTR | Errno::CONNABORTED) => Accepted::More,
            Err(Errno::AGAIN) => Accepted::Nothing,
            Err(_) => Accepted::Full,
        }
    }

    /// A number that no pending shim has.
    fn free_number(&mut self) -> u32 {
        loop {
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            if !self.pending.contains_key(&number) {
                return number;
            }
        }
    }

    /// Receives the handoff of a pending shim, whose connection serves one session, and the tool
    /// that the handoff is for.
    pub(super) fn receive_pending(&mut self, number: u32) -> Option<(Handle, Box<Handed>)> {
        let shim = self.pending.get(&number)?;
        let tool = shim.tool;
        match receive(&shim.socket, &mut self.reserve) {
            Received::Nothing => None,
            Received::Other | Received::End => {
                self.pending.remove(&number);
                None
            }
            Received::Handoff(handed) => {
                self.pending.remove(&number);
                Some((tool, handed))
            }
        }
    }

    /// Whether there is room for another pending shim, and descriptors for what it brings.
    pub(super) fn has_room(&mut self) -> bool {
        self.pending.len() < MAX_PENDING && self.reserve.fill().is_ok()
    }

    /// Listens to a socket of a run, or no more. Returns whether that is possible.
    pub(super) fn listen(
        &mut self,
        poll: &Poll,
        (tool, part): (Handle, RunPart),
        interest: Interest,
    ) -> bool {
        let Some(run) = self.by_tool.get_mut(&tool) else { return false };
        let socket = match part {
            RunPart::Inherited => run.inherited.as_mut(),
            RunPart::Listener => Some(&mut run.listener),
        };
        socket.is_some_and(|socket| socket.watch(poll, interest).is_ok())
    }

    /// Listens to a pending shim, or no more. Returns whether that is possible.
    pub(super) fn listen_to_pending(
        &mut self,
        poll: &Poll,
        number: u32,
        interest: Interest,
    ) -> bool {
        let shim = self.pending.get_mut(&number);
        shim.is_some_and(|shim| shim.socket.watch(poll, interest).is_ok())
    }
}
