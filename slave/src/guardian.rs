//! Nothing is left behind, also after `kill -9` of the slave: a second process waits for that,
//! with a list of the sessions there are, and ends what they started.
//!
//! It is forked before anything is opened and shares nothing but that list and a pipe. It sleeps
//! in one read until the slave is gone; keeping the list wakes nobody.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use crate::end::GRACE;
use crate::members::{self, Whom};
use crate::sys;

/// Bytes of an entry of the list: a process number, 0 where there is none.
const ENTRY: usize = 4;

/// How often to look whether all are gone, once the slave is.
const LOOK: Duration = Duration::from_millis(100);

/// A place in the list.
#[derive(Debug)]
pub(crate) struct Entry(u32);

/// The slave's side. Where no guardian could be started, it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Guardian {
    list: Option<OwnedFd>,
    /// Closed by our end, whatever that is.
    _alive: Option<OwnedFd>,
    free: Vec<u32>,
    len: u32,
}

impl Guardian {
    /// Starts the guardian. Programs run without one where that fails: they still get a hangup
    /// of their own from the kernel when the slave dies.
    pub(crate) fn start() -> Guardian {
        Guardian::try_start().unwrap_or_default()
    }

    fn try_start() -> io::Result<Guardian> {
        let list = rustix::fs::memfd_create("sessions", MemfdFlags::CLOEXEC)?;
        let (gone, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        if sys::fork()?.is_some() {
            return Ok(Guardian {
                list: Some(list),
                _alive: Some(alive),
                free: Vec::new(),
                len: 0,
            });
        }
        drop(alive);
        guard(&gone, &list);
        std::process::exit(0)
    }

    /// Puts a session on the list, by its leader.
    pub(crate) fn add(&mut self, leader: Pid) -> Entry {
        let entry = self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len - 1
        });
        self.write(entry, leader.as_raw_nonzero().get());
        Entry(entry)
    }

    /// Takes it off.
    pub(crate) fn remove(&mut self, Entry(entry): Entry) {
        self.write(entry, 0);
        self.free.push(entry);
    }

    fn write(&self, entry: u32, pid: i32) {
        if let Some(list) = &self.list {
            let _ = rustix::io::pwrite(list, &pid.to_ne_bytes(), u64::from(entry) * ENTRY as u64);
        }
    }
}

/// Waits until the slave is gone, and ends what is on the list.
fn guard(gone: &OwnedFd, list: &OwnedFd) {
    // A descriptor of the link that stayed open here would keep it from ending.
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    let _ = rustix::process::setsid();
    while let Err(rustix::io::Errno::INTR) = rustix::io::read(gone, &mut [0; 1]) {}
    let leaders = read(list);
    if leaders.is_empty() {
        return;
    }
    // The leaders may be reaped by now. Their numbers are nobody else's while their sessions have
    // members, and only members are told.
    members::signal(&leaders, Whom::All, &[Signal::HUP, Signal::CONT]);
    let due = Instant::now() + GRACE;
    while members::any_runs(&leaders) {
        if Instant::now() >= due {
            return members::signal(&leaders, Whom::All, &[Signal::KILL]);
        }
        std::thread::sleep(LOOK);
    }
}

/// The leaders on the list.
fn read(list: &OwnedFd) -> HashSet<Pid> {
    let mut leaders = HashSet::new();
    let mut entry = [0; ENTRY];
    for place in 0.. {
        match rustix::io::pread(list, &mut entry, place * ENTRY as u64) {
            Ok(ENTRY) => leaders.extend(Pid::from_raw(i32::from_ne_bytes(entry))),
            _ => break,
        }
    }
    leaders
}
