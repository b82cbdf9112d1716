//! Leaves whoever started the daemon: its session, its directory, its descriptors.

use std::io;

use fakessh_unix::fd_limit;
use rustix::fs::{Mode, OFlags};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::sys;

/// Goes on in a process that is nobody's child, gets a session of its own, goes to `/`, and closes
/// every descriptor that was inherited but for standard input, output and error. The process that
/// was started ends: whoever started it waits for it, and has no child that it knows nothing of.
///
/// To be called first of all, while there is one thread.
///
/// # Errors
/// Failures of the system.
pub fn detach() -> io::Result<()> {
    sys::go_on_in_child()?;
    // Fails only for a process that leads a group already: then it has left its starter's.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    let open: Vec<_> = fd_limit::open_numbers()?.into_iter().filter(|&fd| fd > 2).collect();
    sys::close_all(&open);
    Ok(())
}

/// Puts `/dev/null` in the place of standard input, output and error: whoever waits for their end
/// must see it.
///
/// # Errors
/// Where `/dev/null` can't be opened.
pub fn let_go_of_stdio() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}
