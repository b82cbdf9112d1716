//! Which handles a session has: four numbers in a row, the first of them a multiple of four.
//!
//! Each side picks the numbers of the sessions that it starts: the master from the lower half, the
//! slave from the upper one. So both sides can start sessions at once, and a number alone says
//! which session it belongs to and who started that.

use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use crate::mux::MuxError;
use crate::wire::Handle;

/// Handles of one session. A power of two, so that the lowest bits say which of them a number is.
const PER_SESSION: u32 = 4;

/// The bit that the slave's numbers have and the master's do not.
const SLAVES: u32 = 1 << 31;

/// The side of a link that starts a session, and picks its handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The master starts programs.
    Master,
    /// The slave starts reverse sessions, for tools that call `ssh`.
    Slave,
}

impl Side {
    /// The side that picks this number. The numbers of [`Handle::LINK`]'s row are nobody's.
    pub const fn of(handle: Handle) -> Option<Side> {
        match handle.0 {
            ..PER_SESSION => None,
            PER_SESSION..SLAVES => Some(Side::Master),
            SLAVES.. => Some(Side::Slave),
        }
    }
}

/// One of a session's three streams of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// To the program's standard input.
    Stdin,
    /// From its standard output.
    Stdout,
    /// From its standard error.
    Stderr,
}

/// The handles of one session. The side that starts the session picks them, all not used for
/// long, and sends at once. So the other side opens them whatever becomes of the session, and
/// closes them if there is none: a slave without a program stops `stdin` and resets `stdout` and
/// `stderr`. In a reverse session ([`StartReverse`]) the master does that.
///
/// [`StartReverse`]: crate::message::StartReverse
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHandles {
    /// Messages of the session, both ways.
    pub control: Handle,
    /// To the program's standard input.
    pub stdin: Handle,
    /// From its standard output.
    pub stdout: Handle,
    /// From its standard error.
    pub stderr: Handle,
}

impl Stream {
    /// All three.
    pub const ALL: [Stream; 3] = [Stream::Stdin, Stream::Stdout, Stream::Stderr];
}

impl SessionHandles {
    /// The handles of the session that this handle belongs to, whichever of the four it is.
    pub const fn of(handle: Handle) -> SessionHandles {
        let control = handle.0 - handle.0 % PER_SESSION;
        SessionHandles {
            control: Handle(control),
            stdin: Handle(control + 1),
            stdout: Handle(control + 2),
            stderr: Handle(control + 3),
        }
    }

    /// The stream that this handle carries, or `None` for a control handle.
    pub const fn stream_of(handle: Handle) -> Option<Stream> {
        match handle.0 % PER_SESSION {
            1 => Some(Stream::Stdin),
            2 => Some(Stream::Stdout),
            3 => Some(Stream::Stderr),
            _ => None,
        }
    }

    /// The handle of one stream.
    pub const fn stream(self, stream: Stream) -> Handle {
        match stream {
            Stream::Stdin => self.stdin,
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }

    /// Checks handles that the other side of the link claims, in a message on `control`, for a
    /// session that it starts.
    ///
    /// # Errors
    /// [`MuxError::BadHandles`] if they are not a row of that side's numbers.
    pub fn check(self, control: Handle, side: Side) -> Result<(), MuxError> {
        let is_right = self.control == control
            && self == SessionHandles::of(control)
            && Side::of(control) == Some(side);
        if is_right { Ok(()) } else { Err(MuxError::BadHandles(control)) }
    }
}

/// Picks the handles of one side's new sessions, in rising order: a number is used again only
/// after all others.
#[derive(Debug)]
pub struct HandleAllocator {
    side: Side,
    next: AtomicU32,
}

impl HandleAllocator {
    /// An allocator that has picked no handles yet.
    pub const fn new(side: Side) -> HandleAllocator {
        HandleAllocator { side, next: AtomicU32::new(0) }
    }

    /// The handles of a new session. After half a billion sessions they may be those of an old
    /// one that still runs.
    pub fn pick(&self) -> SessionHandles {
        loop {
            let number = self.next.fetch_add(PER_SESSION, Ordering::Relaxed);
            let control = match self.side {
                Side::Master => number & !SLAVES,
                Side::Slave => number | SLAVES,
            };
            if control != Handle::LINK.0 {
                return SessionHandles::of(Handle(control));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_says_which_session_it_is_of() {
        let handles = SessionHandles::of(Handle(SLAVES + 8));
        let SessionHandles { control, stdin, stdout, stderr } = handles;
        assert_eq!(control, Handle(SLAVES + 8));
        for (handle, stream) in [
            (control, None),
            (stdin, Some(Stream::Stdin)),
            (stdout, Some(Stream::Stdout)),
            (stderr, Some(Stream::Stderr)),
        ] {
            assert_eq!(SessionHandles::of(handle), handles);
            assert_eq!(SessionHandles::stream_of(handle), stream);
            assert!(stream.is_none_or(|stream| handles.stream(stream) == handle));
        }
    }

    #[test]
    fn only_a_row_of_the_right_side_is_taken() {
        let row = |control| SessionHandles::of(Handle(control));
        assert_eq!(row(8).check(Handle(8), Side::Master), Ok(()));
        assert_eq!(row(SLAVES).check(Handle(SLAVES), Side::Slave), Ok(()));
        let twice = SessionHandles { stderr: Handle(9), ..row(8) };
        let shifted = [9, 10, 11, 12].map(Handle);
        let [control, stdin, stdout, stderr] = shifted;
        let shifted = SessionHandles { control, stdin, stdout, stderr };
        for (handles, control, side) in [
            (row(8), 8, Side::Slave),
            (row(SLAVES), SLAVES, Side::Master),
            (row(8), 12, Side::Master),
            (row(8), 9, Side::Master),
            (row(0), 0, Side::Master),
            (twice, 8, Side::Master),
            (shifted, 9, Side::Master),
        ] {
            let control = Handle(control);
            assert_eq!(handles.check(control, side), Err(MuxError::BadHandles(control)));
        }
    }

    #[test]
    fn numbers_rise_and_never_leave_their_half() {
        let picked = |side, next| {
            let allocator = HandleAllocator { side, next: AtomicU32::new(next) };
            [allocator.pick().control.0, allocator.pick().control.0]
        };
        assert_eq!(picked(Side::Master, 0), [4, 8]);
        assert_eq!(picked(Side::Master, SLAVES - 4), [SLAVES - 4, 4]);
        assert_eq!(picked(Side::Slave, 0), [SLAVES, SLAVES + 4]);
        assert_eq!(picked(Side::Slave, SLAVES - 4), [u32::MAX - 3, SLAVES]);
        assert_eq!(picked(Side::Slave, u32::MAX - 3), [u32::MAX - 3, SLAVES]);
    }
}
