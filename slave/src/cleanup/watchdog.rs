//! Sees to it that nothing is left behind, also after `kill -9` of the slave.
//!
//! The watchdog is a second process. It has a list of the sessions and one of the run directories;
//! when the slave is gone, it ends the programs and removes the directories. It is forked, shares
//! nothing with the slave but those lists and a pipe, and sleeps in one read until the slave is
//! gone: keeping the lists wakes nobody. If it is killed, another takes its place. The first one
//! also removes the directories that killed starts have left.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use super::process_tree::{self, GRACE, Whom};
use super::sweep::sweep;
use crate::child;
use crate::poll::{Interest, Poll, Token, Watched};
use crate::sys;

/// Bytes of a slot in the list of sessions: a process number, or 0.
const SESSION: usize = 4;

/// Bytes of a slot in the list of directories: a path, and zeros. A directory with a longer path
/// could not hold a socket (unix(7)).
const DIRECTORY: usize = 108;

/// How often to check whether all programs are gone, after the slave is.
const TICK: Duration = Duration::from_millis(100);

/// Least time between two starts of a watchdog. So a watchdog that can't live here costs a fork a
/// second.
const RESTART: Duration = Duration::from_secs(1);

/// A session's slot in its list.
#[derive(Debug)]
pub(crate) struct SessionSlot(u32);

/// A directory's slot in its list. When dropped, it takes the directory off the list.
#[derive(Debug)]
pub(crate) struct DirectorySlot {
    list: Rc<RefCell<List<DIRECTORY>>>,
    slot: u32,
}

impl Drop for DirectorySlot {
    fn drop(&mut self) {
        self.list.borrow_mut().remove(self.slot);
    }
}

/// The slave's side of the watchdog. If no watchdog could be started, it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    sessions: List<SESSION>,
    directories: Rc<RefCell<List<DIRECTORY>>>,
    process: Option<Process>,
    /// When the next watchdog is to be started.
    due: Option<Instant>,
}

/// The watchdog's process.
#[derive(Debug)]
struct Process {
    pid: Pid,
    started: Instant,
    /// Becomes readable when the process ends. `None` before that is watched, and on kernels
    /// without pidfds.
    end: Option<Watched>,
    /// The kernel closes it when the slave ends, however that happens.
    _alive: OwnedFd,
}

/// Slots of one length in a memory file.
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
        let slot = self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len - 1
        });
        self.write(slot, value);
        slot
    }

    fn remove(&mut self, slot: u32) {
        self.write(slot, [0; LEN]);
        self.free.push(slot);
    }

    fn write(&self, slot: u32, value: [u8; LEN]) {
        if let Some(file) = &self.file {
            let _ = rustix::io::pwrite(file, &value, u64::from(slot) * LEN as u64);
        }
    }
}

/// The used slots of the list in a file.
fn entries<const LEN: usize>(file: BorrowedFd<'_>) -> Vec<[u8; LEN]> {
    let mut all = Vec::new();
    let mut value = [0; LEN];
    for slot in 0.. {
        match rustix::io::pread(file, &mut value, slot * LEN as u64) {
            Ok(len) if len == LEN => all.push(value),
            _ => break,
        }
    }
    all.retain(|value| *value != [0; LEN]);
    all
}

impl Watchdog {
    /// Starts the watchdog, which also removes what killed starts have left in the directory
    /// `starts`. If it can't be started, programs run without one: they still get a hangup from the
    /// kernel when the slave dies.
    pub(crate) fn start(starts: Option<&Path>) -> Watchdog {
        let lists =
            List::new("sessions").and_then(|sessions| Ok((sessions, List::new("directories")?)));
        let Ok((sessions, directories)) = lists else { return Watchdog::default() };
        let directories = Rc::new(RefCell::new(directories));
        let mut watchdog = Watchdog { sessions, directories, process: None, due: None };
        watchdog.launch(starts);
        watchdog
    }

    /// Forks the process, or tries again later.
    fn launch(&mut self, starts: Option<&Path>) {
        let launched = self.try_launch(starts);
        self.due = launched.is_err().then(|| Instant::now() + RESTART);
        self.process = launched.ok();
    }

    fn try_launch(&self, starts: Option<&Path>) -> io::Result<Process> {
        let (gone, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        if let Some(pid) = sys::fork()? {
            return Ok(Process { pid, started: Instant::now(), end: None, _alive: alive });
        }
        if let (Some(sessions), Some(directories)) =
            (&self.sessions.file, &self.directories.borrow().file)
            && rustix::stdio::dup2_stdin(&gone).is_ok()
            && rustix::stdio::dup2_stdout(sessions).is_ok()
            && rustix::stdio::dup2_stderr(directories).is_ok()
        {
            // A descriptor of the link that stayed open here would keep it from ending.
            sys::close_from(3);
            starts.into_iter().for_each(sweep);
            guard();
        }
        std::process::exit(0)
    }

    /// Watches for the end of the process from here on.
    pub(crate) fn watch(&mut self, poll: &Poll) {
        let Some(process) = &mut self.process else { return };
        if let Ok(Some(end)) = child::pidfd(process.pid) {
            let mut end = Watched::new(end, Token::Watchdog);
            process.end = end.watch(poll, Interest::Read).is_ok().then_some(end);
        }
    }

    /// When the next process is to be started.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due
    }

    /// Notes the end of the process, if it has ended.
    pub(crate) fn note_end(&mut self) {
        if let Some(Process { pid, started, .. }) = self.process
            && child::exit_status(pid).is_some()
        {
            child::reap(pid);
            self.process = None;
            self.due = Some(started + RESTART);
        }
    }

    /// Starts another process, if it is time.
    pub(crate) fn replace(&mut self, now: Instant, poll: &Poll) {
        if self.due.is_some_and(|due| due <= now) {
            self.launch(None);
            self.watch(poll);
        }
    }

    /// Puts a session on the list, by its leader.
    pub(crate) fn add_session(&mut self, leader: Pid) -> SessionSlot {
        SessionSlot(self.sessions.add(leader.as_raw_nonzero().get().to_ne_bytes()))
    }

    /// Takes a session off the list.
    pub(crate) fn remove_session(&mut self, SessionSlot(slot): SessionSlot) {
        self.sessions.remove(slot);
    }

    /// Puts a directory on the list that is ours with all that is in it.
    pub(crate) fn add_directory(&mut self, path: &Path) -> DirectorySlot {
        let mut value = [0; DIRECTORY];
        let path = path.as_os_str().as_bytes();
        // A longer path is not used.
        if path.len() < DIRECTORY {
            value[..path.len()].copy_from_slice(path);
        }
        let slot = self.directories.borrow_mut().add(value);
        DirectorySlot { list: self.directories.clone(), slot }
    }
}

/// Waits until the slave is gone, and ends what is on the lists: the pipe and the lists are the
/// standard descriptors of this process.
fn guard() {
    let _ = rustix::process::setsid();
    let (gone, sessions) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let directories = rustix::stdio::stderr();
    while let Err(rustix::io::Errno::INTR) = rustix::io::read(gone, &mut [0; 1]) {}
    for path in entries::<DIRECTORY>(directories) {
        let len = path.iter().position(|&byte| byte == 0).unwrap_or(DIRECTORY);
        let _ = std::fs::remove_dir_all(OsStr::from_bytes(&path[..len]));
    }
    let leaders: HashSet<Pid> = entries::<SESSION>(sessions)
        .into_iter()
        .filter_map(|pid| Pid::from_raw(i32::from_ne_bytes(pid)))
        .collect();
    if leaders.is_empty() {
        return;
    }
    // The leaders may be reaped by now. Their numbers are nobody else's while their sessions have
    // members, and only members are told.
    process_tree::signal(&leaders, Whom::All, &[Signal::HUP, Signal::CONT]);
    let due = Instant::now() + GRACE;
    while process_tree::any_runs(&leaders) {
        if Instant::now() >= due {
            return process_tree::signal(&leaders, Whom::All, &[Signal::KILL]);
        }
        std::thread::sleep(TICK);
    }
}
