//! Nothing is left behind, also after `kill -9` of the slave: a second process waits for that,
//! with a list of the sessions there are and one of run directories, ends what they started, and
//! removes them.
//!
//! It is forked before anything is opened and shares nothing but those lists and a pipe. It sleeps
//! in one read until the slave is gone; keeping the lists wakes nobody.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use crate::end::GRACE;
use crate::members::{self, Whom};
use crate::sys;

/// Bytes of an entry of the list of sessions: a process number, 0 where there is none.
const SESSION: usize = 4;

/// Bytes of an entry of the list of directories: a path, and zeros. One that is longer could not
/// hold a socket (unix(7)).
const DIRECTORY: usize = 108;

/// How often to look whether all are gone, once the slave is.
const LOOK: Duration = Duration::from_millis(100);

/// A session's place in its list.
#[derive(Debug)]
pub(crate) struct Entry(u32);

/// A directory's place in its list.
#[derive(Debug)]
pub(crate) struct Left(u32);

/// The slave's side. Where no guardian could be started, it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Guardian {
    sessions: List<SESSION>,
    directories: List<DIRECTORY>,
    /// Closed by our end, whatever that is.
    _alive: Option<OwnedFd>,
}

/// Entries of one length in a memory file.
#[derive(Debug, Default)]
struct List<const LEN: usize> {
    file: Option<OwnedFd>,
    free: Vec<u32>,
    len: u32,
}

impl<const LEN: usize> List<LEN> {
    fn new(name: &str) -> io::Result<List<LEN>> {
        let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
        Ok(List { file: Some(file), free: Vec::new(), len: 0 })
    }

    fn add(&mut self, value: [u8; LEN]) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len - 1
        });
        self.write(place, value);
        place
    }

    fn remove(&mut self, place: u32) {
        self.write(place, [0; LEN]);
        self.free.push(place);
    }

    fn write(&self, place: u32, value: [u8; LEN]) {
        if let Some(file) = &self.file {
            let _ = rustix::io::pwrite(file, &value, u64::from(place) * LEN as u64);
        }
    }

    fn read(&self) -> Vec<[u8; LEN]> {
        let mut all = Vec::new();
        let Some(file) = &self.file else { return all };
        let mut value = [0; LEN];
        for place in 0.. {
            match rustix::io::pread(file, &mut value, place * LEN as u64) {
                Ok(len) if len == LEN => all.push(value),
                _ => break,
            }
        }
        all.retain(|value| *value != [0; LEN]);
        all
    }
}

impl Guardian {
    /// Starts the guardian. Programs run without one where that fails: they still get a hangup
    /// of their own from the kernel when the slave dies.
    pub(crate) fn start() -> Guardian {
        Guardian::try_start().unwrap_or_default()
    }

    fn try_start() -> io::Result<Guardian> {
        let sessions = List::new("sessions")?;
        let directories = List::new("directories")?;
        let (gone, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        if sys::fork()?.is_some() {
            return Ok(Guardian { sessions, directories, _alive: Some(alive) });
        }
        drop(alive);
        guard(&gone, &sessions, &directories);
        std::process::exit(0)
    }

    /// Puts a session on the list, by its leader.
    pub(crate) fn add(&mut self, leader: Pid) -> Entry {
        Entry(self.sessions.add(leader.as_raw_nonzero().get().to_ne_bytes()))
    }

    /// Takes it off.
    pub(crate) fn remove(&mut self, Entry(place): Entry) {
        self.sessions.remove(place);
    }

    /// Puts a directory on the list that is ours with all that is in it.
    pub(crate) fn add_directory(&mut self, path: &Path) -> Left {
        let mut value = [0; DIRECTORY];
        let path = path.as_os_str().as_bytes();
        // A longer one is not used.
        if path.len() < DIRECTORY {
            value[..path.len()].copy_from_slice(path);
        }
        Left(self.directories.add(value))
    }

    /// Takes it off: it is gone.
    pub(crate) fn remove_directory(&mut self, Left(place): Left) {
        self.directories.remove(place);
    }
}

/// Waits until the slave is gone, and ends what is on the lists.
fn guard(gone: &OwnedFd, sessions: &List<SESSION>, directories: &List<DIRECTORY>) {
    // A descriptor of the link that stayed open here would keep it from ending.
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    let _ = rustix::process::setsid();
    while let Err(rustix::io::Errno::INTR) = rustix::io::read(gone, &mut [0; 1]) {}
    for path in directories.read() {
        let len = path.iter().position(|&byte| byte == 0).unwrap_or(DIRECTORY);
        let _ = std::fs::remove_dir_all(OsStr::from_bytes(&path[..len]));
    }
    let leaders: HashSet<Pid> = sessions
        .read()
        .into_iter()
        .filter_map(|pid| Pid::from_raw(i32::from_ne_bytes(pid)))
        .collect();
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
