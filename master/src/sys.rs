//! The few calls that the compiler can't check.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for a descriptor with tokio. Its flags stay as they are.
///
/// # Errors
/// Where it can't be waited for (files, some devices), or a limit is reached.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, names the same descriptor each time, and is owned by the AsyncFd
    // until that is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
