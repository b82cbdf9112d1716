//! What a descriptor is, and how it can be waited for without changing it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// A descriptor, by the way in which it is used.
#[derive(Debug)]
pub(super) enum Descriptor {
    /// A description of our own with `O_NONBLOCK`, to be used with read and write.
    Reopened(AsyncFd<OwnedFd>),
    /// A socket that others share, to be used with `MSG_DONTWAIT`.
    Socket(AsyncFd<OwnedFd>),
    /// A file, or anything that can't be waited for: for the blocking pool.
    Blocking(File),
}

impl Descriptor {
    /// Finds out what `fd` is. `fd` itself is closed where another description takes its place.
    ///
    /// # Errors
    /// A pipe whose other side is gone, and failures of the system.
    pub(super) fn new(fd: OwnedFd, access: OFlags, interest: Interest) -> io::Result<Descriptor> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        match kind {
            FileType::Socket => Ok(Descriptor::Socket(sys::watch(fd, interest)?)),
            FileType::Fifo | FileType::CharacterDevice => match reopen(&fd, access) {
                Ok(own) => match sys::watch(own, interest) {
                    Ok(own) => Ok(Descriptor::Reopened(own)),
                    // /dev/null and its like are always ready and can't be waited for.
                    Err(_) => Ok(Descriptor::Blocking(fd.into())),
                },
                // The reader of this pipe is gone.
                Err(rustix::io::Errno::NXIO) if kind == FileType::Fifo => {
                    Err(io::ErrorKind::BrokenPipe.into())
                }
                // Another user's pipe or terminal: it was given to us, but not to be opened.
                Err(_) => Ok(Descriptor::Blocking(fd.into())),
            },
            _ => Ok(Descriptor::Blocking(fd.into())),
        }
    }
}

fn reopen(fd: &OwnedFd, access: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}
