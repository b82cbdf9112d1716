//! A gate that a remote program waits at until the test opens it: an event, where a test would
//! otherwise have to sleep.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::Lab;
use crate::wait::GUARD;

/// A FIFO on the target. A program that reads it blocks until the gate is opened, reads what came
/// through, and then the end.
#[derive(Debug)]
pub struct Gate(PathBuf);

impl Gate {
    /// A closed gate.
    pub fn new(lab: &Lab) -> Gate {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = lab.remote_dir().join(format!("gate{number}"));
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("making a FIFO");
        lab.account().give(&path);
        Gate(path)
    }

    /// Its path, which holds nothing that a shell would take for anything else.
    pub fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// Lets the program that waits, now or later, read this text and go on. Returns at once.
    pub fn open(&self, text: &str) {
        let (path, text) = (self.0.clone(), text.to_owned());
        // Opening waits for a reader; if none comes, the test's own guard says so.
        std::thread::spawn(move || _ = fs::write(path, text));
    }

    /// The other way round: waits for a program that writes to the gate, and gives what it wrote.
    ///
    /// # Panics
    /// After a minute.
    #[track_caller]
    pub fn read(&self) -> String {
        let (sender, receiver) = channel();
        let path = self.0.clone();
        std::thread::spawn(move || _ = sender.send(fs::read_to_string(path)));
        let read = receiver.recv_timeout(GUARD).expect("nobody wrote to the gate");
        read.expect("reading the gate")
    }
}
