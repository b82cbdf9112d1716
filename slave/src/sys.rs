//! Calls that the compiler can't check: raw descriptors, signal dispositions, and code that runs
//! between fork and exec.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_uint};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit, Signal};

/// More descriptors than the slave has open when it serves all the sessions that it may.
const MAX_DESCRIPTORS: RawFd = 128 * 1024;

/// The highest signal number of Linux.
const LAST_SIGNAL: c_int = 64;

/// Gives every signal its default disposition, for ourselves and for what we start. SIGPIPE is
/// ignored in this process: a broken pipe is an error of one session.
pub(crate) fn default_dispositions() {
    for number in 1..=LAST_SIGNAL {
        // SAFETY: no handler is installed; numbers that can't be set (KILL, STOP, those of the C
        // library itself) are refused with an error.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    ignore(Signal::PIPE);
}

/// Forks this process. Returns the child in the parent, and `None` in the child.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// An allocation of at least this size gets memory of its own, which goes back when it is freed:
/// the buffer of a program that does not read can have megabytes.
#[cfg(target_env = "gnu")]
const OWN_MEMORY: c_int = 64 * 1024;

/// Keeps the allocator from holding on to memory that a burst has needed. The GNU allocator would,
/// since it raises this threshold with each large buffer that it frees; musl's does not.
pub(crate) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: sets a number of the allocator; a value that it does not like is refused.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MEMORY) };
    }
}

/// The descriptor that [`child_ended`] writes to; -1 before there is one.
static ENDED: AtomicI32 = AtomicI32::new(-1);

/// Reports each SIGCHLD by a byte on the returned descriptor, for kernels without pidfds (before
/// Linux 5.3). It does so until the end of the process; programs have the default disposition.
pub(crate) fn report_children() -> io::Result<OwnedFd> {
    let (reports, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    ENDED.store(writer.into_raw_fd(), Ordering::Relaxed);
    let handler: extern "C" fn(c_int) = child_ended;
    // SAFETY: the handler makes one system call, touches no errno, and is never removed.
    unsafe { libc::signal(libc::SIGCHLD, handler as libc::sighandler_t) };
    Ok(reports)
}

extern "C" fn child_ended(_: c_int) {
    let fd = ENDED.load(Ordering::Relaxed);
    if fd >= 0 {
        // SAFETY: `report_children` gave this descriptor up to us, and nothing closes it.
        let writer = unsafe { BorrowedFd::borrow_raw(fd) };
        // A full pipe says as much as one byte more would.
        let _ = rustix::io::write(writer, &[0]);
    }
}

/// Ignores a signal in this process.
pub(crate) fn ignore(number: Signal) {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(number.as_raw(), libc::SIG_IGN) };
}

/// The signal of this number, real-time signals included; `None` if Linux has no such signal.
pub(crate) fn signal_from_number(number: u8) -> Option<Signal> {
    if number == 0 || c_int::from(number) > LAST_SIGNAL {
        return None;
    }
    // SAFETY: the number is in the range that Linux defines. It is only passed to kill(2), which
    // is free to send those that the C library keeps for itself.
    Some(unsafe { Signal::from_raw_unchecked(c_int::from(number)) })
}

/// Closes every descriptor from `first` on: while a pipe stays open in here, its other end sees no
/// end of file. For a process that owns none of them: it has just started, or was forked and never
/// uses what it had before.
pub(crate) fn close_from(first: RawFd) {
    let (from, to, flags) = (first as c_uint, c_uint::MAX, 0 as c_uint);
    // SAFETY: three numbers are what the call takes; the caller uses none of the descriptors.
    if unsafe { libc::syscall(libc::SYS_close_range, from, to, flags) } == 0 {
        return;
    }
    // An older kernel, or a sandbox.
    match fakessh_unix::fd_limit::open_numbers() {
        Ok(open) => open.into_iter().filter(|fd| *fd >= first).for_each(close_if_open),
        Err(_) => {
            // The soft limit may be lower by now than when they were opened.
            let limit = rustix::process::getrlimit(Resource::Nofile).maximum;
            let limit = limit.and_then(|limit| RawFd::try_from(limit).ok());
            let end = limit.map_or(MAX_DESCRIPTORS, |limit| limit.min(MAX_DESCRIPTORS));
            (first..end).for_each(close_if_open);
        }
    }
}

fn close_if_open(fd: RawFd) {
    // SAFETY: nothing in this process owns the descriptor, as `close_from` demands.
    unsafe {
        if rustix::io::fcntl_getfd(BorrowedFd::borrow_raw(fd)).is_ok() {
            rustix::io::close(fd);
        }
    }
}

/// The working directory and the limits that a program starts with.
#[derive(Clone, Debug)]
pub(crate) struct ChildSetup {
    /// The working directory. If it can't be entered, the program starts in the root directory.
    pub(crate) directory: CString,
    /// The directory that the invocation asks for, relative to the working directory. If it can't be
    /// entered, the program does not start.
    pub(crate) starts_in: Option<CString>,
    /// Its limit of open descriptors: the one that we were started with.
    pub(crate) descriptors: Rlimit,
}

/// Makes the program that `command` starts a leader of its own session, with default signal
/// dispositions, in its directory and with its limits. It gets SIGHUP when we die first.
pub(crate) fn prepare_child(command: &mut Command, child_setup: ChildSetup) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure makes system calls alone; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || set_up_child(parent, &child_setup)) };
}

/// What a child of `parent` does first. Makes system calls alone.
///
/// # Errors
/// If a call fails that must not, or the parent is gone.
pub(crate) fn set_up_child(parent: Pid, child_setup: &ChildSetup) -> io::Result<()> {
    // SAFETY: signal(2) may be called between fork and exec, and sets no handler.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
    rustix::process::setsid()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::HUP))?;
    if rustix::process::getppid() != Some(parent) {
        return Err(io::Error::from(rustix::io::Errno::SRCH));
    }
    if rustix::process::chdir(child_setup.directory.as_c_str()).is_err() {
        rustix::process::chdir(c"/")?;
    }
    if let Some(directory) = &child_setup.starts_in {
        rustix::process::chdir(directory.as_c_str())?;
    }
    rustix::process::setrlimit(Resource::Nofile, child_setup.descriptors)?;
    Ok(())
}

/// Makes the terminal that is the program's standard error its controlling terminal. Comes after
/// [`prepare_child`], which makes it the leader of a session.
pub(crate) fn take_terminal(command: &mut Command) {
    let take = || -> io::Result<()> {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stderr())?;
        Ok(())
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(take) };
}

/// Gives the program a descriptor under the number that it has here. The command closes it here.
pub(crate) fn inherit(command: &mut Command, fd: OwnedFd) {
    let give = move || -> io::Result<()> {
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty())?;
        Ok(())
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(give) };
}

/// The descriptors of a stream, to be read and to be written, for a program whose standard ones are
/// a terminal.
const STREAM: [RawFd; 2] = [3, 4];

/// Gives the program `incoming` as descriptor 3 and `outgoing` as 4. The command closes the two
/// here.
///
/// # Errors
/// If there are no more descriptors.
pub(crate) fn give_stream(
    command: &mut Command,
    incoming: OwnedFd,
    outgoing: OwnedFd,
) -> io::Result<()> {
    let duplicate = |fd: &OwnedFd, from| rustix::io::fcntl_dupfd_cloexec(fd, from);
    // Neither may have the number that the other gets. Nor may the descriptor over which std reports
    // a failed exec: so the numbers are taken in this process.
    let above = STREAM[1] + 1;
    let sources = [duplicate(&incoming, above)?, duplicate(&outgoing, above)?];
    let mut taken = Vec::new();
    for _ in STREAM {
        taken.push(duplicate(&incoming, STREAM[0])?);
    }
    let give = move || -> io::Result<()> {
        let _ = &taken;
        for (source, number) in sources.iter().zip(STREAM) {
            // SAFETY: this is the child, before exec. The descriptor of this number is a copy of the
            // parent's, which nothing uses in here, and this value does not close it.
            let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
            rustix::io::dup2(source, &mut target)?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls alone.
    unsafe { command.pre_exec(give) };
    Ok(())
}
