//! Nothing is left behind, also after `kill -9` of the slave: a second process waits for that,
//! with a list of the sessions there are and one of run directories, ends what they started, and
//! removes them.
//!
//! It is forked and shares nothing but those lists and a pipe. It sleeps in one read until the slave
//! is gone; keeping the lists wakes nobody. Should it be killed, another takes its place. The first
//! one also removes what starts have left that were killed.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use crate::cleanup::kill_queue::GRACE;
use crate::cleanup::process_tree::{self, Whom};
use crate::cleanup::sweep::sweep;
use crate::poll::{Interest, Poll, Token, Watched};
use crate::program::launcher;
use crate::sys;

/// Bytes of an entry of the list of sessions: a process number, 0 where there is none.
const SESSION: usize = 4;

/// Bytes of an entry of the list of directories: a path, and zeros. One that is longer could not
/// hold a socket (unix(7)).
const DIRECTORY: usize = 108;

/// How often to look whether all are gone, once the slave is.
const LOOK: Duration = Duration::from_millis(100);

/// How long a watchdog has to live before another takes its place at once. So one that can't live
/// here costs a fork a second.
const RESTART: Duration = Duration::from_secs(1);

/// A session's place in its list.
#[derive(Debug)]
pub(crate) struct Entry(u32);

/// A directory's place in its list.
#[derive(Debug)]
pub(crate) struct Left(u32);

/// The slave's side. Where no watchdog could be started, it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    sessions: List<SESSION>,
    directories: List<DIRECTORY>,
    process: Option<Process>,
    /// When another one is to be started.
    due: Option<Instant>,
}

/// The process that waits.
#[derive(Debug)]
struct Process {
    pid: Pid,
    started: Instant,
    /// Becomes readable when it ends. `None` before it is watched, and where the kernel has no such
    /// thing.
    end: Option<Watched>,
    /// Closed by our end, whatever that is.
    _alive: OwnedFd,
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
}

/// The entries of the list in a file.
fn entries<const LEN: usize>(file: BorrowedFd<'_>) -> Vec<[u8; LEN]> {
    let mut all = Vec::new();
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

impl Watchdog {
    /// Starts the watchdog, which looks for remains of other starts in `place`. Programs run
    /// without one where that fails: they still get a hangup of their own from the kernel when the
    /// slave dies.
    pub(crate) fn start(place: Option<&Path>) -> Watchdog {
        let lists =
            List::new("sessions").and_then(|sessions| Ok((sessions, List::new("directories")?)));
        let Ok((sessions, directories)) = lists else { return Watchdog::default() };
        let mut watchdog = Watchdog { sessions, directories, process: None, due: None };
        watchdog.launch(place);
        watchdog
    }

    /// Forks the process, or tries again later.
    fn launch(&mut self, place: Option<&Path>) {
        let launched = self.try_launch(place);
        self.due = launched.is_err().then(|| Instant::now() + RESTART);
        self.process = launched.ok();
    }

    fn try_launch(&self, place: Option<&Path>) -> io::Result<Process> {
        let (gone, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        if let Some(pid) = sys::fork()? {
            return Ok(Process { pid, started: Instant::now(), end: None, _alive: alive });
        }
        let lists = [&self.sessions.file, &self.directories.file];
        if let [Some(sessions), Some(directories)] = lists
            && rustix::stdio::dup2_stdin(&gone).is_ok()
            && rustix::stdio::dup2_stdout(sessions).is_ok()
            && rustix::stdio::dup2_stderr(directories).is_ok()
        {
            // A descriptor of the link that stayed open here would keep it from ending.
            sys::close_from(3);
            place.into_iter().for_each(sweep);
            guard();
        }
        std::process::exit(0)
    }

    /// Is told from here on when the process ends.
    pub(crate) fn watch(&mut self, poll: &Poll) {
        let Some(process) = &mut self.process else { return };
        if let Ok(Some(end)) = launcher::watch_for_end(process.pid) {
            let mut end = Watched::new(end, Token::Watchdog);
            process.end = end.watch(poll, Interest::Read).is_ok().then_some(end);
        }
    }

    /// When another process is to be started.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due
    }

    /// Looks whether the process has ended.
    pub(crate) fn note_end(&mut self) {
        if let Some(Process { pid, started, .. }) = self.process
            && launcher::look_for_end(pid).is_some()
        {
            launcher::reap(pid);
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
        std::thread::sleep(LOOK);
    }
}
