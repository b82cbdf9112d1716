//! Where bytes of the link go: a program's standard input, or a shim's standard output or error.

use std::collections::VecDeque;
use std::io;

use fakessh_protocol::wire::Handle;
use rustix::io::Errno;

use crate::io::Io;
use crate::pipe::enlarge;
use crate::poll::{Interest, Poll, Watched};
use crate::program::SelfUpload;

/// What a program's pipe is made to hold once it has been full. With more, fewer programs could
/// have it: an unprivileged user's pipes hold 64 MiB together before the kernel makes them small.
const BULK_PIPE: usize = 256 * 1024;

/// A buffer that grew beyond this is given back when it is empty.
const KEPT_BUFFER: usize = 16 * 1024;

/// The pipe that a handle's bytes go to, with what it had no room for.
#[derive(Debug)]
pub(crate) struct Sink {
    handle: Handle,
    state: State,
}

#[derive(Debug)]
enum State {
    /// More bytes may come.
    Open(Pipe),
    /// No more bytes come. The pipe is closed when the buffer is empty.
    Ending(Pipe),
    /// All bytes are written, or nobody reads them.
    Closed,
}

#[derive(Debug)]
struct Pipe {
    watched: Watched,
    /// The slave's own program, which goes there first. The master has no credit for it.
    upload: Option<SelfUpload>,
    /// What came while the pipe was full. The credit of the handle bounds it.
    buffer: VecDeque<u8>,
    /// Whether the pipe is still to be enlarged when it is full.
    may_grow: bool,
    /// Whether bytes may be spliced into it.
    takes_splices: bool,
}

impl Sink {
    /// A sink for the standard input of a program, after the slave's own program if that is to be
    /// uploaded.
    ///
    /// # Errors
    /// If the kernel watches no more descriptors.
    pub(crate) fn for_program(
        handle: Handle,
        mut watched: Watched,
        upload: Option<SelfUpload>,
        poll: &Poll,
    ) -> io::Result<Sink> {
        watched.watch(poll, if upload.is_some() { Interest::Write } else { Interest::End })?;
        let buffer = VecDeque::new();
        let pipe = Pipe { watched, upload, buffer, may_grow: true, takes_splices: true };
        Ok(Sink::new(handle, pipe))
    }

    /// A sink for what is typed on a terminal. The end of the handle does not end the program's
    /// input: only a typed ^D does.
    ///
    /// # Errors
    /// If the kernel watches no more descriptors.
    pub(crate) fn for_terminal(
        handle: Handle,
        mut watched: Watched,
        poll: &Poll,
    ) -> io::Result<Sink> {
        watched.watch(poll, Interest::End)?;
        let (upload, buffer) = (None, VecDeque::new());
        let pipe = Pipe { watched, upload, buffer, may_grow: false, takes_splices: false };
        Ok(Sink::new(handle, pipe))
    }

    /// A sink for what a shim handed over. Its pipe stays as large as it is.
    pub(crate) fn for_shim(handle: Handle, watched: Watched) -> Sink {
        let (upload, buffer) = (None, VecDeque::new());
        Sink::new(handle, Pipe { watched, upload, buffer, may_grow: false, takes_splices: true })
    }

    fn new(handle: Handle, pipe: Pipe) -> Sink {
        Sink { handle, state: State::Open(pipe) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// The pipe, if the next bytes of the link may go straight into it: nothing goes before them.
    pub(crate) fn direct(&self) -> Option<&Watched> {
        match &self.state {
            State::Open(pipe) if pipe.is_drained() && pipe.takes_splices => Some(&pipe.watched),
            _ => None,
        }
    }

    /// Writes what the pipe takes of `bytes`, and keeps the rest. A closed sink drops them.
    pub(crate) fn give(&mut self, io: &mut Io, bytes: &[u8]) {
        let State::Open(pipe) = &mut self.state else { return };
        match pipe.give(&io.poll, bytes) {
            Ok(given) => io.mux.consumed(self.handle, given),
            Err(_) => self.cut(io),
        }
    }

    /// Writes what the pipe takes of what was kept.
    pub(crate) fn drain(&mut self, io: &mut Io) {
        let (State::Open(pipe) | State::Ending(pipe)) = &mut self.state else { return };
        match pipe.drain(&io.poll) {
            Ok(given) => {
                io.mux.consumed(self.handle, given);
                self.close_if_done();
            }
            Err(_) => self.cut(io),
        }
    }

    /// No more bytes come.
    pub(crate) fn end(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(pipe) | State::Ending(pipe) => State::Ending(pipe),
            State::Closed => State::Closed,
        };
        self.close_if_done();
    }

    fn close_if_done(&mut self) {
        if matches!(&self.state, State::Ending(pipe) if pipe.is_drained()) {
            self.state = State::Closed;
        }
    }

    /// Nobody reads the pipe: closes it. The master hears of it now, also if it sends nothing.
    pub(crate) fn cut(&mut self, io: &mut Io) {
        self.state = State::Closed;
        io.mux.stop(self.handle);
    }

    /// Writes no more, and does not wait for the pipe. It stays open.
    pub(crate) fn freeze(&mut self, poll: &Poll) {
        if let State::Open(pipe) | State::Ending(pipe) = &mut self.state {
            // A descriptor that can't be taken out is not in there.
            let _ = pipe.watched.watch(poll, Interest::Nothing);
        }
    }

    /// Closes the sink, and returns its pipe: open and not waited for. `None` if the pipe is
    /// closed, or can't be taken out.
    pub(crate) fn take_pipe(&mut self, poll: &Poll) -> Option<Watched> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(Pipe { mut watched, .. }) | State::Ending(Pipe { mut watched, .. }) => {
                watched.watch(poll, Interest::Nothing).is_ok().then_some(watched)
            }
            State::Closed => None,
        }
    }
}

impl Pipe {
    fn is_drained(&self) -> bool {
        self.buffer.is_empty() && self.upload.is_none()
    }

    /// Returns how many of the bytes the pipe took.
    fn give(&mut self, poll: &Poll, bytes: &[u8]) -> Result<usize, Errno> {
        let mut given = 0;
        if self.is_drained() {
            while given < bytes.len() {
                match rustix::io::write(&self.watched, &bytes[given..]) {
                    Ok(len) => given += len,
                    Err(Errno::AGAIN) if self.may_grow => {
                        self.may_grow = false;
                        enlarge(&self.watched, &[BULK_PIPE]);
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if given < bytes.len() {
            self.buffer.extend(&bytes[given..]);
            self.watch(poll, Interest::Write)?;
        }
        Ok(given)
    }

    /// Returns how many bytes of the buffer the pipe took.
    fn drain(&mut self, poll: &Poll) -> Result<usize, Errno> {
        if let Some(upload) = &mut self.upload {
            match upload.give(&self.watched) {
                Ok(()) => self.upload = None,
                Err(Errno::AGAIN) => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        let mut given = 0;
        while !self.buffer.is_empty() {
            match rustix::io::write(&self.watched, self.buffer.as_slices().0) {
                Ok(len) => {
                    self.buffer.drain(..len);
                    given += len;
                }
                Err(Errno::AGAIN) => return Ok(given),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = VecDeque::new();
        }
        self.watch(poll, Interest::End)?;
        Ok(given)
    }

    fn watch(&mut self, poll: &Poll, interest: Interest) -> Result<(), Errno> {
        let watched = self.watched.watch(poll, interest);
        watched.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}
