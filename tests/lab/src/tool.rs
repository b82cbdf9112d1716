//! A program started in a lab as a user would start it.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Terminal;
use crate::running::{Finished, Input, Running};
use crate::wait::GUARD;

/// The `PATH` that everything in a lab starts with. No directory of the caller's home is in it:
/// the lab's account could not use it.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to be started, with its standard streams. Standard output and error are captured
/// unless they are given away.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    words: Vec<OsString>,
    /// What starts it: `nsenter` with its options, or nothing.
    before: Vec<OsString>,
    on_terminal: bool,
    input: Input,
    output_taken: bool,
    error_taken: bool,
    guard: Duration,
}

impl Tool {
    /// A program and its arguments, in a clean environment with [`PATH`].
    ///
    /// # Panics
    /// Without a first word.
    pub fn new(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Tool {
        let words: Vec<OsString> = words.into_iter().map(|word| word.as_ref().into()).collect();
        assert!(!words.is_empty(), "a tool has at least its name");
        // A session of its own, so that nothing asks whoever runs the tests, on their terminal.
        let mut command = Command::new("setsid");
        command.env_clear().env("PATH", PATH);
        Tool {
            command,
            words,
            before: Vec::new(),
            on_terminal: false,
            input: Input::Null,
            output_taken: false,
            error_taken: false,
            guard: GUARD,
        }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Tool {
        self.command.env(name, value);
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Tool {
        self.command.env_remove(name);
        self
    }

    /// Starts it in this directory.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Tool {
        self.command.current_dir(directory);
        self
    }

    /// Gives it these bytes to read, and then the end.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Tool {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Leaves its standard input open for [`Running::write`] and [`Running::close_stdin`].
    #[must_use]
    pub fn input_open(mut self) -> Tool {
        self.input = Input::Open;
        self
    }

    /// Gives it this descriptor as standard input.
    #[must_use]
    pub fn stdin(mut self, fd: impl Into<OwnedFd>) -> Tool {
        self.command.stdin(fd.into());
        self.input = Input::Given;
        self
    }

    /// Gives it this descriptor as standard output; nothing of it is captured.
    #[must_use]
    pub fn stdout(mut self, fd: impl Into<OwnedFd>) -> Tool {
        self.command.stdout(fd.into());
        self.output_taken = true;
        self
    }

    /// Gives it this descriptor as standard error; nothing of it is captured.
    #[must_use]
    pub fn stderr(mut self, fd: impl Into<OwnedFd>) -> Tool {
        self.command.stderr(fd.into());
        self.error_taken = true;
        self
    }

    /// Starts it on this terminal, which is its controlling one and its standard input. Standard
    /// output and error are captured as otherwise.
    #[must_use]
    pub fn on_terminal(mut self, terminal: &Terminal) -> Tool {
        self.on_terminal = true;
        self.stdin(terminal.side_of_programs())
    }

    /// Starts it where this option of `nsenter(1)` leads.
    #[must_use]
    pub(crate) fn entering(mut self, option: &str) -> Tool {
        self.before = ["nsenter", option, "--"].map(OsString::from).to_vec();
        self
    }

    /// Kills it, and fails the test, after this time instead of [`GUARD`].
    #[must_use]
    pub fn guard(mut self, guard: Duration) -> Tool {
        self.guard = guard;
        self
    }

    /// Starts it, as the leader of a session of its own, without a terminal unless it was given one.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(mut self) -> Running {
        if self.on_terminal {
            self.command.arg("--ctty");
        }
        self.command.args(&self.before).args(&self.words);
        match self.input {
            Input::Null => _ = self.command.stdin(Stdio::null()),
            Input::Bytes(_) | Input::Open => _ = self.command.stdin(Stdio::piped()),
            Input::Given => {}
        }
        if !self.output_taken {
            self.command.stdout(Stdio::piped());
        }
        if !self.error_taken {
            self.command.stderr(Stdio::piped());
        }
        let child = self.command.spawn();
        let child = child.unwrap_or_else(|error| panic!("starting {:?}: {error}", self.words));
        // The command keeps what was given away open, and with it a pipe that should end.
        drop(self.command);
        Running::new(child, self.words, self.input, self.guard)
    }

    /// Starts it and waits for its end.
    pub fn run(self) -> Finished {
        self.start().finish()
    }
}
