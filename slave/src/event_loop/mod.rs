//! The loop: wait for what is ready, take in, send out.

use std::env;
use std::io;
use std::time::Instant;

use fakessh_protocol::handles::{SessionHandles, Side};
use fakessh_protocol::message::{ProgramKind, Refusal, RefusalReason, Spawn, ToMaster};
use fakessh_protocol::mux::{Mux, MuxError};
use fakessh_protocol::start;
use fakessh_protocol::wire::{Handle, WireError};
use rustix::io::Errno;
use rustix::process::kill_process_group;
use thiserror::Error;

use crate::cleanup::kill_queue::KillQueue;
use crate::cleanup::watchdog::Watchdog;
use crate::link::clock::Clock;
use crate::link::direction::Direction;
use crate::link::inbound::Inbound;
use crate::link::outbound::Outbound;
use crate::poll::{Interest, Part, Poll, Ready, Token, Watched};
use crate::program::account::Account;
use crate::program::launcher::{self, Launcher};
use crate::reverse::copier::Copiers;
use crate::reverse::runs::Runs;
use crate::session::{Session, Sessions};
use crate::startup::{Settled, Startup};
use crate::sys;

/// Most sessions at once. The mux has handles for so many, and one in reserve for each that is
/// refused.
const MAX_SESSIONS: usize = 16_000;

/// Bytes of the buffer for payload that has to be copied: one data frame.
pub(crate) const SCRATCH: usize = fakessh_protocol::wire::MAX_DATA;

/// Why a link ended.
#[derive(Debug, Error)]
pub(crate) enum LinkEnd {
    /// The master closed it. The only way that is no failure.
    #[error("the link was closed")]
    Closed,
    #[error("the master was silent for too long")]
    Silent,
    #[error("the link failed: {0}")]
    Failed(#[from] io::Error),
    #[error("the master broke the protocol: {0}")]
    Protocol(#[from] MuxError),
}

impl From<Errno> for LinkEnd {
    fn from(error: Errno) -> LinkEnd {
        LinkEnd::Failed(error.into())
    }
}

impl From<WireError> for LinkEnd {
    fn from(error: WireError) -> LinkEnd {
        LinkEnd::Protocol(error.into())
    }
}

/// Serves the link until it ends, and ends all that was started over it.
///
/// # Errors
/// How the link ended, where the master has not just closed it.
pub(crate) fn serve(startup: Startup) -> Result<(), LinkEnd> {
    let Settled { descriptors, program } = startup.settle(env::args_os().next().as_deref());
    sys::give_memory_back();
    let watchdog = Watchdog::start(startup.place());
    let launcher = Launcher::new(Account::current(), descriptors, program);
    let mut slave = Slave::new(&startup, launcher, watchdog)?;
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

/// Everything there is.
pub(crate) struct Slave {
    pub(crate) poll: Poll,
    pub(crate) mux: Mux,
    pub(crate) link_in: Direction,
    pub(crate) link_out: Direction,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    /// Says that some program has ended, where there are no pidfds.
    children: Option<Watched>,
    pub(crate) sessions: Sessions,
    pub(crate) kill_queue: KillQueue,
    pub(crate) clock: Clock,
    /// What tools' own `ssh` comes back to, and what carries bytes for it.
    pub(crate) runs: Runs,
    pub(crate) copiers: Copiers,
    pub(crate) launcher: Launcher,
    pub(crate) watchdog: Watchdog,
    pub(crate) scratch: Box<[u8]>,
}

impl Slave {
    fn new(startup: &Startup, launcher: Launcher, watchdog: Watchdog) -> Result<Slave, LinkEnd> {
        let mut slave = Slave {
            poll: Poll::new()?,
            mux: Mux::new().limit_sent(ToMaster::limit),
            link_in: Direction::inward()?,
            link_out: Direction::outward()?,
            inbound: Inbound::new(),
            outbound: Outbound::default(),
            children: None,
            sessions: Sessions::default(),
            kill_queue: KillQueue::default(),
            clock: Clock::default(),
            runs: Runs::default(),
            copiers: Copiers::default(),
            launcher,
            watchdog,
            scratch: vec![0; SCRATCH].into_boxed_slice(),
        };
        slave.link_in.watched.watch(&slave.poll, Interest::Read)?;
        slave.watchdog.watch(&slave.poll);
        if !launcher::has_pidfds() {
            let mut reports = Watched::new(sys::report_children()?, Token::Children);
            reports.watch(&slave.poll, Interest::Read)?;
            slave.children = Some(reports);
        }
        slave.outbound.begin(&start::preamble(&startup.marker));
        slave.mux.message(Handle::LINK, &ToMaster::Hello(slave.launcher.hello()))?;
        slave.send_out()?;
        Ok(slave)
    }

    /// Waits once, and deals with all that is ready.
    fn turn(&mut self) -> Result<(), LinkEnd> {
        let mut take_in = self.inbound.is_pending();
        let deadlines =
            [self.clock.next(), self.kill_queue.next(), self.outbound.next(), self.watchdog.next()];
        let deadline = deadlines.into_iter().flatten().min();
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = if take_in { Some(std::time::Duration::ZERO) } else { timeout };
        let ready = self.poll.wait(timeout)?;
        for one in &ready {
            match one.token {
                Token::LinkIn => take_in = true,
                Token::LinkOut if one.ended => return Err(LinkEnd::Closed),
                Token::LinkOut => {}
                Token::Children => self.note_children(),
                Token::Watchdog => self.watchdog.note_end(),
                Token::Session(control, part) => self.session_ready(control, part, *one),
            }
        }
        if take_in {
            self.take_in()?;
        }
        self.tell_doomed();
        if deadline.is_some() {
            self.check_time(Instant::now())?;
        }
        self.send_out()?;
        self.resume();
        self.pause_unsent(&ready)
    }

    fn check_time(&mut self, now: Instant) -> Result<(), LinkEnd> {
        self.kill_overdue(now);
        self.watchdog.replace(now, &self.poll);
        if self.clock.tick_is_due(now) {
            self.mux.look();
        }
        if self.clock.is_silent(now) { Err(LinkEnd::Silent) } else { Ok(()) }
    }

    fn session_ready(&mut self, control: Handle, part: Part, ready: Ready) {
        match part {
            Part::Run => return self.run_ready(control),
            Part::Listener => return self.listener_ready(control),
            Part::PendingShim => return self.pending_shim_ready(control),
            _ if Side::of(control) == Some(Side::Slave) => {
                return self.raised_ready(control, part, ready);
            }
            _ => {}
        }
        let sessions = self.sessions.len();
        let Some(session) = self.sessions.by_control.get_mut(&control) else { return };
        let handle = session.handle(part);
        match part {
            Part::Exit => {
                self.note_exit(control);
                self.settle(control);
            }
            Part::Stdin if ready.ended => self.sink_broke(handle),
            Part::Stdin if ready.writable => self.drain_sink(handle),
            Part::Stdin => {}
            Part::Terminal => session.serve_terminal(&self.poll),
            Part::Shim | Part::StdinCopier | Part::StdoutCopier | Part::StderrCopier => {}
            Part::Run | Part::Listener | Part::PendingShim => {}
            Part::Stdout | Part::Stderr => {
                let slot = session.output(part);
                let Some(output) = slot else { return };
                let more = output.discover(sessions);
                if more > 0 {
                    self.mux.offer(handle, more);
                }
                if ready.ended {
                    self.mux.finish(handle);
                    output.ended = true;
                    if output.offered == 0 {
                        *slot = None;
                    }
                    // Most programs end with their output: then all goes out in one write.
                    if session.outputs_ended() {
                        self.note_exit(control);
                    }
                }
            }
        }
    }

    /// Outputs that are ready and could not be sent (no credit, or the link is full) must not
    /// wake us again before they can.
    fn pause_unsent(&mut self, ready: &[Ready]) -> Result<(), LinkEnd> {
        for one in ready {
            if let Token::Session(control, part @ (Part::Stdout | Part::Stderr)) = one.token
                && let Some(session) = self.sessions.by_control.get_mut(&control)
                && let Some(output) = session.output(part)
                && output.offered > 0
            {
                output.pipe.watch(&self.poll, Interest::Nothing)?;
            }
            if let Token::Session(control, Part::Stdin) = one.token
                && let Some(raised) = self.sessions.raised.get_mut(&control)
            {
                raised.pause_unsent(&self.poll)?;
            }
        }
        Ok(())
    }

    /// Starts a program, or says why not.
    pub(crate) fn spawn(&mut self, control: Handle, spawn: &Spawn) -> Result<(), LinkEnd> {
        let handles = spawn.handles;
        self.open(control, handles)?;
        let started = if self.sessions.by_control.len() < MAX_SESSIONS {
            let started = match &spawn.program {
                ProgramKind::Tool(tool) => self.start_tool(control, tool, &spawn.environment),
                _ => self.launcher.start(spawn),
            };
            started.and_then(|program| {
                let pid = program.pid;
                Session::new(handles, program, &self.poll).map_err(|error| {
                    launcher::destroy(pid);
                    Refusal { reason: RefusalReason::Limit, message: error.to_string() }
                })
            })
        } else {
            let message = format!("the slave serves {MAX_SESSIONS} sessions already");
            Err(Refusal { reason: RefusalReason::Limit, message })
        };
        match started {
            Ok(mut session) => {
                if session.output(Part::Stderr).is_none() {
                    self.mux.finish(handles.stderr);
                }
                session.entry = Some(self.watchdog.add(session.pid));
                self.sessions.insert(session);
            }
            Err(refusal) => {
                self.end_run(control, &refusal.message);
                // The reason comes first: the invoker's neighbours must not see its ends before it.
                self.mux.message(control, &ToMaster::Refused(refusal))?;
                // What is on its way to its stdin finds no session, and is thrown away.
                self.mux.stop(handles.stdin);
                self.mux.reset(handles.stdout);
                self.mux.reset(handles.stderr);
            }
        }
        Ok(())
    }

    /// Opens a new session's handles.
    fn open(&mut self, control: Handle, handles: SessionHandles) -> Result<(), MuxError> {
        handles.check(control, Side::Master)?;
        if self.sessions.by_control.contains_key(&control) {
            return Err(MuxError::OpenedTwice(control));
        }
        let SessionHandles { stdin, stdout, stderr, .. } = handles;
        self.mux.open_receiving(stdin)?;
        self.mux.open_sending(stdout)?;
        self.mux.open_sending(stderr)
    }

    pub(crate) fn signal(&mut self, control: Handle, number: u8) {
        if let Some(session) = self.sessions.by_control.get(&control)
            && let Some(signal) = sys::signal_from_number(number)
        {
            let _ = kill_process_group(session.pid, signal);
        }
    }

    /// Some program has ended: looks which.
    pub(crate) fn note_children(&mut self) {
        if let Some(reports) = &self.children {
            while rustix::io::read(reports, &mut self.scratch[..]).is_ok() {}
        }
        self.watchdog.note_end();
        let controls: Vec<Handle> = self.sessions.by_control.keys().copied().collect();
        for control in controls {
            self.note_exit(control);
            self.settle(control);
        }
        for (control, part) in self.copiers.running() {
            self.copier_ready(control, part);
        }
    }

    /// Looks whether a program has ended, and how.
    pub(crate) fn note_exit(&mut self, control: Handle) {
        if let Some(session) = self.sessions.by_control.get_mut(&control)
            && session.exit.is_none()
            && let Some(exit) = launcher::look_for_end(session.pid)
        {
            session.exit = Some(exit);
            session.pidfd = None;
        }
    }

    /// Says that a session is over, if it is: its program has ended, and the ends of its outputs
    /// are out. (Messages overtake bulk, so it must not be said before.)
    pub(crate) fn settle(&mut self, control: Handle) {
        let Some(session) = self.sessions.by_control.get(&control) else { return };
        let Some(exit) = session.exit else { return };
        let SessionHandles { stdin, stdout, stderr, .. } = session.handles;
        if self.mux.is_sending(stdout) || self.mux.is_sending(stderr) {
            if session.is_helper && !self.mux.is_sending(stdout) {
                self.end_helpers_stderr(control);
            }
            return;
        }
        // A status of two bytes is never too large.
        let _ = self.mux.message(control, &ToMaster::Exited(exit));
        self.mux.stop(stdin);
        if let Some(session) = self.sessions.remove(control)
            && let Some(entry) = session.entry
        {
            launcher::reap(session.pid);
            self.watchdog.remove(entry);
        }
        self.leave_run(control);
    }
}
