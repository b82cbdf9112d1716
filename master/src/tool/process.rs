//! Starts a tool and waits for it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use command_fds::{CommandFdExt, FdMapping};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::signals::{Signals, is_stopped, stop};
use super::{RunDirectory, descriptor_for_tool, environment};

/// The status of a shell for a program that does not exist.
const NOT_FOUND: u8 = 127;

/// The status of a shell for a program that can't be executed.
const NOT_EXECUTABLE: u8 = 126;

/// A run's socket pair: one end for the tool, one for the master.
///
/// # Errors
/// As socketpair(2).
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A tool that is ready to be started: its `ssh` leads to the run of `socket`.
///
/// # Errors
/// Failures of the system.
pub fn prepare(
    program: impl AsRef<OsStr>,
    directory: &RunDirectory,
    socket: &OwnedFd,
) -> io::Result<Command> {
    let inherited = descriptor_for_tool(socket)?;
    let variables = environment(directory.path(), &inherited)?;
    let number = inherited.as_raw_fd();
    let mut tool = Command::new(program);
    tool.envs(variables);
    let mapping = FdMapping { parent_fd: inherited, child_fd: number };
    tool.fd_mappings(vec![mapping]).map_err(io::Error::other)?;
    Ok(tool)
}

/// Runs a tool to its end, and gives its exit status as a shell would: 128+n where signal n killed
/// it. Its standard streams, directory and process group are this process's.
///
/// Signals to this process are passed on to the tool, but for those that a terminal sends to both.
/// The tool alone decides what an interrupt or a stop means; when it stops, so does this process,
/// and not before: whoever waits for the job must not take the terminal back too early. Cancelled,
/// it leaves the tool running.
///
/// # Errors
/// Where it can't be started: see [`status_of_failed_start`].
pub async fn run(tool: Command) -> io::Result<u8> {
    // Before the tool is there, so that no signal finds nobody.
    let signals = Signals::new()?;
    let mut children = signal(SignalKind::child())?;
    let mut child = tokio::process::Command::from(tool).spawn()?;
    let tool = child.id().and_then(|id| Pid::from_raw(id as i32));
    loop {
        tokio::select! {
            status = child.wait() => return Ok(shell_status(status?)),
            came = signals.next() => {
                if let Some(tool) = tool {
                    signals.pass_on(came, tool);
                }
            }
            _ = children.recv() => {
                if tool.is_some_and(is_stopped) {
                    stop();
                }
            }
        }
    }
}

/// What a shell's status is for a program that could not be started.
pub fn status_of_failed_start(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

fn shell_status(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(number)) => 128 + number as u8,
        (None, None) => u8::MAX,
    }
}
