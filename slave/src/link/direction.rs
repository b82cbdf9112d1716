//! The descriptors that the link goes over. They are not ours: their flags stay as they are.
//!
//! A pipe is opened anew through `/proc/self/fd`, which gives a description of our own that can
//! be non-blocking. That fails where the pipe belongs to another user (behind sudo or su); it is
//! then asked before each call whether the call would block. A socket can be told with each call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use fakessh_unix::ready;
use fakessh_unix::reopen::reopen;
use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::SpliceFlags;

use crate::poll::{Token, Watched};

/// What a link's pipe is made to hold, the first that the target allows: as much as an
/// unprivileged user gets by default (`/proc/sys/fs/pipe-max-size`), then less.
const PIPE_SIZES: [usize; 3] = [1024 * 1024, 256 * 1024, 128 * 1024];

/// How long a pipe that is full of bulk is left alone before it is looked at again.
///
/// Waiting for room would wake us, and cost the reader the waking, with each piece that it takes.
/// In this time a fast one takes many, and a pipe of the largest size does not run empty.
pub(crate) const REST: Duration = Duration::from_micros(500);

/// What can be written to a blocking pipe that says it has room (pipe(7): one page is free).
const SAFE_PIPE_WRITE: usize = 4096;

/// The same for a terminal, which says so while 256 bytes fit (WAKEUP_CHARS in Linux).
const SAFE_OTHER_WRITE: usize = 256;

/// How to keep a call from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The description is ours and non-blocking.
    Own,
    /// A socket: by a flag of each call.
    Socket,
    /// A description that others share: by asking before each call.
    Shared { safe_write: usize },
}

/// One direction of the link.
#[derive(Debug)]
pub(crate) struct Direction {
    pub(crate) watched: Watched,
    way: Way,
    /// Whether the kernel moves bytes between this and a pipe.
    spliceable: bool,
    /// Whether it holds so much that its reader has enough for a [`REST`].
    deep: bool,
}

impl Direction {
    /// From the master: standard input.
    pub(crate) fn inward() -> io::Result<Direction> {
        let direction = Direction::open(rustix::stdio::stdin(), OFlags::RDONLY, Token::LinkIn)?;
        // One descriptor alone holds the link, or closing it would not end it.
        rustix::stdio::dup2_stdin(null()?)?;
        Ok(direction)
    }

    /// To the master: standard output.
    pub(crate) fn outward() -> io::Result<Direction> {
        let direction = Direction::open(rustix::stdio::stdout(), OFlags::WRONLY, Token::LinkOut)?;
        rustix::stdio::dup2_stdout(null()?)?;
        Ok(direction)
    }

    /// Lets go of the descriptor: the other end sees that we are gone. What is written or read
    /// afterwards goes nowhere.
    pub(crate) fn close(&mut self) {
        if let Ok(null) = null() {
            self.watched = Watched::new(null, Token::LinkIn);
        }
    }

    fn open(stdio: BorrowedFd<'_>, access: OFlags, token: Token) -> io::Result<Direction> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(stdio)?.st_mode);
        let (fd, way) = match kind {
            FileType::Socket => (duplicate(stdio)?, Way::Socket),
            _ => match reopen(stdio, access) {
                Ok(fd) => (fd, Way::Own),
                Err(_) => {
                    let is_pipe = kind == FileType::Fifo;
                    let safe_write = if is_pipe { SAFE_PIPE_WRITE } else { SAFE_OTHER_WRITE };
                    (duplicate(stdio)?, Way::Shared { safe_write })
                }
            },
        };
        let spliceable = kind == FileType::Fifo;
        let mut deep = false;
        if spliceable {
            enlarge(&fd, &PIPE_SIZES);
            let holds = rustix::pipe::fcntl_getpipe_size(&fd);
            deep = holds.is_ok_and(|holds| holds >= PIPE_SIZES[0]);
        }
        Ok(Direction { watched: Watched::new(fd, token), way, spliceable, deep })
    }

    /// How long it may be left alone when it is full, where that starves nobody.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.deep.then_some(REST)
    }

    /// Reads what is there. `Ok(0)` is the end of the link.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] where nothing is there, others where the link is lost.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self.way {
            Way::Own => rustix::io::read(&self.watched, buffer),
            Way::Socket => {
                let (len, _) = rustix::net::recv(&self.watched, buffer, RecvFlags::DONTWAIT)?;
                Ok(len)
            }
            Way::Shared { .. } => {
                self.ask(PollFlags::IN)?;
                rustix::io::read(&self.watched, buffer)
            }
        }
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] where there is no room, others where the link is lost.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self.way {
            Way::Own => rustix::io::write(&self.watched, bytes),
            Way::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(&self.watched, bytes, flags)
            }
            Way::Shared { safe_write } => {
                self.ask(PollFlags::OUT)?;
                rustix::io::write(&self.watched, &bytes[..bytes.len().min(safe_write)])
            }
        }
    }

    /// Moves bytes from the link into a pipe without copying them. `Ok(None)` where that can't be
    /// done here, now or ever.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] where the link is empty *or* the pipe is full; [`Errno::PIPE`] where
    /// nobody reads the pipe.
    pub(crate) fn splice_into(
        &mut self,
        pipe: impl AsFd,
        len: usize,
    ) -> Result<Option<usize>, Errno> {
        if !self.spliceable {
            return Ok(None);
        }
        let moved = splice(&self.watched, pipe, len);
        self.judge(moved)
    }

    /// Moves bytes from a pipe to the link, likewise.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] where the pipe is empty *or* the link is full, others where it is lost.
    pub(crate) fn splice_from(
        &mut self,
        pipe: impl AsFd,
        len: usize,
    ) -> Result<Option<usize>, Errno> {
        if !self.spliceable {
            return Ok(None);
        }
        let moved = splice(pipe, &self.watched, len);
        self.judge(moved)
    }

    fn judge(&mut self, moved: Result<Option<usize>, Errno>) -> Result<Option<usize>, Errno> {
        self.spliceable = moved != Ok(None);
        moved
    }

    fn ask(&self, events: PollFlags) -> Result<(), Errno> {
        if ready::now(&self.watched, events).is_empty() { Err(Errno::AGAIN) } else { Ok(()) }
    }
}

fn splice(from: impl AsFd, to: impl AsFd, len: usize) -> Result<Option<usize>, Errno> {
    fakessh_unix::splice::splice(from, to, len, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
}

/// Makes a pipe hold as much as it may, the first of these sizes. It is no loss where it may not.
pub(crate) fn enlarge(pipe: impl AsFd, sizes: &[usize]) {
    let holds = rustix::pipe::fcntl_getpipe_size(&pipe).unwrap_or(usize::MAX);
    for &size in sizes.iter().filter(|&&size| size > holds) {
        if rustix::pipe::fcntl_setpipe_size(&pipe, size).is_ok() {
            return;
        }
    }
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}
