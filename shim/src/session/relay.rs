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

use super::escapes::{Escape, Escapes};

/// Bytes read at once: the longest line that a terminal gives.
const LINE: usize = 4096;

/// Control and D.
const END_OF_TRANSMISSION: u8 = 4;

/// What ended a wait.
pub(super) enum Wake {
    /// The master has something to say.
    Message,
    /// Input went on its way.
    Input,
    /// The person has typed an escape.
    Escape(Escape),
    /// The terminal may have another size.
    Window,
    /// No more input will be relayed: the person ended it, or the program closed its side.
    Ended,
}

/// A terminal and the pipe that its input goes to.
pub(super) struct Relay {
    terminal: OwnedFd,
    pipe: OwnedFd,
    /// What was typed, and not yet looked at.
    typed: Vec<u8>,
    /// What is for the program, and not yet written.
    pending: Vec<u8>,
    escapes: Escapes,
    /// Tells that the size of a terminal may have changed.
    window: Option<OwnedFd>,
}

impl Relay {
    /// Makes the pipe; returns the end that the program reads as well.
    pub(super) fn new(terminal: BorrowedFd<'_>) -> io::Result<(Relay, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // Our end is an open file description of our own: the reader's end stays blocking.
        rustix::fs::fcntl_setfl(&write, OFlags::NONBLOCK)?;
        let terminal = terminal.try_clone_to_owned()?;
        let (typed, pending, escapes, window) = (Vec::new(), Vec::new(), Escapes::new(None), None);
        Ok((Relay { terminal, pipe: write, typed, pending, escapes, window }, read))
    }

    /// The terminal.
    pub(super) fn terminal(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }

    /// The program is on a terminal of its own from now on. So the relay looks for escapes, and
    /// watches `window`, which tells that the size may have changed.
    pub(super) fn pass_through(&mut self, escape: Option<u8>, window: OwnedFd) {
        self.escapes = Escapes::new(escape);
        self.window = Some(window);
    }

    /// Waits for a message on `socket` or for input, and passes that on.
    pub(super) fn step(&mut self, socket: BorrowedFd<'_>) -> Wake {
        if self.pending.is_empty() && !self.typed.is_empty() {
            return self.look();
        }
        let idle = self.pending.is_empty();
        let (input, output) = if idle {
            (PollFlags::IN, PollFlags::empty())
        } else {
            (PollFlags::empty(), PollFlags::OUT)
        };
        // A terminal that hung up reports so whether asked or not; it is asked only when idle.
        let window = self.window.as_ref().map_or(socket, |window| window.as_fd());
        let mut fds = [
            PollFd::new(&socket, PollFlags::IN),
            PollFd::new(&window, PollFlags::IN),
            PollFd::new(&self.pipe, output),
            PollFd::new(&self.terminal, input),
        ];
        let count = if idle { 4 } else { 3 };
        if poll(&mut fds[..count], None).is_err() {
            return Wake::Input;
        }
        let [message, window, written, read] = fds.map(|fd| fd.revents());
        if !message.is_empty() {
            return Wake::Message;
        }
        if let Some(pipe) = &self.window
            && !window.is_empty()
        {
            // It does not block, and a few bytes are more than are in there.
            let _ = rustix::io::read(pipe, &mut [0; 64]);
            return Wake::Window;
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
                self.typed.extend_from_slice(&buffer[..read]);
                self.look()
            }
            Err(Errno::INTR | Errno::AGAIN) => Wake::Input,
            Err(_) => Wake::Ended,
        }
    }

    /// Looks for the next escape in what was typed, and passes on what stands before it.
    fn look(&mut self) -> Wake {
        let mut typed = &self.typed[..];
        let escape = self.escapes.filter(&mut typed, &mut self.pending);
        self.typed = typed.to_vec();
        let written = if self.pending.is_empty() { Wake::Input } else { self.write() };
        match (written, escape) {
            (Wake::Ended, None | Some(_)) => Wake::Ended,
            (written, None) => written,
            (_, Some(escape)) => Wake::Escape(escape),
        }
    }

    /// The escape character, if there is one.
    pub(super) fn escape_character(&self) -> Option<u8> {
        self.escapes.character()
    }

    /// Ends the input with the character that ends it on the program's terminal, as ssh does.
    pub(super) fn end(&mut self) {
        // If the pipe is full, the program does not read, and needs no end.
        let _ = rustix::io::write(&self.pipe, &[END_OF_TRANSMISSION]);
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
