//! The calls that rustix leaves to a C library: signal dispositions, fork, and borrowing a
//! descriptor by its number.
#![allow(unsafe_code)]

mod modes;
mod signal;

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::process::Pid;

pub(crate) use modes::ChangedModes;
pub(crate) use signal::{default_signals, report_deaths, report_window_changes, suspend};

/// Borrows a descriptor that this process inherited, if it is open.
///
/// Meant for numbers that the environment names: nothing in this process owns them, so nothing
/// closes them.
pub(crate) fn inherited(number: RawFd) -> Option<BorrowedFd<'static>> {
    if number <= libc::STDERR_FILENO {
        return None;
    }
    // SAFETY: F_GETFD takes any number, and fails for one that is not open.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the number is open, was inherited, and no code of this process closes it.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Which side of a fork this is.
pub(crate) enum Fork {
    /// The process that called, and the id of the new one.
    Parent(Pid),
    /// The new one.
    Child,
}

/// Forks. The caller must have no other thread, as only the calling one lives in the child.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the shim has one thread, so no lock is held by one that is missing in the child.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid if pid > 0 => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(io::Error::last_os_error),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends a forked process at once: what its parent has begun to write is the parent's.
pub(crate) fn exit_now() -> ! {
    // SAFETY: _exit does not return, and runs nothing of this process.
    unsafe { libc::_exit(0) }
}
