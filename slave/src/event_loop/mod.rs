//! The loop: waits for what is ready, has its owner deal with it, takes in, sends out.
//!
//! Each part of the slave has its own state, and gets from here what it needs beside that. Only
//! the loop knows all of them: what happens to one part and matters to another passes through here.

mod owners;

use std::borrow::Cow;
use std::env;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use fakessh_protocol::handles::{SessionHandles, Side, Stream};
use fakessh_protocol::message::{
    ProgramKind, ProgramSetup, Refusal, RefusalReason, Spawn, ToMaster, ToSlave,
};
use fakessh_protocol::mux::{Event, Mux, MuxError};
use fakessh_protocol::printable;
use fakessh_protocol::start;
use fakessh_protocol::wire::{self, Handle};

use crate::child;
use crate::cleanup::{KillQueue, PendingKill, Watchdog};
use crate::io::Io;
use crate::link::{Inbound, LinkEnd, Outbound, Pipes, Taken, TurnIn, TurnOut};
use crate::poll::{Interest, Poll, Ready, ReversePart, SessionPart, Token, Watched};
use crate::program::{self, Account, Launcher};
use crate::reverse::Reverse;
use crate::startup::{Inherited, Startup};
use crate::sys;

use owners::Owners;

/// Most sessions at once. The mux has handles for so many, and as many in reserve for sessions
/// that are refused.
const MAX_SESSIONS: usize = 16_000;

/// Most characters of the reason why a program can't be started: with four bytes each they are half of
/// what such a message may have.
const MAX_REFUSAL: usize = 2048;

/// Serves the link until it ends, and ends all that was started over it.
///
/// # Errors
/// How the link ended, unless the master has just closed it.
pub(crate) fn serve(startup: Startup) -> Result<(), LinkEnd> {
    let Inherited { descriptors, program } = startup.settle(env::args_os().next().as_deref());
    sys::give_memory_back();
    let watchdog = Watchdog::start(startup.starts());
    let launcher = Launcher::new(Account::current(), descriptors, program);
    let mut slave = EventLoop::new(startup.marker(), launcher, watchdog)?;
    let end = loop {
        if let Err(end) = slave.turn() {
            break end;
        }
    };
    slave.wind_down();
    match end {
        LinkEnd::Closed => Ok(()),
        end => Err(end),
    }
}

/// All parts of the slave.
struct EventLoop {
    io: Io,
    inbound: Inbound,
    outbound: Outbound,
    /// Reports that some child has ended. Only kernels without pidfds need it.
    children: Option<Watched>,
    owners: Owners,
    kill_queue: KillQueue,
    launcher: Launcher,
    watchdog: Watchdog,
}

/// Whether more may be taken in before other things have their turn.
#[derive(PartialEq, Eq)]
enum Next {
    More,
    /// The last step took long enough for others to wait.
    Enough,
}

impl EventLoop {
    fn new(marker: &str, launcher: Launcher, watchdog: Watchdog) -> Result<EventLoop, LinkEnd> {
        let io = Io { poll: Poll::new()?, mux: Mux::new().limit_sent(ToMaster::limit) };
        let inbound = Inbound::new(&io)?;
        let outbound = Outbound::new(&start::preamble(marker))?;
        let mut slave = EventLoop {
            io,
            inbound,
            outbound,
            children: None,
            owners: Owners::default(),
            kill_queue: KillQueue::default(),
            launcher,
            watchdog,
        };
        slave.watchdog.watch(&slave.io.poll);
        if !child::has_pidfds() {
            let mut reports = Watched::new(sys::report_children()?, Token::Children);
            reports.watch(&slave.io.poll, Interest::Read)?;
            slave.children = Some(reports);
        }
        slave.io.mux.message(Handle::LINK, &ToMaster::Hello(slave.launcher.hello()))?;
        slave.send_out()?;
        Ok(slave)
    }

    /// Waits once, and deals with all that is ready.
    fn turn(&mut self) -> Result<(), LinkEnd> {
        let mut take_in = self.inbound.is_pending();
        let deadlines = [
            self.inbound.next(),
            self.kill_queue.next(),
            self.outbound.next(),
            self.watchdog.next(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = if take_in { Some(Duration::ZERO) } else { timeout };
        let ready = self.io.poll.wait(timeout)?;
        for one in &ready {
            match one.token {
                Token::LinkIn => take_in = true,
                Token::LinkOut if one.ended => return Err(LinkEnd::Closed),
                Token::LinkOut => {}
                _ => self.dispatch(*one),
            }
        }
        if take_in {
            self.take_in()?;
        }
        self.kill_queue.hang_up();
        if deadline.is_some() {
            self.check_time(Instant::now())?;
        }
        self.send_out()?;
        self.owners.reverse.resume(&self.io);
        self.pause_unsent(&ready)
    }

    fn check_time(&mut self, now: Instant) -> Result<(), LinkEnd> {
        self.kill_overdue(now);
        self.watchdog.replace(now, &self.io.poll);
        self.inbound.check(&mut self.io, now)
    }

    /// Gives what is ready to its owner.
    fn dispatch(&mut self, ready: Ready) {
        let count = self.owners.len();
        let EventLoop { io, owners, watchdog, .. } = self;
        match ready.token {
            Token::LinkIn | Token::LinkOut => {}
            Token::Children => self.note_exits(),
            Token::Watchdog => watchdog.note_end(),
            Token::Session(control, part) => {
                if let Some(session) = owners.sessions.get_mut(control) {
                    session.ready(io, part, ready, count);
                }
                if part == SessionPart::Exit {
                    self.settle(control);
                }
            }
            Token::Reverse(control, part) => {
                owners.reverse.session_ready(io, (control, part), ready, count);
            }
            Token::Run(tool, part) => owners.reverse.run_ready(io, tool, part),
            Token::PendingShim(number) => owners.reverse.pending_ready(io, number),
            Token::Listener(control) => owners.reverse.listener_ready(io, control),
        }
    }

    /// Keeps outputs that are ready and could not be sent (no credit, or the link is full) from
    /// waking us before they can.
    fn pause_unsent(&mut self, ready: &[Ready]) -> Result<(), LinkEnd> {
        for one in ready {
            let (control, stream) = match one.token {
                Token::Session(control, SessionPart::Stream(stream)) => (control, stream),
                Token::Reverse(control, ReversePart::Stream(stream)) => (control, stream),
                _ => continue,
            };
            let handle = SessionHandles::of(control).stream(stream);
            if let Some(source) = self.owners.source(handle) {
                source.pause(&self.io.poll)?;
            }
        }
        Ok(())
    }

    /// Takes in what the link has, up to a budget.
    fn take_in(&mut self) -> Result<(), LinkEnd> {
        let mut turn = TurnIn::default();
        while let Some(taken) = self.inbound.take(&mut self.io, &mut self.owners, &mut turn)? {
            match taken {
                Taken::SinkClosed(handle) => self.sink_closed(handle),
                Taken::Event(event) => {
                    if self.act(event)? == Next::Enough {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Acts upon an event of the mux.
    fn act(&mut self, event: Event) -> Result<Next, LinkEnd> {
        match event {
            Event::Message(Handle::LINK, payload) => {
                if let ToSlave::Settings(settings) = wire::decode(&payload)? {
                    self.inbound.set(settings);
                }
            }
            Event::Message(control, payload) => {
                return self.obey(control, wire::decode(&payload)?);
            }
            Event::Eof(handle) => {
                if let Some(sink) = self.owners.sink(handle) {
                    sink.end();
                    if sink.is_closed() {
                        self.sink_closed(handle);
                    }
                }
            }
            // To the program a closed input would look like the end of all of it, so it is hung up
            // first. (For a session that is over, and for an input that the program itself has
            // closed, nothing is cut, and no reset comes.)
            Event::Reset(handle) => {
                if Side::of(handle) == Some(Side::Master)
                    && SessionHandles::stream_of(handle) == Some(Stream::Stdin)
                {
                    self.hang_up(SessionHandles::of(handle).control);
                }
            }
            Event::Stopped(handle) => self.source_stopped(handle),
        }
        Ok(Next::More)
    }

    /// Does what the master says on a control handle.
    fn obey(&mut self, control: Handle, message: ToSlave) -> Result<Next, LinkEnd> {
        let EventLoop { io, owners, watchdog, launcher, .. } = self;
        match message {
            ToSlave::Spawn(spawn) => {
                self.spawn(control, &spawn)?;
                return Ok(Next::Enough);
            }
            ToSlave::Signal(number) => {
                if let Some(session) = owners.sessions.get_mut(control)
                    && let Some(signal) = sys::signal_from_number(number)
                {
                    session.signal(signal);
                }
            }
            ToSlave::Hangup if owners.reverse.stop_listening(control) => {}
            ToSlave::Hangup => self.hang_up(control),
            ToSlave::Type(secret) => {
                if let Some(session) = owners.sessions.get_mut(control) {
                    session.type_secret(io, &secret.0);
                }
                self.inbound.wipe();
            }
            ToSlave::Resize(size) => {
                if let Some(session) = owners.sessions.get_mut(control) {
                    session.resize(size);
                }
            }
            ToSlave::ToShim(message) => owners.reverse.tell(io, control, message),
            ToSlave::Listen(_) | ToSlave::ListenForAgent if owners.sessions.contains(control) => {
                return Err(MuxError::OpenedTwice(control).into());
            }
            ToSlave::Listen(listen) => owners.reverse.start_listening(io, control, &listen)?,
            ToSlave::ListenForAgent => {
                owners.reverse.start_agent(io, watchdog, launcher, control)?;
            }
            ToSlave::Settings(_) => {}
        }
        Ok(Next::More)
    }

    /// A sink is closed: all is written, or its reader is gone.
    fn sink_closed(&mut self, handle: Handle) {
        self.owners.reverse.sink_closed(&mut self.io, handle);
    }

    /// The master wants no more of an output: the program is to notice with its next write.
    fn source_stopped(&mut self, handle: Handle) {
        match Side::of(handle) {
            Some(Side::Master) => {
                if let Some(source) = self.owners.sessions.source(handle) {
                    source.close();
                    self.settle(SessionHandles::of(handle).control);
                }
            }
            Some(Side::Slave) => self.owners.reverse.source_stopped(handle),
            None => {}
        }
    }

    /// Sends what there is to send, until the link is full or a budget used up.
    fn send_out(&mut self) -> Result<(), LinkEnd> {
        let mut turn = TurnOut::default();
        while let Some(ended) = self.outbound.send(&mut self.io, &mut self.owners, &mut turn)? {
            self.settle(SessionHandles::of(ended).control);
        }
        Ok(())
    }

    /// Starts a program, or says why not.
    fn spawn(&mut self, control: Handle, spawn: &Spawn) -> Result<(), LinkEnd> {
        let handles = spawn.handles;
        self.open(control, handles)?;
        let Err(refusal) = self.start(spawn) else { return Ok(()) };
        // It may quote what was asked for, which can be longer than such a message.
        let message = printable::beginning(&refusal.message, MAX_REFUSAL);
        let EventLoop { io, owners, .. } = self;
        owners.reverse.end_run(io, control, &message);
        // The reason comes first: the invoker's neighbours must not see its ends before it.
        io.mux.message(control, &ToMaster::Refused(Refusal { message, ..refusal }))?;
        // Bytes that are on their way to its stdin find no session, and are thrown away.
        io.mux.stop(handles.stdin);
        io.mux.reset(handles.stdout);
        io.mux.reset(handles.stderr);
        Ok(())
    }

    /// Opens a new session's handles.
    fn open(&mut self, control: Handle, handles: SessionHandles) -> Result<(), MuxError> {
        handles.check(control, Side::Master)?;
        if self.owners.sessions.contains(control) || self.owners.reverse.listens(control) {
            return Err(MuxError::OpenedTwice(control));
        }
        self.io.mux.open_receiving(handles.stdin)?;
        self.io.mux.open_sending(handles.stdout)?;
        self.io.mux.open_sending(handles.stderr)
    }

    /// Starts the program of a session whose handles are open.
    fn start(&mut self, spawn: &Spawn) -> Result<(), Refusal> {
        let EventLoop { io, owners, watchdog, launcher, .. } = self;
        let Owners { sessions, reverse } = owners;
        let limit = |message| Refusal { reason: RefusalReason::Limit, message };
        if sessions.len() >= MAX_SESSIONS {
            return Err(limit(format!("the slave serves {MAX_SESSIONS} sessions already")));
        }
        let setup = &with_agent(&spawn.setup, reverse);
        let program = match &spawn.program {
            ProgramKind::Tool(tool) => {
                let (directory, socket) =
                    reverse.open_run(io, watchdog, launcher, spawn.handles.control)?;
                program::start_tool(launcher, tool, setup, &directory, &socket)?
            }
            program => program::start(launcher, program, setup)?,
        };
        let begun = sessions.begin(io, watchdog, spawn.handles, program);
        begun.map_err(|error| limit(error.to_string()))
    }

    /// Some child has ended: notes which.
    fn note_exits(&mut self) {
        if let Some(reports) = &self.children {
            while rustix::io::read(reports, &mut [0; 256]).is_ok() {}
        }
        self.watchdog.note_end();
        for control in self.owners.sessions.controls() {
            if let Some(session) = self.owners.sessions.get_mut(control) {
                session.note_exit();
            }
            self.settle(control);
        }
        self.owners.reverse.note_exits(&mut self.io);
    }

    /// Ends a session if it is over. Its run goes on while somebody uses it.
    fn settle(&mut self, control: Handle) {
        let count = self.owners.len();
        let EventLoop { io, owners, watchdog, .. } = self;
        if owners.sessions.settle(io, watchdog, control, count) {
            owners.reverse.leave_run(io, control);
        }
    }

    /// The invoker is gone: nobody reads the program's outputs any more, and it gets its grace
    /// period.
    fn hang_up(&mut self, control: Handle) {
        let reason = "the run that this ssh belongs to was ended";
        self.owners.reverse.end_run(&mut self.io, control, reason);
        self.queue_kill(control);
        self.settle(control);
    }

    fn queue_kill(&mut self, control: Handle) {
        if let Some(session) = self.owners.sessions.get_mut(control)
            && let Some(program) = session.hang_up(&mut self.io)
        {
            self.kill_queue.add(control, program);
        }
    }

    /// Kills the programs whose grace period is over.
    fn kill_overdue(&mut self, now: Instant) {
        for PendingKill { control, program, .. } in self.kill_queue.kill_overdue(now) {
            let given_back = self.owners.sessions.give_back(control, program.pid, program.slot);
            if let Err(slot) = given_back {
                child::reap(program.pid);
                self.watchdog.remove_session(slot);
            }
        }
    }

    /// The link has ended: so does everything that was started over it. Returns when no program is
    /// left, or all that were left are killed.
    fn wind_down(mut self) {
        // Who waits for the end of our output need not wait for the programs.
        self.inbound.close();
        self.outbound.close();
        self.owners.reverse.end_all(&mut self.io);
        for control in self.owners.sessions.controls() {
            self.queue_kill(control);
        }
        self.kill_queue.hang_up();
        while let Some(last) = self.kill_queue.last() {
            let now = Instant::now();
            let any_runs = self.owners.sessions.any_runs() || self.kill_queue.any_runs();
            let ready = (last > now && any_runs).then(|| self.io.poll.wait(Some(last - now)));
            let Some(Ok(ready)) = ready else {
                // Programs that are late are killed, and nobody is left to wait for the others.
                return self.kill_overdue(last);
            };
            for ready in ready {
                match ready.token {
                    Token::Session(control, SessionPart::Exit) => {
                        if let Some(session) = self.owners.sessions.get_mut(control) {
                            session.note_exit();
                        }
                    }
                    Token::Children => self.note_exits(),
                    Token::Watchdog => self.watchdog.note_end(),
                    _ => {}
                }
            }
        }
    }
}

/// A program's setup with the variable that leads to its agent, if it has one.
fn with_agent<'a>(setup: &'a ProgramSetup, reverse: &Reverse) -> Cow<'a, ProgramSetup> {
    match setup.agent.and_then(|agent| reverse.agent(agent)) {
        Some(path) => {
            let mut setup = setup.clone();
            let path = path.as_os_str().as_bytes().to_vec();
            setup.environment.push((b"SSH_AUTH_SOCK".to_vec(), path));
            Cow::Owned(setup)
        }
        None => Cow::Borrowed(setup),
    }
}
