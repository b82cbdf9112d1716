//! A terminal with a shell on it, as a person sits before one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::tcgetpgrp;

use crate::process::Process;
use crate::wait::GUARD;
use crate::{Lab, Running, terminal};

/// A terminal and the shell that leads its session, with job control.
#[derive(Debug)]
pub struct Shell {
    master: File,
    /// What was shown and not yet looked for.
    unseen: String,
    /// Dropped after the terminal, which hangs up on it.
    bash: Running,
}

impl Shell {
    /// Starts bash on a new terminal, in the environment of the lab's user. Its prompt is `$ `.
    pub fn start(lab: &Lab) -> Shell {
        let (master, program_side) = terminal::pair();
        let give = || -> OwnedFd { program_side.try_clone().unwrap().into() };
        // The terminal becomes the controlling one of a session that bash leads.
        let words = ["setsid", "-w", "-c", "bash", "--norc", "--noprofile", "--noediting", "-i"];
        let bash = lab.program(words).env("PS1", "$ ").env("TERM", "xterm");
        let bash = bash.stdin(give()).stdout(give()).stderr(give()).start();
        let mut shell = Shell { master, unseen: String::new(), bash };
        shell.shows("$ ");
        shell
    }

    /// Types this.
    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("typing on a terminal");
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

    /// Ends the shell, and waits for it.
    pub fn exit(mut self) {
        self.types("exit\n");
        self.bash.wait();
    }
}
