//! The descriptors that the link goes over. They are not ours: their flags stay as they are.
//!
//! A pipe is opened anew through `/proc/self/fd`, which gives us an open file description of our
//! own that can be non-blocking. That fails if the pipe belongs to another user (after sudo or su);
//! then we ask before each call whether it would block. For a socket, each call has a flag.

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

use crate::pipe::enlarge;
use crate::poll::{Interest, Poll, Token, Watched};

/// What a link's pipe is made to hold, the first size that the target allows: as much as an
/// unprivileged user gets by default (`/proc/sys/fs/pipe-max-size`), then less.
const PIPE_SIZES: [usize; 3] = [1024 * 1024, 256 * 1024, 128 * 1024];

/// How long a pipe that is full of bulk is left alone before we try to write again.
///
/// If we waited for room, the reader would wake us with each piece that it takes, and pay for that.
/// In this time a fast reader takes many, and a pipe of the largest size does not run empty.
const REST: Duration = Duration::from_micros(500);

/// Bytes that can be written to a blocking pipe that says it has room (pipe(7): a page is free).
const SAFE_PIPE_WRITE: usize = 4096;

/// The same for a terminal, which says it has room while 256 bytes fit (WAKEUP_CHARS in Linux).
const SAFE_OTHER_WRITE: usize = 256;

/// How a call is kept from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocking {
    /// The open file description is ours and non-blocking.
    Never,
    /// A socket: by a flag of each call.
    Flag,
    /// Others share the open file description: by a question before each call.
    Ask { safe_write: usize },
}

/// One direction of the link.
#[derive(Debug)]
pub(crate) struct Direction {
    watched: Watched,
    blocking: Blocking,
    /// Whether the kernel moves bytes between this and a pipe.
    spliceable: bool,
    /// Whether it holds so much that its reader has enough while we rest.
    deep: bool,
}

impl Direction {
    /// From the master: standard input.
    pub(crate) fn inward() -> io::Result<Direction> {
        let direction = Direction::open(rustix::stdio::stdin(), OFlags::RDONLY, Token::LinkIn)?;
        // Only one descriptor may hold the link, or closing it would not end the link.
        rustix::stdio::dup2_stdin(null()?)?;
        Ok(direction)
    }

    /// To the master: standard output.
    pub(crate) fn outward() -> io::Result<Direction> {
        let direction = Direction::open(rustix::stdio::stdout(), OFlags::WRONLY, Token::LinkOut)?;
        rustix::stdio::dup2_stdout(null()?)?;
        Ok(direction)
    }

    /// Lets go of the descriptor: the other end sees that we are gone. Later writes and reads
    /// go nowhere.
    pub(crate) fn close(&mut self) {
        if let Ok(null) = null() {
            self.watched = Watched::new(null, Token::LinkIn);
        }
    }

    fn open(stdio: BorrowedFd<'_>, access: OFlags, token: Token) -> io::Result<Direction> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(stdio)?.st_mode);
        let (fd, blocking) = match kind {
            FileType::Socket => (duplicate(stdio)?, Blocking::Flag),
            _ => match reopen(stdio, access) {
                Ok(fd) => (fd, Blocking::Never),
                Err(_) => {
                    let is_pipe = kind == FileType::Fifo;
                    let safe_write = if is_pipe { SAFE_PIPE_WRITE } else { SAFE_OTHER_WRITE };
                    (duplicate(stdio)?, Blocking::Ask { safe_write })
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
        Ok(Direction { watched: Watched::new(fd, token), blocking, spliceable, deep })
    }

    /// Changes what the kernel reports about it.
    pub(crate) fn watch(&mut self, poll: &Poll, interest: Interest) -> io::Result<()> {
        self.watched.watch(poll, interest)
    }

    /// How many bytes can be read.
    pub(crate) fn available(&self) -> Result<u64, Errno> {
        rustix::io::ioctl_fionread(&self.watched)
    }

    /// How long it may be left alone when it is full, if that starves nobody.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.deep.then_some(REST)
    }

    /// Reads what is there. `Ok(0)` is the end of the link.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] if nothing is there, others if the link is lost.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self.blocking {
            Blocking::Never => rustix::io::read(&self.watched, buffer),
            Blocking::Flag => {
                let (len, _) = rustix::net::recv(&self.watched, buffer, RecvFlags::DONTWAIT)?;
                Ok(len)
            }
            Blocking::Ask { .. } => {
                self.ask(PollFlags::IN)?;
                rustix::io::read(&self.watched, buffer)
            }
        }
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] if there is no room, others if the link is lost.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self.blocking {
            Blocking::Never => rustix::io::write(&self.watched, bytes),
            Blocking::Flag => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(&self.watched, bytes, flags)
            }
            Blocking::Ask { safe_write } => {
                self.ask(PollFlags::OUT)?;
                rustix::io::write(&self.watched, &bytes[..bytes.len().min(safe_write)])
            }
        }
    }

    /// Moves bytes from the link into a pipe without copying them. `Ok(None)` if the kernel never
    /// does that here.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] if the link is empty *or* the pipe is full; [`Errno::PIPE`] if nobody reads
    /// the pipe.
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
    /// [`Errno::AGAIN`] if the pipe is empty *or* the link is full, others if the link is lost.
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

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}
