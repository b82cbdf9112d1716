//! What is there of a lab's processes and files while it runs, and what must not be left.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::lab::{ENDING, listing};
use crate::leftovers::{self, Process};
use crate::namespaces::Namespaces;
use crate::server::Server;
use crate::{Lab, privilege};

/// Where slaves put their directories in a root: the usual places, and the homes of the accounts
/// of [`crate::root`].
const PLACES_IN_ROOTS: [&str; 5] = ["tmp", "dev/shm", "var/tmp", "root", "srv"];

impl Lab {
    /// The server's processes that serve connections, and all that they started.
    pub fn server_processes(&self) -> Vec<Process> {
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map_or_else(Vec::new, |server| leftovers::descendants(server.pid()))
    }

    /// Kills the server's processes that serve connections, but not the one that listens: what a
    /// crash or an administrator does to sessions.
    pub fn kill_connections(&self) {
        for process in self.server_processes() {
            if process.command.starts_with("sshd") {
                process.kill();
            }
        }
    }

    /// The accounts' processes, those with the lab's mark, and those in its containers and its
    /// mount namespace; not the server, the engines and what the lab started in containers.
    pub fn processes(&self) -> Vec<Process> {
        let mut uids: Vec<u32> = self.0.others.iter().map(|account| account.uid).collect();
        if privilege::is_root() {
            uids.push(self.account().uid);
        }
        let containers = self.0.containers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut own: Vec<u32> = containers.iter().map(|process| process.pid).collect();
        let holder = self.0.mounts.as_ref().map(Namespaces::pid);
        let inside = own.iter().chain(&holder).filter_map(|&pid| leftovers::mount_namespace(pid));
        let inside: Vec<u64> = inside.collect();
        own.extend(holder);
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner);
        own.extend(server.as_ref().map(Server::pid));
        let engines = ["docker", "lxc", "container"].map(|name| self.dir().join(name));
        let is_engine = |process: &Process| {
            engines.iter().any(|dir| process.command.contains(&*dir.to_string_lossy()))
        };
        let mut found = leftovers::processes(self.mark(), &uids, &inside);
        found.retain(|process| !own.contains(&process.pid) && !is_engine(process));
        found
    }

    /// Ends the master, and then holds that no process and no file is left on either side but the
    /// lab's own: what a user expects after `fakessh stop`.
    ///
    /// # Panics
    /// Where something is left.
    #[track_caller]
    pub fn expect_nothing_left(&self) {
        self.fakessh(["stop"]).run();
        self.expect_no_processes();
        let mut on_target = Vec::new();
        if privilege::is_root() {
            for account in std::iter::once(self.account()).chain(&self.0.others) {
                on_target.extend(account.temporary_files());
            }
        }
        let own_etc = self.dir().join("etc").exists();
        for place in crate::etc::PRIVATE_PLACES.iter().filter(|_| own_etc) {
            let names = listing(&self.seen_by_target(place));
            on_target.extend(names.iter().map(|name| Path::new(place).join(name)));
        }
        on_target.extend(self.left_in_roots());
        assert!(on_target.is_empty(), "left on the target: {on_target:?}");
        let mut on_client = listing(&self.dir().join("tmp"));
        on_client.extend(listing(&self.runtime_dir()));
        on_client.extend(self.run_directories());
        on_client.extend(listing(&self.fakessh_dir()).into_iter().filter(|it| it == "control"));
        assert!(on_client.is_empty(), "left on the client's side: {on_client:?}");
    }

    /// Directories of ours in the roots of the lab: of containers that run, and those that were
    /// made in the lab's directory.
    fn left_in_roots(&self) -> Vec<PathBuf> {
        let containers = self.0.containers.lock().unwrap_or_else(PoisonError::into_inner);
        // The number of one that has ended may be another's by now.
        let running = containers.iter().filter(|process| !process.wait(Duration::ZERO));
        let mut roots: Vec<PathBuf> =
            running.map(|process| format!("/proc/{}/root", process.pid).into()).collect();
        let made = listing(self.dir()).into_iter().map(|name| self.dir().join(name));
        roots.extend(made.map(|root| self.seen_by_target(&root.to_string_lossy())));
        let places = roots.iter().flat_map(|root| PLACES_IN_ROOTS.map(|place| root.join(place)));
        let found = places.flat_map(|place| {
            let names = listing(&place).into_iter().filter(|name| name.contains("fakessh-"));
            names.map(move |name| place.join(name))
        });
        found.collect()
    }

    /// The names of the run directories that are there.
    pub fn run_directories(&self) -> Vec<String> {
        let mut names = listing(&self.fakessh_dir());
        names.retain(|name| name.starts_with("run-"));
        names
    }

    /// Waits until the last run directory is gone: the master removes one when the last process
    /// that held its run has ended.
    ///
    /// # Panics
    /// Where one stays.
    #[track_caller]
    pub fn expect_no_run_directories(&self) {
        let changes = inotify::init(CreateFlags::CLOEXEC).expect("inotify");
        // Before the look, so that no removal is missed.
        let watched = inotify::add_watch(&changes, self.fakessh_dir(), WatchFlags::DELETE);
        watched.expect("watching the directory of fakessh");
        let limit = Timespec::try_from(ENDING).expect("a duration that poll can take");
        while !self.run_directories().is_empty() {
            let ready = poll(&mut [PollFd::new(&changes, PollFlags::IN)], Some(&limit));
            assert!(ready.unwrap_or(0) > 0, "still there: {:?}", self.run_directories());
            rustix::io::read(&changes, &mut [0; 4096]).expect("reading what was removed");
        }
    }

    /// The master's process.
    ///
    /// # Panics
    /// Where there is none, or more than one.
    #[track_caller]
    pub fn master(&self) -> Process {
        let mut masters = self.processes();
        masters.retain(|process| process.command.contains("/fakessh master"));
        assert_eq!(masters.len(), 1, "not one master: {masters:?}");
        masters.remove(0)
    }

    /// The slaves on the target, and the processes that watch over them.
    pub fn slaves(&self) -> Vec<Process> {
        let mut slaves = self.processes();
        slaves.retain(|process| {
            let program = process.command.split(' ').next().unwrap_or_default();
            program.contains("/.fakessh-")
        });
        slaves
    }

    /// Waits for the end of the server's connections and of all that they started.
    ///
    /// # Panics
    /// Where one does not end.
    #[track_caller]
    pub fn expect_no_sessions(&self) {
        for process in self.server_processes() {
            let ended = process.wait(ENDING);
            assert!(ended, "still there: {} {}", process.pid, process.command);
        }
    }

    /// Waits for the end of all processes of the lab but its server.
    ///
    /// # Panics
    /// Where one does not end.
    #[track_caller]
    pub fn expect_no_processes(&self) {
        for process in self.processes() {
            let ended = process.wait(ENDING);
            assert!(ended, "still there: {} {}", process.pid, process.command);
        }
    }
}
