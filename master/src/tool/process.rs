//! Starts a tool and waits for it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use command_fds::{CommandFdExt, FdMapping};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

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
/// SIGTERM and SIGHUP are passed on to it; SIGINT and SIGQUIT come from a terminal, which gives
/// them to the tool as well, and only it decides what they mean. Cancelled, it leaves the tool
/// running.
///
/// # Errors
/// Where it can't be started: see [`status_of_failed_start`].
pub async fn run(tool: Command) -> io::Result<u8> {
    // Before the tool is there, so that no signal finds nobody.
    let mut signals = Signals::new()?;
    let mut child = tokio::process::Command::from(tool).spawn()?;
    let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
    loop {
        tokio::select! {
            status = child.wait() => return Ok(shell_status(status?)),
            number = signals.next() => {
                if let Some(pid) = pid {
                    let _ = kill_process(pid, number);
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

/// Signals that this process outlives, as far as they were not ignored when it started.
struct Signals {
    passed_on: Vec<(tokio::signal::unix::Signal, Signal)>,
    /// Caught and left to the tool.
    _left: Vec<tokio::signal::unix::Signal>,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        let ignored = ignored_signals();
        let is_ignored = |kind: SignalKind| ignored >> (kind.as_raw_value() - 1) & 1 == 1;
        let mut left = Vec::new();
        for kind in [SignalKind::interrupt(), SignalKind::quit()] {
            if !is_ignored(kind) {
                left.push(signal(kind)?);
            }
        }
        let mut passed_on = Vec::new();
        let kinds = [(SignalKind::terminate(), Signal::TERM), (SignalKind::hangup(), Signal::HUP)];
        for (kind, number) in kinds {
            if !is_ignored(kind) {
                passed_on.push((signal(kind)?, number));
            }
        }
        Ok(Signals { passed_on, _left: left })
    }

    /// The next signal to pass on. Cancel safe.
    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (signal, number) in &mut self.passed_on {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// The signals that this process was started with as ignored, as a mask (proc(5), SigIgn): nohup
/// and shells without job control mean it, and the tool inherits it.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
