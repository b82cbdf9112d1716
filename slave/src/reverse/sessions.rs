//! All runs and their reverse sessions, and what one means for the other.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use fakessh_protocol::forward::Listen;
use fakessh_protocol::handles::{HandleAllocator, SessionHandles, Side, Stream};
use fakessh_protocol::message::{
    Accepted as AcceptedConnection, Handoff, MAX_REVERSE, PackedHandoff, Refusal, RefusalReason,
    StartReverse, ToMaster, ToShim,
};
use fakessh_protocol::mux::MuxError;
use fakessh_protocol::wire::Handle;
use rustix::fs::{Mode, OFlags};

use super::copier::Copiers;
use super::handoff::{Handed, Received};
use super::listeners::{self, Incoming, Listeners};
use super::run_directory;
use super::runs::{Accepted, Runs};
use super::session::{Fate, Invoker, ReverseSession, TURN, is_backlogged};
use super::shim_stdio::ShimStdio;
use crate::cleanup::Watchdog;
use crate::io::Io;
use crate::poll::{Interest, Poll, Ready, ReversePart, RunPart, Token, Watched};
use crate::program::Launcher;
use crate::session::{Sink, Source};

/// All runs, and the sessions that their tools have begun.
#[derive(Debug)]
pub(crate) struct Reverse {
    runs: Runs,
    listeners: Listeners,
    /// By their control handle.
    sessions: HashMap<Handle, ReverseSession>,
    copiers: Copiers,
    handles: HandleAllocator,
    /// Sockets that are not listened to until the link has taken what waits for it.
    paused: Vec<Token>,
}

impl Default for Reverse {
    fn default() -> Reverse {
        Reverse {
            runs: Runs::default(),
            listeners: Listeners::default(),
            sessions: HashMap::new(),
            copiers: Copiers::default(),
            handles: HandleAllocator::new(Side::Slave),
            paused: Vec::new(),
        }
    }
}

impl Reverse {
    /// How many reverse sessions there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Opens the run of a tool. Returns its directory, and the end of its socket for the tool.
    ///
    /// # Errors
    /// What the master is to be told.
    pub(crate) fn open_run(
        &mut self,
        io: &Io,
        watchdog: &mut Watchdog,
        launcher: &Launcher,
        tool: Handle,
    ) -> Result<(PathBuf, OwnedFd), Refusal> {
        self.runs.open(&io.poll, watchdog, launcher, tool)
    }

    /// The tool's session is over. Its run ends when nobody uses it any more.
    pub(crate) fn leave_run(&mut self, io: &mut Io, tool: Handle) {
        self.runs.leave(tool);
        self.end_unused_run(io, tool);
    }

    fn end_unused_run(&mut self, io: &mut Io, tool: Handle) {
        let has_sessions = || self.sessions.values().any(|session| session.tool() == tool);
        if self.runs.is_unused(tool) && !has_sessions() {
            self.end_run(io, tool, "");
        }
    }

    /// Ends the run of a tool, if there is one, and its sessions for this reason.
    pub(crate) fn end_run(&mut self, io: &mut Io, tool: Handle, reason: &str) {
        if !self.runs.end(tool) {
            return;
        }
        let Reverse { sessions, copiers, .. } = self;
        sessions.retain(|_, session| {
            session.tool() != tool || session.give_up(io, copiers, reason) != Fate::Over
        });
        self.give_memory_back();
    }

    /// The link has ended, and all runs with it.
    pub(crate) fn end_all(&mut self, io: &mut Io) {
        for tool in self.runs.tools() {
            self.end_run(io, tool, "the connection to this host was closed or lost");
        }
        self.listeners.clear();
        self.copiers.kill_all();
    }

    /// A socket of a run is ready.
    pub(crate) fn run_ready(&mut self, io: &mut Io, tool: Handle, part: RunPart) {
        match part {
            RunPart::Inherited => self.receive(io, tool),
            RunPart::Listener => self.accept(&io.poll, tool),
        }
    }

    /// Receives handoffs over the socket that a tool inherits.
    fn receive(&mut self, io: &mut Io, tool: Handle) {
        for _ in 0..TURN {
            if is_backlogged(&io.mux) {
                return self.pause(&io.poll, Token::Run(tool, RunPart::Inherited));
            }
            match self.runs.receive(tool) {
                Received::Handoff(handed) => self.begin(io, tool, *handed),
                Received::Other => {}
                Received::Nothing => return,
                Received::End => return self.end_unused_run(io, tool),
            }
        }
    }

    /// Accepts connections to the socket in a run's directory.
    fn accept(&mut self, poll: &Poll, tool: Handle) {
        for _ in 0..TURN {
            match self.runs.accept(poll, tool) {
                Accepted::More => {}
                Accepted::Nothing => return,
                Accepted::Full => {
                    return self.pause(poll, Token::Run(tool, RunPart::Listener));
                }
            }
        }
    }

    /// A pending shim hands over, or has gone.
    pub(crate) fn pending_ready(&mut self, io: &mut Io, number: u32) {
        if is_backlogged(&io.mux) {
            return self.pause(&io.poll, Token::PendingShim(number));
        }
        if let Some((tool, handed)) = self.runs.receive_pending(number) {
            self.begin(io, tool, *handed);
        }
    }

    /// A shim has handed over: begins its session, or tells the shim why not.
    fn begin(&mut self, io: &mut Io, tool: Handle, mut handed: Handed) {
        if self.sessions.len() >= MAX_REVERSE {
            return handed
                .refuse(format!("{MAX_REVERSE} sessions of tools on this host run already"));
        }
        let Ok(stdio) = <[OwnedFd; 3]>::try_from(std::mem::take(&mut handed.descriptors)) else {
            let why = "standard input, output and error did not all arrive";
            return handed.refuse(why.to_owned());
        };
        let handles = self.pick(io);
        let stdio = ShimStdio::take(&io.poll, &mut self.copiers, handles, stdio);
        let begun = stdio.and_then(|stdio| {
            let token = Token::Reverse(handles.control, ReversePart::Shim);
            let mut shim = Watched::new(handed.shim.try_clone()?, token);
            shim.watch(&io.poll, Interest::Read)?;
            Ok(ReverseSession::new(tool, handles, Invoker::Shim(shim), stdio))
        });
        let begun = begun.map_err(|error| error.to_string()).and_then(|session| {
            announce_shim(io, tool, handles, &handed.handoff)
                .map_err(|error| error.to_string())
                .map(|()| session)
        });
        match begun {
            Ok(mut session) => {
                session.begin(io);
                self.sessions.insert(handles.control, session);
            }
            Err(why) => {
                self.copiers.kill_session(handles.control);
                handed.refuse(format!("can't start a session on this host: {why}"));
            }
        }
    }

    /// Listens for a forward, and says so to the master, or why not.
    ///
    /// # Errors
    /// [`MuxError::BadHandles`] or [`MuxError::OpenedTwice`] if the master breaks the protocol.
    pub(crate) fn start_listening(
        &mut self,
        io: &mut Io,
        control: Handle,
        request: &Listen,
    ) -> Result<(), MuxError> {
        self.check_listener(control)?;
        let added = self.listeners.add(&io.poll, control, request);
        answer_listener(io, control, added)
    }

    /// Listens on a socket that stands for an agent, and says so to the master, or why not.
    ///
    /// # Errors
    /// As [`Reverse::start_listening`].
    pub(crate) fn start_agent(
        &mut self,
        io: &mut Io,
        watchdog: &mut Watchdog,
        launcher: &Launcher,
        control: Handle,
    ) -> Result<(), MuxError> {
        self.check_listener(control)?;
        let places = run_directory::places(launcher.variable("XDG_RUNTIME_DIR"), launcher.home());
        let added = self.listeners.add_agent(&io.poll, control, &places, watchdog);
        answer_listener(io, control, added)
    }

    /// The path of an agent's socket, if this is the handle of one.
    pub(crate) fn agent(&self, control: Handle) -> Option<&Path> {
        self.listeners.agent(control)
    }

    fn check_listener(&self, control: Handle) -> Result<(), MuxError> {
        SessionHandles::of(control).check(control, Side::Master)?;
        if self.listeners.contains(control) {
            return Err(MuxError::OpenedTwice(control));
        }
        Ok(())
    }

    /// Whether this is the handle of what is listened on.
    pub(crate) fn listens(&self, control: Handle) -> bool {
        self.listeners.contains(control)
    }

    /// Listens no more for a forward, if this is the handle of one. Connections go on.
    pub(crate) fn stop_listening(&mut self, control: Handle) -> bool {
        self.listeners.remove(control)
    }

    /// Connections have come in for a forward.
    pub(crate) fn listener_ready(&mut self, io: &mut Io, control: Handle) {
        for _ in 0..TURN {
            if is_backlogged(&io.mux) || !self.has_room_for_incoming() {
                return self.pause(&io.poll, Token::Listener(control));
            }
            match self.listeners.accept(control) {
                listeners::Accepted::Incoming(incoming) => {
                    self.take_incoming(io, control, incoming)
                }
                listeners::Accepted::Nothing => return,
                listeners::Accepted::Full => {
                    return self.pause(&io.poll, Token::Listener(control));
                }
            }
        }
    }

    /// Whether one more connection can be served. Others wait in the kernel.
    fn has_room_for_incoming(&mut self) -> bool {
        self.sessions.len() < MAX_REVERSE && self.runs.has_room()
    }

    /// Begins the session of a connection that came in. If that can't be, the connection is closed.
    fn take_incoming(&mut self, io: &mut Io, listener: Handle, incoming: Incoming) {
        let Incoming { socket, from } = incoming;
        let handles = self.pick(io);
        let begun = (|| -> io::Result<ReverseSession> {
            let null =
                rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            let stdio = [socket.try_clone()?, socket.try_clone()?, null];
            let stdio = ShimStdio::take(&io.poll, &mut self.copiers, handles, stdio)?;
            Ok(ReverseSession::new(listener, handles, Invoker::peer(socket)?, stdio))
        })();
        let start = ToMaster::Accepted(AcceptedConnection { listener, handles, from });
        match begun {
            Ok(mut session) if announce(io, handles, &start).is_ok() => {
                session.begin(io);
                self.sessions.insert(handles.control, session);
            }
            _ => self.copiers.kill_session(handles.control),
        }
    }

    /// Handles that nothing here has, and nothing had for long.
    fn pick(&self, io: &Io) -> SessionHandles {
        loop {
            let handles = self.handles.pick();
            let SessionHandles { control, stdin, stdout, stderr } = handles;
            let is_open = io.mux.is_sending(stdin)
                || io.mux.is_receiving(stdout)
                || io.mux.is_receiving(stderr);
            let is_used = self.sessions.contains_key(&control) || self.copiers.copies_any(control);
            if !is_open && !is_used {
                return handles;
            }
        }
    }

    /// A descriptor of a reverse session is ready. How large a pipe may become depends on how many
    /// `sessions` there are.
    pub(crate) fn session_ready(
        &mut self,
        io: &mut Io,
        (control, part): (Handle, ReversePart),
        ready: Ready,
        sessions: usize,
    ) {
        if let ReversePart::Copier(stream) = part {
            return self.copier_ready(io, control, stream);
        }
        self.with(io, control, |session, io, copiers| {
            session.ready(io, copiers, part, ready, sessions)
        });
    }

    /// A copier may have ended. It may have outlived its session.
    fn copier_ready(&mut self, io: &mut Io, control: Handle, stream: Stream) {
        let Some(end) = self.copiers.take_end(control, stream) else { return };
        self.with(io, control, |session, io, copiers| {
            session.copier_ended(io, copiers, stream, end)
        });
    }

    /// Some child has ended: notes which copiers have.
    pub(crate) fn note_exits(&mut self, io: &mut Io) {
        for (control, stream) in self.copiers.running() {
            self.copier_ready(io, control, stream);
        }
    }

    /// The master has a message for a shim.
    pub(crate) fn tell(&mut self, io: &mut Io, control: Handle, message: ToShim) {
        self.with(io, control, |session, io, copiers| session.tell(io, copiers, message));
    }

    /// A sink is closed.
    pub(crate) fn sink_closed(&mut self, io: &mut Io, handle: Handle) {
        let control = SessionHandles::of(handle).control;
        self.with(io, control, |session, io, copiers| session.settle(io, copiers));
    }

    /// The master wants no more of a source.
    pub(crate) fn source_stopped(&mut self, handle: Handle) {
        if let Some(session) = self.sessions.get_mut(&SessionHandles::of(handle).control)
            && SessionHandles::stream_of(handle) == Some(Stream::Stdin)
        {
            session.stdin_unwanted(&self.copiers);
        }
    }

    /// Does something with a session, if it is here, and then what becomes of it.
    fn with(
        &mut self,
        io: &mut Io,
        control: Handle,
        act: impl FnOnce(&mut ReverseSession, &mut Io, &Copiers) -> Fate,
    ) {
        let Some(session) = self.sessions.get_mut(&control) else { return };
        let tool = session.tool();
        match act(session, io, &self.copiers) {
            Fate::GoesOn => {}
            Fate::Pauses => {
                self.pause(&io.poll, Token::Reverse(control, ReversePart::Shim));
            }
            Fate::Over => {
                self.sessions.remove(&control);
                self.give_memory_back();
                self.end_unused_run(io, tool);
            }
        }
    }

    /// Gives back what a burst of sessions has needed.
    fn give_memory_back(&mut self) {
        if self.sessions.is_empty() {
            self.sessions.shrink_to_fit();
        }
    }

    /// Does not listen to a socket until [`Reverse::resume`].
    fn pause(&mut self, poll: &Poll, token: Token) {
        if self.listen(poll, token, Interest::Nothing) {
            self.paused.push(token);
        }
    }

    /// Listens again to the sockets that were paused, if that is of use.
    pub(crate) fn resume(&mut self, io: &Io) {
        if self.paused.is_empty() || is_backlogged(&io.mux) {
            return;
        }
        let has_room = self.runs.has_room();
        let for_incoming = has_room && self.has_room_for_incoming();
        for token in std::mem::take(&mut self.paused) {
            let waits = match token {
                Token::Run(_, RunPart::Listener) => !has_room,
                Token::Listener(_) => !for_incoming,
                _ => false,
            };
            if waits {
                self.paused.push(token);
            } else {
                self.listen(&io.poll, token, Interest::Read);
            }
        }
    }

    /// Returns whether that is possible.
    fn listen(&mut self, poll: &Poll, token: Token, interest: Interest) -> bool {
        match token {
            Token::Run(tool, part) => self.runs.listen(poll, (tool, part), interest),
            Token::PendingShim(number) => self.runs.listen_to_pending(poll, number, interest),
            Token::Listener(control) => self.listeners.watch(poll, control, interest),
            Token::Reverse(control, ReversePart::Shim) => {
                let session = self.sessions.get_mut(&control);
                session.is_some_and(|session| session.listen(poll, interest))
            }
            _ => false,
        }
    }

    /// The sink that a handle goes to.
    pub(crate) fn sink(&mut self, handle: Handle) -> Option<&mut Sink> {
        let stream = SessionHandles::stream_of(handle)?;
        self.sessions.get_mut(&SessionHandles::of(handle).control)?.sink(stream)
    }

    /// The source that a handle comes from.
    pub(crate) fn source(&mut self, handle: Handle) -> Option<&mut Source> {
        let stream = SessionHandles::stream_of(handle)?;
        self.sessions.get_mut(&SessionHandles::of(handle).control)?.source(stream)
    }
}

/// Tells the master whether it is listened.
fn answer_listener(
    io: &mut Io,
    control: Handle,
    added: Result<u16, String>,
) -> Result<(), MuxError> {
    let answer = match added {
        Ok(port) => ToMaster::Listening(port),
        Err(message) => ToMaster::Refused(Refusal { reason: RefusalReason::Other, message }),
    };
    Ok(io.mux.message(control, &answer)?)
}

/// Lets the master know of a shim's session. If that can't be, its handles are closed.
fn announce_shim(
    io: &mut Io,
    tool: Handle,
    handles: SessionHandles,
    handoff: &Handoff,
) -> Result<(), MuxError> {
    let handoff = PackedHandoff::pack(handoff)?;
    let start = ToMaster::StartReverse(Box::new(StartReverse { tool, handles, handoff }));
    announce(io, handles, &start)
}

/// Opens a session's handles and lets the master know. If that can't be, the handles are closed.
fn announce(io: &mut Io, handles: SessionHandles, start: &ToMaster) -> Result<(), MuxError> {
    let SessionHandles { control, stdin, stdout, stderr } = handles;
    let mux = &mut io.mux;
    let announced = mux
        .open_sending(stdin)
        .and_then(|()| mux.open_receiving(stdout))
        .and_then(|()| mux.open_receiving(stderr))
        .and_then(|()| Ok(mux.message(control, start)?));
    if announced.is_err() {
        [stdin, stdout, stderr].into_iter().for_each(|handle| mux.forget(handle));
    }
    announced
}
