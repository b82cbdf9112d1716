//! Processes, found through `/proc` and held by a descriptor.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::wait::wait_until;

/// A process, held so that its number can't come to mean another one.
#[derive(Debug)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its command line, words joined by spaces, as it was when it was found.
    pub command: String,
    fd: OwnedFd,
}

impl Process {
    /// The process of this id; `None` if there is none.
    pub fn open(pid: u32) -> Option<Process> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let fd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        let command = command(pid)?;
        Some(Process { pid, command, fd })
    }

    /// Its command line as it is now; empty if it is gone.
    pub fn command_now(&self) -> String {
        command(self.pid).unwrap_or_default()
    }

    /// The process that started it, unless that has ended.
    pub fn parent(&self) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // Behind the name in parentheses, which may hold anything: state, then the parent.
        let (_, fields) = stat.rsplit_once(") ")?;
        Process::open(fields.split(' ').nth(1)?.parse().ok()?)
    }

    /// Its state as ps(1) shows it: `R`, `S`, `T`; `X` if it is gone.
    pub fn state(&self) -> char {
        state(self.pid).unwrap_or('X')
    }

    /// Waits until all its threads sleep at one moment: it has dealt with all that came to it.
    ///
    /// # Panics
    /// After a minute.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        let mut before = None;
        let sleeps = || {
            // Threads are looked at one after another. Threads that slept in two rounds, and did
            // not run in between, slept all at the same time.
            let now = self.sleeping_threads();
            let same = now.is_some() && now == before;
            before = now;
            same
        };
        wait_until(sleeps, "a process that should wait is busy");
    }

    /// What is known of each thread, with the number of times that it ran; `None` if one is awake.
    fn sleeping_threads(&self) -> Option<Vec<String>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?.flatten();
        let texts = tasks.map(|task| fs::read_to_string(task.path().join("status")).ok());
        let texts: Vec<String> = texts.collect::<Option<_>>()?;
        texts.iter().all(|text| text.contains("\nState:\tS")).then_some(texts)
    }

    /// A size in its `/proc/PID/status`, such as `VmRSS`, in KiB.
    ///
    /// # Panics
    /// If there is no such size, or no process any more.
    #[track_caller]
    pub fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.expect("a process to look at");
        let size = |line: &str| {
            line.strip_prefix(name)?.strip_prefix(':')?.strip_suffix(" kB")?.trim().parse().ok()
        };
        status.lines().find_map(size).expect("a size of a process")
    }

    /// Kills it with SIGKILL, if it is still there.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends it a signal, if it is still there.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.fd, signal);
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits until it has ended; false if it still runs after this time.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).expect("a duration that poll can take");
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("waiting for process {}: {error}", self.pid),
            }
        }
    }
}

/// The state of the process of this id, as ps(1) shows it; `None` if there is none.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.rsplit_once(") ")?.1.chars().next()
}

fn command(pid: u32) -> Option<String> {
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&words).replace('\0', " ").trim().to_owned())
}

/// All processes that descend from this one, without it, parents before their children: who kills
/// them in this order lets none see the end of another that it started.
pub fn descendants(pid: u32) -> Vec<Process> {
    let mut found = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
            found.extend(Process::open(child));
            found.extend(descendants(child));
        }
    }
    found
}

/// The processes whose environment or command line, as they were started with, holds this mark,
/// those of these users, and those in these mount namespaces. Zombies and this process are left out.
pub fn find(mark: &str, uids: &[u32], mounts: &[u64]) -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("reading /proc");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != std::process::id())
        .filter(|&pid| {
            is_marked(pid, mark)
                || uids.iter().any(|&uid| is_of_user(pid, uid))
                || mount_namespace(pid).is_some_and(|inode| mounts.contains(&inode))
        })
        .filter_map(Process::open)
        .filter(|process| !process.command.is_empty())
        .collect()
}

/// The number of the mount namespace that a process lives in.
pub fn mount_namespace(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/mnt")).ok().map(|metadata| metadata.ino())
}

fn is_marked(pid: u32, mark: &str) -> bool {
    let holds = |name: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    holds("environ") || holds("cmdline")
}

fn is_of_user(pid: u32, uid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok_and(|metadata| metadata.uid() == uid)
}
