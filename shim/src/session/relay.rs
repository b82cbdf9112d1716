//! The input of a terminal, relayed into a pipe that the program reads.
//!
//! Only a process of the terminal's session may read it, and one in the background must be
//! stopped for trying: so the shim reads, blocking and without changing a flag of the terminal.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// Bytes read at once: the longest line that a terminal gives.
const LINE: usize = 4096;

/// What ended a wait.
pub(super) enum Wake {
    /// The master has something to say.
    Message,
    /// Input went on its way.
    Input,
    /// No more input will be relayed: the person ended it, or the program closed its side.
    Ended,
}

/// A terminal and the pipe that its input goes to.
pub(super) struct Relay {
    terminal: OwnedFd,
    pipe: OwnedFd,
    /// What was read and not yet written.
    pending: Vec<u8>,
}

impl Relay {
    /// Makes the pipe; returns the end that the program reads as well.
    pub(super) fn new(terminal: BorrowedFd<'_>) -> io::Result<(Relay, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // Our end is an open file description of our own: the reader's end stays blocking.
        rustix::fs::fcntl_setfl(&write, OFlags::NONBLOCK)?;
        let terminal = terminal.try_clone_to_owned()?;
        Ok((Relay { terminal, pipe: write, pending: Vec::new() }, read))
    }

    /// The terminal.
    pub(super) fn terminal(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }

    /// Waits for a message on `socket` or for input, and passes that on.
    pub(super) fn step(&mut self, socket: BorrowedFd<'_>) -> Wake {
        let idle = self.pending.is_empty();
        let (input, output) = if idle {
            (PollFlags::IN, PollFlags::empty())
        } else {
            (PollFlags::empty(), PollFlags::OUT)
        };
        // A terminal that hung up reports so whether asked or not; it is asked only when idle.
        let mut fds = [
            PollFd::new(&socket, PollFlags::IN),
            PollFd::new(&self.pipe, output),
            PollFd::new(&self.terminal, input),
        ];
        let count = if idle { 3 } else { 2 };
        if poll(&mut fds[..count], None).is_err() {
            return Wake::Input;
        }
        let [message, written, read] = fds.map(|fd| fd.revents());
        if !message.is_empty() {
            return Wake::Message;
        }
        if written.intersects(PollFlags::ERR) {
            return Wake::Ended;
        }
        if !written.is_empty() {
            return self.write();
        }
        if idle && !read.is_empty() {
            return self.read();
        }
        Wake::Input
    }

    fn read(&mut self) -> Wake {
        let mut buffer = [0; LINE];
        match rustix::io::read(&self.terminal, &mut buffer) {
            // The person typed the end of input; or the terminal is gone (EIO).
            Ok(0) => Wake::Ended,
            Ok(read) => {
                self.pending.extend_from_slice(&buffer[..read]);
                self.write()
            }
            Err(Errno::INTR | Errno::AGAIN) => Wake::Input,
            Err(_) => Wake::Ended,
        }
    }

    fn write(&mut self) -> Wake {
        match rustix::io::write(&self.pipe, &self.pending) {
            Ok(written) => {
                self.pending.drain(..written);
                Wake::Input
            }
            Err(Errno::INTR | Errno::AGAIN) => Wake::Input,
            // The program closed its standard input; ours stays as it is.
            Err(_) => Wake::Ended,
        }
    }
}
