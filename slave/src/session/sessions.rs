//! All sessions of programs, and who of them a handle belongs to.

use std::collections::HashMap;
use std::io;

use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::wire::Handle;
use rustix::process::Pid;

use super::session::Session;
use super::sink::Sink;
use super::source::Source;
use crate::child;
use crate::cleanup::{SessionSlot, Watchdog};
use crate::io::Io;
use crate::program::Program;

/// A table that grew beyond this many sessions is given back when the last one has ended.
const KEPT_SESSIONS: usize = 64;

/// All sessions of programs, by their control handle.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_control: HashMap<Handle, Session>,
}

impl Sessions {
    /// How many sessions there are.
    pub(crate) fn len(&self) -> usize {
        self.by_control.len()
    }

    pub(crate) fn contains(&self, control: Handle) -> bool {
        self.by_control.contains_key(&control)
    }

    pub(crate) fn get_mut(&mut self, control: Handle) -> Option<&mut Session> {
        self.by_control.get_mut(&control)
    }

    /// The control handles of all sessions.
    pub(crate) fn controls(&self) -> Vec<Handle> {
        self.by_control.keys().copied().collect()
    }

    /// Whether the program of any session runs.
    pub(crate) fn any_runs(&self) -> bool {
        self.by_control.values().any(Session::runs)
    }

    /// Begins the session of a program that has just started.
    ///
    /// # Errors
    /// If the kernel watches no more descriptors. The program is killed then.
    pub(crate) fn begin(
        &mut self,
        io: &mut Io,
        watchdog: &mut Watchdog,
        handles: SessionHandles,
        program: Program,
    ) -> io::Result<()> {
        let pid = program.pid;
        let session = Session::new(handles, program, io);
        let mut session = session.inspect_err(|_| child::destroy(pid))?;
        session.set_slot(watchdog.add_session(pid));
        self.by_control.insert(handles.control, session);
        Ok(())
    }

    /// Ends a session if it is over, and says so to the master. Returns whether it is.
    pub(crate) fn settle(
        &mut self,
        io: &mut Io,
        watchdog: &mut Watchdog,
        control: Handle,
        sessions: usize,
    ) -> bool {
        let Some(session) = self.by_control.get_mut(&control) else { return false };
        if !session.settle(io, sessions) {
            return false;
        }
        let pid = session.pid();
        let slot = self.by_control.remove(&control).and_then(Session::into_slot);
        if let Some(slot) = slot {
            child::reap(pid);
            watchdog.remove_session(slot);
        }
        if self.by_control.is_empty() && self.by_control.capacity() > KEPT_SESSIONS {
            self.by_control = HashMap::new();
        }
        true
    }

    /// The grace period of a program is over, and the program killed. Its session, if it is here,
    /// takes the slot back: the end of the program is about to be seen.
    ///
    /// # Errors
    /// The slot, if the session is over. The program is to be reaped then.
    pub(crate) fn give_back(
        &mut self,
        control: Handle,
        pid: Pid,
        slot: SessionSlot,
    ) -> Result<(), SessionSlot> {
        match self.by_control.get_mut(&control) {
            Some(session) if session.pid() == pid => {
                session.set_slot(slot);
                Ok(())
            }
            _ => Err(slot),
        }
    }

    /// The sink that a handle goes to.
    pub(crate) fn sink(&mut self, handle: Handle) -> Option<&mut Sink> {
        let stream = SessionHandles::stream_of(handle)?;
        self.get_mut(SessionHandles::of(handle).control)?.sink(stream)
    }

    /// The source that a handle comes from.
    pub(crate) fn source(&mut self, handle: Handle) -> Option<&mut Source> {
        let stream = SessionHandles::stream_of(handle)?;
        self.get_mut(SessionHandles::of(handle).control)?.source(stream)
    }
}
