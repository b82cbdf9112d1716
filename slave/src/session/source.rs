//! Where bytes for the link come from: a program's standard output or error, or a shim's standard
//! input.

use std::io;

use fakessh_protocol::wire::Handle;

use crate::io::Io;
use crate::pipe::enlarge;
use crate::poll::{Interest, Poll, Watched};

/// What a program's pipe is made to hold once it has been full, if there are many sessions. With
/// more, fewer programs could have it: an unprivileged user's pipes hold 64 MiB together before the
/// kernel makes them small.
const BULK_PIPE: usize = 256 * 1024;

/// The same if there are few sessions: more than the link takes while it is left alone.
const WIDE_PIPE: usize = 1024 * 1024;

/// So many sessions are few: their outputs take no more than a quarter of what an unprivileged
/// user's pipes may hold.
const FEW_SESSIONS: usize = 8;

/// What a new pipe holds (pipe(7)).
const NEW_PIPE: usize = 64 * 1024;

/// The pipe that a handle's bytes come from, and what the mux knows of them.
#[derive(Debug)]
pub(crate) struct Source {
    handle: Handle,
    state: State,
    /// Bytes in the pipe that the mux knows of.
    offered: usize,
    /// Whether the pipe is still to be enlarged when it is full.
    may_grow: bool,
}

#[derive(Debug)]
enum State {
    /// More bytes may come.
    Open(Watched),
    /// Nobody can write any more. The bytes that are offered are all there are.
    Ended(Watched),
    /// All bytes are sent, or nobody wants them.
    Closed,
}

impl Source {
    /// A source for a pipe of our own that is watched.
    pub(crate) fn new(handle: Handle, watched: Watched) -> Source {
        Source { handle, state: State::Open(watched), offered: 0, may_grow: true }
    }

    /// A source that has no bytes.
    pub(crate) fn closed(handle: Handle) -> Source {
        Source { handle, state: State::Closed, offered: 0, may_grow: false }
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// The pipe, if it is open here.
    pub(crate) fn pipe(&self) -> Option<&Watched> {
        match &self.state {
            State::Open(watched) | State::Ended(watched) => Some(watched),
            State::Closed => None,
        }
    }

    /// Whether all the bytes that ever come are offered.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.state, State::Open(_))
    }

    /// Offers the mux what is new in the pipe. How large the pipe may become depends on how many
    /// `sessions` there are.
    pub(crate) fn offer(&mut self, io: &mut Io, sessions: usize) {
        let Some(pipe) = self.pipe() else { return };
        let available = rustix::io::ioctl_fionread(pipe).unwrap_or(0) as usize;
        if available >= NEW_PIPE && self.may_grow {
            let wide = if sessions <= FEW_SESSIONS { WIDE_PIPE } else { BULK_PIPE };
            enlarge(pipe, &[wide, BULK_PIPE]);
            self.may_grow = false;
        }
        let more = available.saturating_sub(self.offered);
        if more > 0 {
            self.offered += more;
            io.mux.offer(self.handle, more);
        }
    }

    /// Nobody can write any more: what is offered is all.
    pub(crate) fn end(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(watched) | State::Ended(watched) if self.offered > 0 => {
                State::Ended(watched)
            }
            _ => State::Closed,
        };
    }

    /// So many of the offered bytes have left the pipe.
    pub(crate) fn sent(&mut self, io: &mut Io, len: usize) {
        self.offered = self.offered.saturating_sub(len);
        if self.offered > 0 {
            return;
        }
        let watched = match &mut self.state {
            State::Open(watched) => watched.watch(&io.poll, Interest::Read),
            State::Ended(_) | State::Closed => return self.close(),
        };
        // A pipe that can't be watched again is lost.
        if watched.is_err() {
            self.cut(io);
        }
    }

    /// Keeps the pipe from waking us if it has bytes that can't be sent yet: without credit, or
    /// while the link is full.
    ///
    /// # Errors
    /// If the kernel does not take the pipe out.
    pub(crate) fn pause(&mut self, poll: &Poll) -> io::Result<()> {
        match &mut self.state {
            State::Open(watched) | State::Ended(watched) if self.offered > 0 => {
                watched.watch(poll, Interest::Nothing)
            }
            _ => Ok(()),
        }
    }

    /// Reads no more, and does not wait for the pipe. It stays open.
    pub(crate) fn freeze(&mut self, poll: &Poll) {
        if let State::Open(watched) | State::Ended(watched) = &mut self.state {
            // A descriptor that can't be taken out is not in there.
            let _ = watched.watch(poll, Interest::Nothing);
        }
    }

    /// Nobody wants the bytes: who writes there notices it.
    pub(crate) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Bytes are lost: the master must not take what it has for the whole.
    pub(crate) fn cut(&mut self, io: &mut Io) {
        self.state = State::Closed;
        io.mux.reset(self.handle);
    }
}
