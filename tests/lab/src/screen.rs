//! What a person sees and types at a terminal, looked at as it comes.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{Winsize, tcgetpgrp, tcsetwinsize};

use crate::process::Process;
use crate::wait::GUARD;

/// The person's side of a terminal: see [`crate::terminal::pair`].
#[derive(Debug)]
pub struct Screen {
    master: File,
    /// What was shown and not yet looked for.
    unseen: String,
}

impl Screen {
    /// A screen on which nothing was shown yet.
    pub fn new(master: File) -> Screen {
        Screen { master, unseen: String::new() }
    }

    /// Types this.
    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("typing on a terminal");
    }

    /// Makes the terminal so many columns wide, and rows high.
    ///
    /// # Panics
    /// If it is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("the size of a terminal");
    }

    /// The job in the foreground: the leader of its process group.
    ///
    /// # Panics
    /// If there is none.
    pub fn job(&self) -> Process {
        let group = tcgetpgrp(&self.master).expect("the terminal's process group");
        let leader = u32::try_from(group.as_raw_nonzero().get()).expect("a positive number");
        Process::open(leader).expect("the leader of a job")
    }

    /// Waits until this is shown; gives what was shown up to it and with it.
    ///
    /// # Panics
    /// After a minute.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> String {
        self.shows_one_of(&[text]).1
    }

    /// Waits until one of these is shown; gives its place among them, and what was shown up to it
    /// and with it.
    ///
    /// # Panics
    /// After a minute.
    #[track_caller]
    pub fn shows_one_of(&mut self, texts: &[&str]) -> (usize, String) {
        let begin = Instant::now();
        loop {
            let found = texts.iter().enumerate();
            let found = found.filter_map(|(place, text)| Some((self.unseen.find(text)?, place)));
            if let Some((at, place)) = found.min() {
                let rest = self.unseen.split_off(at + texts[place].len());
                return (place, std::mem::replace(&mut self.unseen, rest));
            }
            let left = GUARD.saturating_sub(begin.elapsed());
            let timeout = Timespec::try_from(left).expect("a duration that poll can take");
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&timeout)).unwrap_or(0);
            assert!(ready > 0, "none of {texts:?} is shown in {:?}", self.unseen);
            let mut buffer = [0; 1024];
            let read = self.master.read(&mut buffer);
            let read = read.unwrap_or_else(|error| {
                panic!("{error}: none of {texts:?} is shown in {:?}", self.unseen)
            });
            self.unseen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }
}
