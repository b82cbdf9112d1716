//! What must not be left of a lab's processes and files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::files::listing;
use crate::wait::GUARD;
use crate::{Lab, privilege};

/// Where programs put temporary files.
const TEMPORARY: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run/user"];

/// Where slaves put their directories in a root: the usual places, and the homes of the accounts
/// of [`crate::root`].
const PLACES_IN_ROOTS: [&str; 5] = ["tmp", "dev/shm", "var/tmp", "root", "srv"];

impl Lab {
    /// Ends the master, and then holds that no process and no file is left on either side but the
    /// lab's own: what a user expects after `fakessh stop`.
    ///
    /// # Panics
    /// If something is left.
    #[track_caller]
    pub fn expect_nothing_left(&self) {
        self.fakessh(["stop"]).run();
        self.expect_no_processes();
        let mut on_target = self.temporary_files();
        on_target.extend(self.left_in_roots());
        assert!(on_target.is_empty(), "left on the target: {on_target:?}");
        let mut on_client = listing(&self.dir().join("tmp"));
        on_client.extend(listing(&self.runtime_dir()));
        on_client.extend(self.run_directories());
        on_client.extend(listing(&self.fakessh_dir()).into_iter().filter(|it| it == "control"));
        assert!(on_client.is_empty(), "left on the client's side: {on_client:?}");
    }

    /// What has come into the target's places for temporary files since the lab's start. In places
    /// that the lab shares with the machine, only its accounts' files count. User ids are given
    /// again: files of an earlier account with the same number were there before.
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        let mut files = self.all_temporary_files();
        let before = self.0.files_before.get().map_or(&[][..], |files| files);
        files.retain(|file| !before.contains(file));
        files
    }

    /// Notes what is there at the lab's start.
    pub(crate) fn note_files_before(&self) {
        _ = self.0.files_before.set(self.all_temporary_files());
    }

    fn all_temporary_files(&self) -> Vec<PathBuf> {
        let accounts = std::iter::once(self.account()).chain(&self.0.others);
        // Otherwise the account is that of the tests, and has files of its own.
        let uids: Vec<u32> =
            accounts.filter(|_| privilege::is_root()).map(|account| account.uid).collect();
        let mut files = Vec::new();
        for place in TEMPORARY {
            let seen = self.seen_by_target(place);
            let is_private = device(&seen) != device(Path::new(place));
            let paths = listing(&seen).into_iter().map(|name| seen.join(name));
            files.extend(paths.filter(|path| {
                is_private
                    || fs::symlink_metadata(path).is_ok_and(|file| uids.contains(&file.uid()))
            }));
        }
        files
    }

    /// Directories of ours in the roots of the lab: of containers that run, and those that were
    /// made in the lab's directory.
    fn left_in_roots(&self) -> Vec<PathBuf> {
        let running = self.0.containers.running().into_iter();
        let mut roots: Vec<PathBuf> =
            running.map(|pid| format!("/proc/{pid}/root").into()).collect();
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
    /// If one stays.
    #[track_caller]
    pub fn expect_no_run_directories(&self) {
        let changes = inotify::init(CreateFlags::CLOEXEC).expect("inotify");
        // Before the look, so that no removal is missed.
        let watched = inotify::add_watch(&changes, self.fakessh_dir(), WatchFlags::DELETE);
        watched.expect("watching the directory of fakessh");
        let limit = Timespec::try_from(GUARD).expect("a duration that poll can take");
        while !self.run_directories().is_empty() {
            let ready = poll(&mut [PollFd::new(&changes, PollFlags::IN)], Some(&limit));
            assert!(ready.unwrap_or(0) > 0, "still there: {:?}", self.run_directories());
            rustix::io::read(&changes, &mut [0; 4096]).expect("reading what was removed");
        }
    }

    /// Waits for the end of the server's connections and of all that they started.
    ///
    /// # Panics
    /// If one does not end.
    #[track_caller]
    pub fn expect_no_sessions(&self) {
        for process in self.server_processes() {
            let ended = process.wait(GUARD);
            assert!(ended, "still there: {} {}", process.pid, process.command);
        }
    }

    /// Waits for the end of all processes of the lab but its server.
    ///
    /// # Panics
    /// If one does not end.
    #[track_caller]
    pub fn expect_no_processes(&self) {
        for process in self.processes() {
            let ended = process.wait(GUARD);
            assert!(ended, "still there: {} {}", process.pid, process.command);
        }
    }
}

/// The file system that holds a directory: another one for the target than for us, if the lab has
/// mounted its own there.
fn device(directory: &Path) -> Option<u64> {
    fs::metadata(directory).ok().map(|metadata| metadata.dev())
}
