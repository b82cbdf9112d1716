//! The terminal of a session whose program has one of its own: that one is like it, and does all
//! that a terminal does. This one is raw, and only passes bytes through.

use std::env;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use fakessh_protocol::message::FromShim;
use fakessh_protocol::terminal::{TerminalRequest, WindowSize};
use fakessh_unix::{datagram, terminal_modes};

use crate::sys::{self, ChangedModes};

/// A terminal, and what the master knows of it.
pub(super) struct PassedThrough {
    terminal: OwnedFd,
    /// The size that the master knows.
    size: WindowSize,
    /// While bytes are passed through.
    raw: Option<ChangedModes>,
}

impl PassedThrough {
    /// The terminal of a session that is to start, and what a terminal there is to be like.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(super) fn new(terminal: BorrowedFd<'_>) -> io::Result<(PassedThrough, TerminalRequest)> {
        let size = size_of(terminal).unwrap_or_default();
        let modes = rustix::termios::tcgetattr(terminal);
        let request = TerminalRequest {
            term: env::var_os("TERM").unwrap_or_default().into_vec(),
            size,
            modes: modes.map(|modes| terminal_modes::encode(&modes)).unwrap_or_default(),
        };
        let terminal = terminal.try_clone_to_owned()?;
        Ok((PassedThrough { terminal, size, raw: None }, request))
    }

    /// Begins to pass bytes through. Returns what tells of other sizes.
    ///
    /// # Errors
    /// If the terminal can't be made raw: it is gone, or we stay in the background.
    pub(super) fn begin(&mut self) -> io::Result<OwnedFd> {
        self.raw = Some(ChangedModes::raw(self.terminal.as_fd())?);
        sys::report_window_changes()
    }

    /// Tells the master the terminal's size, if that is another one now.
    pub(super) fn tell_size(&mut self, socket: BorrowedFd<'_>) {
        if let Some(size) = size_of(self.terminal.as_fd())
            && size != self.size
        {
            self.size = size;
            // A master that has gone is noticed at the next receive.
            let _ = datagram::send_message(socket, &FromShim::Resize(size), &[]);
        }
    }

    /// Does something with the terminal as it was before.
    pub(super) fn aside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let was_raw = self.raw.take().is_some();
        let done = work();
        if was_raw {
            self.raw = ChangedModes::raw(self.terminal.as_fd()).ok();
        }
        done
    }

    /// The terminal is as it was before.
    pub(super) fn end(&mut self) {
        self.raw = None;
    }
}

fn size_of(terminal: BorrowedFd<'_>) -> Option<WindowSize> {
    rustix::termios::tcgetwinsize(terminal).ok().map(terminal_modes::from_winsize)
}
