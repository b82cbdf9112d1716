//! The few calls that the compiler can't check.
#![allow(unsafe_code)]

pub(crate) mod scrub;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::pump::Foreign;

/// What owns a descriptor.
///
/// # Safety
/// As long as it lives, the descriptor is open, and it names the same one each time.
pub(crate) unsafe trait Owner: AsRawFd {}

// SAFETY: nobody can close it, or put another one in its place, without taking it.
unsafe impl Owner for OwnedFd {}

// SAFETY: it holds an OwnedFd until it is dropped, and never another one.
unsafe impl Owner for Foreign {}

/// Waits for a descriptor with tokio. Its flags stay as they are.
///
/// # Errors
/// Where it can't be waited for (files, some devices), or a limit is reached.
pub(crate) fn watch<T: Owner>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: an Owner is open, names the same descriptor each time, and is owned by the AsyncFd
    // until that is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Forks. The parent exits with status 0, and the child goes on.
///
/// To be called while this process has one thread.
///
/// # Errors
/// As fork(2).
pub(crate) fn go_on_in_child() -> io::Result<()> {
    // SAFETY: by the contract above no other thread holds a lock that the child would wait for.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        // SAFETY: _exit(2) runs nothing of this process.
        _ => unsafe { libc::_exit(0) },
    }
}

/// Closes descriptors that this process was started with and never uses.
///
/// To be called before anything of this process has opened a descriptor: then the numbers belong
/// to nobody here, and those that are closed meanwhile do no harm.
pub(crate) fn close_all(fds: &[RawFd]) {
    for &fd in fds {
        // SAFETY: by the contract above no object of this process owns the descriptor. It may be
        // closed already (the one that listed the others), so it is looked at first.
        unsafe {
            if rustix::io::fcntl_getfd(BorrowedFd::borrow_raw(fd)).is_ok() {
                rustix::io::close(fd);
            }
        }
    }
}

/// Reads into the spare room of `bytes` from where the file's position is, without waiting for a
/// disk (preadv2(2), `RWF_NOWAIT`). Nothing read is the end, or the kernel's mistake for it.
///
/// # Errors
/// `EAGAIN` where it would have to wait; others where the file or the kernel can't do this.
pub(crate) fn read_at_once(file: impl AsFd, bytes: &mut Vec<u8>) -> io::Result<()> {
    const HERE: libc::c_long = -1;
    let room = bytes.spare_capacity_mut();
    let piece = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the kernel writes no more than the room that the vector owns. The call is made by its
    // number since not every C library has it; the offset goes in two halves.
    let read = unsafe {
        libc::syscall(libc::SYS_preadv2, fd, &piece, 1_usize, HERE, HERE, libc::RWF_NOWAIT)
    };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled so many bytes behind those that were there.
    unsafe { bytes.set_len(bytes.len() + read) };
    Ok(())
}

/// From how many bytes on a socket counts as readable (socket(7), `SO_RCVLOWAT`). Its end and its
/// errors are told of whatever this is.
///
/// # Errors
/// As setsockopt(2).
pub(crate) fn set_receive_low_water(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let fd = socket.as_fd().as_raw_fd();
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes, which is what the plain number behind the pointer has.
    let set = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const value).cast(), len)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has a program start with this limit of open files.
pub(crate) fn set_descriptor_limit(command: &mut Command, limit: Rlimit) {
    let set = move || Ok(setrlimit(Resource::Nofile, limit)?);
    // SAFETY: between fork and exec it makes one system call, and neither allocates nor locks: the
    // limit is a plain value, and so is the error.
    unsafe { command.pre_exec(set) };
}

/// Makes the allocator keep what was freed for the next piece of bulk, instead of giving pages back
/// to the kernel and getting them anew, zeroed, for every chunk.
///
/// Up to 64 MiB are kept. To be called at the start of a master, before there are threads.
pub(crate) fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        const KEPT: libc::c_int = 64 * 1024 * 1024;
        const LARGE: libc::c_int = 4 * 1024 * 1024;
        // SAFETY: mallopt(3) takes plain numbers; it is not called by two threads at once.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}
