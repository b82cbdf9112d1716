//! A pipe, terminal or device whose description others share, and that can't be opened anew: it
//! belongs to another user, behind sudo or su.
//!
//! It is waited for as it is. Once it is ready, a pipe is spliced to and from a pipe of our own,
//! which the kernel does without blocking whatever the flags of the other one. What can't be
//! spliced is asked whether it is ready, and then used on the blocking pool with so few bytes that
//! it does not block there unless somebody else was faster.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use fakessh_unix::ready;
use rustix::buffer::spare_capacity;
use rustix::event::PollFlags;
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::blocking::blocking;
use super::foreign::{Foreign, Kind};
use crate::sys;

/// What a blocking pipe takes that says it has room (pipe(7): one page is free).
const SAFE_PIPE_WRITE: usize = 4096;

/// The same for a terminal, which says so while 256 bytes fit (`WAKEUP_CHARS` in Linux).
const SAFE_OTHER_WRITE: usize = 256;

/// Most bytes that are spliced at once: what a pipe of our own surely holds (pipe(7)).
const SPLICED: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Shared {
    fd: AsyncFd<Foreign>,
    /// A pipe of our own, empty between calls, while the descriptor can be spliced.
    own: Option<OwnPipe>,
    safe_write: usize,
    is_terminal: bool,
}

#[derive(Debug)]
struct OwnPipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Shared {
    /// Takes a descriptor, and leaves its flags as they are.
    ///
    /// # Errors
    /// `EPERM` where it can't be waited for, and failures of the system.
    pub(super) fn new(fd: Foreign, interest: Interest) -> io::Result<Shared> {
        let is_pipe = Kind::of(&fd)?.file_type == FileType::Fifo;
        let is_terminal = rustix::termios::isatty(&fd);
        let fd = sys::watch(fd, interest)?;
        let own = is_pipe.then(OwnPipe::new).transpose()?;
        let safe_write = if is_pipe { SAFE_PIPE_WRITE } else { SAFE_OTHER_WRITE };
        Ok(Shared { fd, own, safe_write, is_terminal })
    }

    /// Reads up to `most` bytes; none is the end. Cancel safe for pipes; of a device, what was
    /// read when it is cancelled is lost.
    pub(super) async fn read(&mut self, most: usize) -> io::Result<Bytes> {
        if let Some(own) = &self.own {
            let read = self.fd.async_io(Interest::READABLE, |fd| Ok(own.read(fd, most)?)).await;
            match read {
                Err(error) if is_unspliceable(&error) => self.own = None,
                read => return read,
            }
        }
        loop {
            self.ready(Interest::READABLE, PollFlags::IN).await?;
            let fd = self.fd.get_ref().pooled();
            let read = blocking(move || {
                let mut piece = Vec::with_capacity(most);
                rustix::io::read(fd, spare_capacity(&mut piece))?;
                Ok(Bytes::from(piece))
            });
            match read.await? {
                Err(Errno::AGAIN | Errno::INTR) => {}
                // A terminal that hung up has no more to give.
                Err(Errno::IO) if self.is_terminal => return Ok(Bytes::new()),
                read => return Ok(read?),
            }
        }
    }

    /// Writes some of `bytes` and says how many, at least one. Cancel safe for pipes; a device may
    /// be written after it was cancelled.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(own) = &self.own {
            let write = self.fd.async_io(Interest::WRITABLE, |fd| Ok(own.write(fd, bytes)?)).await;
            match write {
                Err(error) if is_unspliceable(&error) => self.own = None,
                write => return write,
            }
        }
        let piece = Bytes::copy_from_slice(&bytes[..bytes.len().min(self.safe_write)]);
        loop {
            self.ready(Interest::WRITABLE, PollFlags::OUT).await?;
            let (fd, piece) = (self.fd.get_ref().pooled(), piece.clone());
            let write = blocking(move || rustix::io::write(fd, &piece));
            match write.await? {
                Err(Errno::AGAIN | Errno::INTR) => {}
                write => return Ok(write?),
            }
        }
    }

    /// Waits until the descriptor is ready now: what tokio knows may be old, since others use it.
    async fn ready(&self, interest: Interest, asked: PollFlags) -> io::Result<()> {
        loop {
            let mut guard = self.fd.ready(interest).await?;
            if is_ready(self.fd.get_ref(), asked) {
                return Ok(());
            }
            guard.clear_ready();
        }
    }
}

impl OwnPipe {
    fn new() -> io::Result<OwnPipe> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(OwnPipe { reader, writer })
    }

    fn read(&self, from: &Foreign, most: usize) -> Result<Bytes, Errno> {
        let len = splice(from, &self.writer, most.min(SPLICED))?;
        let mut piece = Vec::with_capacity(len);
        while piece.len() < len {
            rustix::io::read(&self.reader, spare_capacity(&mut piece))?;
        }
        Ok(piece.into())
    }

    fn write(&self, to: &Foreign, bytes: &[u8]) -> Result<usize, Errno> {
        // Nothing is copied in vain: whoever can't take a page takes nothing.
        if !is_ready(to, PollFlags::OUT) {
            return Err(Errno::AGAIN);
        }
        let written = rustix::io::write(&self.writer, &bytes[..bytes.len().min(SPLICED)])?;
        let moved = splice(&self.reader, to, written);
        let mut left = written - *moved.as_ref().unwrap_or(&0);
        let mut scratch = [0; SAFE_PIPE_WRITE];
        while left > 0 {
            left -= rustix::io::read(&self.reader, &mut scratch)?;
        }
        moved
    }
}

/// Moves bytes between pipes; `EAGAIN` if one is empty or the other full, `ENOSYS` if they can't be
/// spliced.
fn splice(from: impl AsFd, to: impl AsFd, len: usize) -> Result<usize, Errno> {
    fakessh_unix::splice::splice(from, to, len, SpliceFlags::NONBLOCK)?.ok_or(Errno::NOSYS)
}

fn is_ready(fd: &Foreign, asked: PollFlags) -> bool {
    !ready::now(fd, asked).is_empty()
}

fn is_unspliceable(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOSYS)
}
