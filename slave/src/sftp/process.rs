//! Starts the server as a session's program.
//!
//! It is forked and executes nothing: the slave's file is gone from the disk by now, `/proc` need
//! not be there (a chroot), and what an emulator shows as `/proc/self/exe` may be itself. It has
//! what any program has: a session of its own, the home directory, the login's limits and mask,
//! the invocation's variables, and no descriptor but three.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::sys::{self, ChildSetup};

/// Name of the process in lists.
const NAME: &CStr = c"fakessh-sftp";

/// Exit status of a server that could not begin: as of one that ends without an answer.
const FAILED: i32 = 255;

/// Starts a server that reads from `input` and writes to `output`, both blocking. When this
/// returns, it leads its session and holds nothing of ours.
///
/// # Errors
/// If there is no descriptor, process or memory left.
pub(crate) fn start(
    home: &Path,
    child_setup: &ChildSetup,
    variables: &[(&OsStr, &OsStr)],
    input: OwnedFd,
    output: OwnedFd,
) -> io::Result<Pid> {
    let (settled, settling) = pipe_with(PipeFlags::CLOEXEC)?;
    let parent = rustix::process::getpid();
    if let Some(pid) = sys::fork()? {
        drop(settling);
        // It ends when the server closes all that it has inherited, or is gone.
        while let Err(rustix::io::Errno::INTR) = rustix::io::read(&settled, &mut [0; 1]) {}
        return Ok(pid);
    }
    let home = home.as_os_str().as_bytes().to_vec();
    // Nothing may unwind from here into the slave that this process is a copy of.
    let served = catch_unwind(AssertUnwindSafe(|| {
        sys::set_up_child(parent, child_setup)?;
        take_stdio(&input, &output)?;
        sys::close_from(3);
        super::sys::set_variables(variables);
        // If that is refused, the process keeps the slave's name.
        let _ = rustix::thread::set_name(NAME);
        Ok::<_, io::Error>(i32::from(super::serve(home)))
    }));
    std::process::exit(served.map_or(FAILED, |status| status.unwrap_or(FAILED)))
}

/// Makes these standard input and output. Standard error of a subsystem is dropped.
fn take_stdio(input: &OwnedFd, output: &OwnedFd) -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    // A bare root may have no devices. Then we keep the login's standard error: a closed one would
    // become a file of the client's.
    null.map_or(Ok(()), rustix::stdio::dup2_stderr)?;
    Ok(())
}
