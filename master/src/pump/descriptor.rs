//! What a descriptor is, and how it can be waited for without changing it.

use std::io;
use std::os::fd::OwnedFd;

use fakessh_unix::reopen::reopen;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::file::WaitlessFile;
use super::foreign::{Foreign, Kind};
use super::shared::Shared;
use crate::sys;

/// What `/dev/ptmx` and `/dev/pts/ptmx` are. Opened anew they give another terminal.
const TERMINAL_MASTER: (u32, u32) = (5, 2);

/// A descriptor, by the way in which it is used.
#[derive(Debug)]
pub(super) enum Descriptor {
    /// A description of our own with `O_NONBLOCK`, to be used with read and write.
    Reopened(AsyncFd<OwnedFd>),
    /// A socket that others share, to be used with `MSG_DONTWAIT`.
    Socket(AsyncFd<Foreign>),
    /// A pipe, terminal or device that others share and that can't be opened anew.
    Shared(Shared),
    /// A file, or a device that can't be waited for.
    File(WaitlessFile),
}

impl Descriptor {
    /// Finds out what the descriptor in `slot` is, and takes it. It is closed where another
    /// description takes its place.
    ///
    /// # Errors
    /// `EBADF` where it is not open for this access, `BrokenPipe` for a pipe whose reader is gone,
    /// and failures of the system. The descriptor stays in the slot then, unless it is the kernel
    /// that can't wait for one more.
    pub(super) fn new(
        slot: &mut Option<Foreign>,
        access: OFlags,
        interest: Interest,
    ) -> io::Result<Descriptor> {
        let Some(fd) = slot else { return Err(Errno::BADF.into()) };
        let mode = rustix::fs::fcntl_getfl(&*fd)? & OFlags::ACCMODE;
        // A pipe opened anew would take what the descriptor itself may not have.
        if mode != access && mode != OFlags::RDWR {
            return Err(Errno::BADF.into());
        }
        let kind = Kind::of(&*fd)?;
        let can_be_reopened = match kind.file_type {
            FileType::Fifo => true,
            FileType::CharacterDevice => is_terminal(fd, kind),
            _ => false,
        };
        if can_be_reopened {
            match reopen(&*fd, access) {
                Ok(own) => {
                    let own = sys::watch(own, interest)?;
                    *slot = None;
                    return Ok(Descriptor::Reopened(own));
                }
                // The reader of this pipe is gone.
                Err(Errno::NXIO) if kind.file_type == FileType::Fifo => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                // Another user's: it was given to us, but not to be opened. Or /dev/tty, which
                // means another terminal in each process.
                Err(_) => {}
            }
        }
        // What has no kind is an eventfd(2), a timerfd or the like, which can be waited for.
        let is_shared = matches!(
            kind.file_type,
            FileType::Fifo | FileType::CharacterDevice | FileType::Unknown
        );
        let fd = if is_shared { fd.try_clone()? } else { slot.take().ok_or(Errno::BADF)? };
        let descriptor = match kind.file_type {
            FileType::Socket => Descriptor::Socket(sys::watch(fd, interest)?),
            _ if is_shared => Descriptor::shared(fd, interest)?,
            _ => Descriptor::File(WaitlessFile::new(fd, kind)),
        };
        *slot = None;
        Ok(descriptor)
    }

    /// A pipe or device that is used as it is.
    ///
    /// # Errors
    /// Failures of the system.
    pub(super) fn shared(fd: Foreign, interest: Interest) -> io::Result<Descriptor> {
        let file = fd.try_clone()?;
        match Shared::new(fd, interest) {
            Ok(shared) => Ok(Descriptor::Shared(shared)),
            // /dev/null and its like are always ready and can't be waited for.
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                let kind = Kind::of(&file)?;
                Ok(Descriptor::File(WaitlessFile::new(file, kind)))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether this is the side of a terminal that programs use.
fn is_terminal(fd: &Foreign, kind: Kind) -> bool {
    kind.device != TERMINAL_MASTER && rustix::termios::isatty(fd)
}
