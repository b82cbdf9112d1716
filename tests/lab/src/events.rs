//! What a master writes down while it runs: its log, and the audit log.

use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::Lab;
use crate::wait::GUARD;

impl Lab {
    /// The master's log.
    pub fn master_log(&self) -> PathBuf {
        self.fakessh_dir().join("log")
    }

    /// The audit log, if the configuration does not say another place.
    pub fn audit_log(&self) -> PathBuf {
        self.dir().join("user/.local/state/fakessh/audit.jsonl")
    }

    /// Waits until the master has logged a line with all these words, and gives it.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn wait_for_log(&self, words: &[&str]) -> String {
        wait_for_line(&self.master_log(), |line| words.iter().all(|word| line.contains(word)))
    }

    /// Waits until the audit log has an event of this kind with all these fields, and gives it.
    ///
    /// # Panics
    /// If none comes, or the log holds something else than JSON.
    #[track_caller]
    pub fn wait_for_event(&self, kind: &str, fields: &[(&str, &str)]) -> serde_json::Value {
        let read = |line: &str| -> serde_json::Value {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        let line = wait_for_line(&self.audit_log(), |line| {
            let event = read(line);
            event["event"] == kind && fields.iter().all(|(name, value)| event[name] == *value)
        });
        read(&line)
    }
}

/// Waits for a whole line of a growing file.
#[track_caller]
fn wait_for_line(file: &Path, is_it: impl Fn(&str) -> bool) -> String {
    let changes = inotify::init(CreateFlags::CLOEXEC).expect("inotify");
    let directory = file.parent().expect("a file in a directory");
    std::fs::create_dir_all(directory).expect("the directory of a log");
    // Before the look, so that no line is missed.
    let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    inotify::add_watch(&changes, directory, what).expect("watching a log");
    let limit = Timespec::try_from(GUARD).expect("a duration that poll can take");
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if let Some(line) = whole.lines().find(|line| is_it(line)) {
            return line.to_owned();
        }
        let ready = poll(&mut [PollFd::new(&changes, PollFlags::IN)], Some(&limit));
        assert!(ready.unwrap_or(0) > 0, "no such line in {}:\n{text}", file.display());
        rustix::io::read(&changes, &mut [0; 4096]).expect("reading what has changed");
    }
}
