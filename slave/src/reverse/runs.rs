//! Runs: what a tool's `ssh` comes back to. Each has a directory, a socket that the tool inherits,
//! and one in the directory for those who have lost the inherited one.
//!
//! A run begins with its tool. Handoffs are passed to the master for as long as somebody can send
//! one, also after the tool's session is over: whether they are still served is the master's to
//! say, and the directory stays that long, so that what calls `ssh` from there never gets another
//! `ssh` instead. It ends when the session is over, nobody holds the socket, and no session that
//! it raised is left; with a hangup of the tool's session; and with the link.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use fakessh_protocol::handles::{HandleAllocator, SessionHandles, Side};
use fakessh_protocol::message::{Handoff, Refusal, RefusalReason, Tool};
use fakessh_protocol::wire::Handle;
use fakessh_unix::datagram::{self, MAX_DESCRIPTORS};
use fakessh_unix::peer;
use fakessh_unix::ready::has_hung_up;
use fakessh_unix::reserve::Reserve;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, socketpair};

use crate::cleanup::watchdog::Left;
use crate::event_loop::Slave;
use crate::poll::{Interest, Part, Poll, Token, Watched};
use crate::program::launcher::Program;
use crate::reverse::run_directory::{RunDirectory, Shim};

/// Descriptors in reserve: for all that one datagram may bring, and the memory file of a large one.
const RESERVED: usize = MAX_DESCRIPTORS + 1;

/// Handoffs, or messages of one shim, that are taken before others have their turn.
pub(crate) const TURN: usize = 16;

/// Bytes of messages that may wait for the link. With more, nothing is taken in that would make
/// them more still; the link's own traffic is far below that.
pub(crate) const BACKLOG: usize = 256 * 1024;

/// Connections at once that have not yet handed over. A shim does so at once; whoever only
/// connects keeps others out for as long, in the runs of this account alone.
const MAX_PENDING: usize = 1024;

/// A run.
#[derive(Debug)]
struct Run {
    directory: RunDirectory,
    /// Its place on the watchdog's list.
    left: Left,
    /// Our end of what the tool inherited. `None` when nobody holds the other one.
    socket: Option<Watched>,
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
pub(crate) struct Runs {
    by_tool: HashMap<Handle, Run>,
    pending_shims: HashMap<Handle, PendingShim>,
    handles: HandleAllocator,
    reserve: Reserve,
    /// Who is not listened to before the link has taken what there is.
    pub(crate) paused: Vec<Token>,
}

impl Default for Runs {
    fn default() -> Runs {
        Runs {
            by_tool: HashMap::new(),
            pending_shims: HashMap::new(),
            handles: HandleAllocator::new(Side::Slave),
            reserve: Reserve::new(RESERVED),
            paused: Vec::new(),
        }
    }
}

impl Run {
    fn watch(
        tool: Handle,
        (directory, left, listener): (RunDirectory, Left, OwnedFd),
        socket: OwnedFd,
        poll: &Poll,
    ) -> io::Result<Run> {
        let watched = |fd, part| {
            let mut watched = Watched::new(fd, Token::Session(tool, part));
            watched.watch(poll, Interest::Read).map(|()| watched)
        };
        let socket = Some(watched(socket, Part::Run)?);
        Ok(Run {
            directory,
            left,
            socket,
            listener: watched(listener, Part::Listener)?,
            is_left: false,
        })
    }
}

impl Slave {
    /// Starts a tool, and the run that its `ssh` comes back to.
    ///
    /// # Errors
    /// What the master is to be told. The run, if there is one by then, is to be ended.
    pub(crate) fn start_tool(
        &mut self,
        control: Handle,
        tool: &Tool,
        variables: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Program, Refusal> {
        let limit = |error: io::Error| Refusal {
            reason: RefusalReason::Limit,
            message: format!("can't make a run for the tool on the target: {error}"),
        };
        self.runs.reserve.fill().map_err(|error| limit(error.into()))?;
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|error| limit(error.into()))?;
        let program = self.launcher.program().map_err(limit)?;
        let sibling = self.runs.by_tool.values().next().map(|run| run.directory.path());
        let shim = Shim { program, sibling };
        let made = RunDirectory::create(&self.launcher.places(), shim, &mut self.watchdog)?;
        let run = Run::watch(control, made, ours, &self.poll).map_err(limit)?;
        let path = run.directory.path().to_owned();
        self.runs.by_tool.insert(control, run);
        self.launcher.start_tool(tool, variables, &path, &theirs)
    }

    /// The tool's session is over. What it has left behind may hold the run.
    pub(crate) fn leave_run(&mut self, tool: Handle) {
        if let Some(run) = self.runs.by_tool.get_mut(&tool) {
            run.is_left = true;
            self.end_unused_run(tool);
        }
    }

    /// Ends a run that nobody uses any more.
    pub(crate) fn end_unused_run(&mut self, tool: Handle) {
        let Some(run) = self.runs.by_tool.get(&tool) else { return };
        if run.is_left && run.socket.is_none() && !self.sessions.has_raised(tool) {
            self.end_run(tool, "");
        }
    }

    /// Ends a run, if this is a tool's: its sessions are over for this reason, and its directory
    /// is removed.
    pub(crate) fn end_run(&mut self, tool: Handle, reason: &str) {
        let Some(run) = self.runs.by_tool.remove(&tool) else { return };
        self.runs.pending_shims.retain(|_, pending_shim| pending_shim.tool != tool);
        drop(run.directory);
        self.watchdog.remove_directory(run.left);
        for control in self.sessions.raised_by(tool) {
            self.give_up(control, reason);
        }
    }

    /// The link has ended, and all runs with it.
    pub(crate) fn end_runs(&mut self) {
        let tools: Vec<Handle> = self.runs.by_tool.keys().copied().collect();
        for tool in tools {
            self.end_run(tool, "the connection to this host was closed or lost");
        }
        self.copiers.abandon();
    }

    /// Something came over a run's inherited socket, or nobody holds it any more.
    pub(crate) fn run_ready(&mut self, tool: Handle) {
        for _ in 0..TURN {
            if self.is_backlogged() {
                return self.pause(Token::Session(tool, Part::Run));
            }
            let Runs { by_tool, reserve, .. } = &mut self.runs;
            let Some(run) = by_tool.get_mut(&tool) else { return };
            let Some(socket) = &run.socket else { return };
            match receive(socket, reserve) {
                Received::Handoff(handoff, descriptors, may_begin) => {
                    self.raise(tool, *handoff, descriptors, may_begin);
                }
                Received::Other => {}
                Received::Nothing => return,
                Received::End => {
                    run.socket = None;
                    return self.end_unused_run(tool);
                }
            }
        }
    }

    /// Somebody connected to the socket in a run's directory.
    pub(crate) fn listener_ready(&mut self, tool: Handle) {
        for _ in 0..TURN {
            let Runs { by_tool, pending_shims, reserve, .. } = &mut self.runs;
            let Some(run) = by_tool.get(&tool) else { return };
            // One more than the reserve leaves would be one that can't hand over.
            if pending_shims.len() >= MAX_PENDING || reserve.fill().is_err() {
                return self.pause(Token::Session(tool, Part::Listener));
            }
            let accept =
                || accept_with(&run.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
            let accepted = match accept() {
                // One comes in by the reserve, and is told why it is the last.
                Err(Errno::MFILE) => reserve.lend(RESERVED, accept).0,
                accepted => accepted,
            };
            match accepted {
                Ok(socket) if peer::is_ours(&socket) => {
                    let number = self.pick().control;
                    let mut socket =
                        Watched::new(socket, Token::Session(number, Part::PendingShim));
                    if socket.watch(&self.poll, Interest::Read).is_ok() {
                        self.runs.pending_shims.insert(number, PendingShim { tool, socket });
                    }
                }
                Ok(_) | Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.pause(Token::Session(tool, Part::Listener)),
            }
        }
    }

    /// A connection hands over, or has gone. It serves one session.
    pub(crate) fn pending_shim_ready(&mut self, number: Handle) {
        if self.is_backlogged() {
            return self.pause(Token::Session(number, Part::PendingShim));
        }
        let Runs { pending_shims, reserve, .. } = &mut self.runs;
        let Some(pending_shim) = pending_shims.get(&number) else { return };
        let tool = pending_shim.tool;
        match receive(&pending_shim.socket, reserve) {
            Received::Nothing => {}
            Received::Other | Received::End => drop(pending_shims.remove(&number)),
            Received::Handoff(handoff, descriptors, may_begin) => {
                pending_shims.remove(&number);
                self.raise(tool, *handoff, descriptors, may_begin);
            }
        }
    }

    /// Handles that nothing here has, and nothing had for long.
    pub(crate) fn pick(&mut self) -> SessionHandles {
        loop {
            let handles = self.runs.handles.pick();
            let SessionHandles { control, stdin, stdout, stderr } = handles;
            let is_open = self.mux.is_sending(stdin)
                || self.mux.is_receiving(stdout)
                || self.mux.is_receiving(stderr);
            if !is_open
                && !self.sessions.raised.contains_key(&control)
                && !self.runs.pending_shims.contains_key(&control)
                && !self.copiers.serve(control)
            {
                return handles;
            }
        }
    }

    /// Whether what was taken in waits for the link already.
    pub(crate) fn is_backlogged(&self) -> bool {
        self.mux.queued() >= BACKLOG
    }

    /// Listens to somebody no more, before [`Slave::resume`].
    pub(crate) fn pause(&mut self, token: Token) {
        if self.listen(token, Interest::Nothing) {
            self.runs.paused.push(token);
        }
    }

    /// Listens again to those who were paused, where that is of use.
    pub(crate) fn resume(&mut self) {
        if self.runs.paused.is_empty() || self.is_backlogged() {
            return;
        }
        let is_open =
            self.runs.pending_shims.len() < MAX_PENDING && self.runs.reserve.fill().is_ok();
        for token in std::mem::take(&mut self.runs.paused) {
            if !is_open && matches!(token, Token::Session(_, Part::Listener)) {
                self.runs.paused.push(token);
            } else {
                self.listen(token, Interest::Read);
            }
        }
    }

    /// Says whether there is such a one.
    fn listen(&mut self, token: Token, interest: Interest) -> bool {
        let Token::Session(handle, part) = token else { return false };
        let watched = match part {
            Part::Run => self.runs.by_tool.get_mut(&handle).and_then(|run| run.socket.as_mut()),
            Part::Listener => self.runs.by_tool.get_mut(&handle).map(|run| &mut run.listener),
            Part::PendingShim => self
                .runs
                .pending_shims
                .get_mut(&handle)
                .map(|pending_shim| &mut pending_shim.socket),
            _ => return self.sessions.listen_to_shim(handle, interest, &self.poll),
        };
        watched.is_some_and(|watched| watched.watch(&self.poll, interest).is_ok())
    }
}

/// What came over a socket on which handoffs are expected.
enum Received {
    /// A handoff with its descriptors, and whether there are descriptors left to begin anything.
    Handoff(Box<Handoff>, Vec<OwnedFd>, bool),
    /// Something that is no handoff.
    Other,
    Nothing,
    /// Nobody can send anything any more.
    End,
}

fn receive(socket: &Watched, reserve: &mut Reserve) -> Received {
    let (received, may_begin) =
        reserve.lend(RESERVED, || datagram::try_receive_message::<Handoff>(socket.as_fd()));
    match received {
        Ok(Some((handoff, descriptors))) => {
            Received::Handoff(Box::new(handoff), descriptors, may_begin)
        }
        // An empty datagram looks like the end.
        Ok(None) if has_hung_up(socket) => Received::End,
        Ok(None) => Received::Other,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Received::Other,
        Err(_) => Received::End,
    }
}
