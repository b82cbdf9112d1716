//! Starts a process with pipes of ours or on a terminal, and says why one could not be started.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use fakessh_protocol::message::{ProgramSetup, Refusal, RefusalReason};
use fakessh_protocol::terminal::TerminalRequest;
use rustix::io::Errno;
use rustix::process::Pid;

use super::self_upload::SelfUpload;
use super::terminal::{Ends, Pty};
use crate::{child, pipe, sys};

/// A program that runs, with our ends of its streams.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) pid: Pid,
    /// Becomes readable when the program ends. `None` if the kernel has no pidfds.
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    /// `None` if standard error is dropped.
    pub(crate) stderr: Option<OwnedFd>,
    /// What its standard streams are.
    pub(crate) stdio: ProgramStdio,
}

/// What the standard streams of a program are.
#[derive(Debug)]
pub(crate) enum ProgramStdio {
    /// Pipes.
    Pipes,
    /// Those of a helper: its standard input and output are pipes.
    Helper {
        /// The terminal that it asks on. What is written there comes on standard error.
        terminal: Option<Ends>,
        /// What goes to its standard input first.
        upload: Option<SelfUpload>,
    },
    /// A terminal. What is written there comes on standard output.
    Terminal(Ends),
}

/// Starts a program on the terminal that its setup asks for, or with three pipes, or two.
pub(super) fn start_program(
    command: Command,
    setup: &ProgramSetup,
    drop_stderr: bool,
) -> io::Result<Program> {
    match &setup.terminal {
        Some(terminal) => on_terminal(command, terminal),
        None => with_pipes(command, drop_stderr),
    }
}

fn on_terminal(mut command: Command, request: &TerminalRequest) -> io::Result<Program> {
    let no_terminal = |error: Errno| match error {
        Errno::MFILE | Errno::NFILE => error.into(),
        error => io::Error::other(format!("the target has no terminal to give: {error}")),
    };
    let Pty { master, side } = Pty::like(request).map_err(no_terminal)?;
    let (stdout, shown) = pipe::from_child()?;
    let stdin = master.try_clone()?;
    if let Ok(name) = rustix::pty::ptsname(&master, Vec::new()) {
        command.env("SSH_TTY", OsStr::from_bytes(name.to_bytes()));
    }
    command.stdin(side.try_clone()?).stdout(side.try_clone()?).stderr(side);
    sys::take_terminal(&mut command);
    let ends = Ends::new(master, shown)?;
    let pid = Pid::from_child(&command.spawn()?);
    let pidfd = child::pidfd(pid)?;
    let stdio = ProgramStdio::Terminal(ends);
    Ok(Program { pid, pidfd, stdin, stdout, stderr: None, stdio })
}

fn with_pipes(mut command: Command, drop_stderr: bool) -> io::Result<Program> {
    let (child_stdin, stdin) = pipe::to_child()?;
    let (stdout, child_stdout) = pipe::from_child()?;
    let (stderr, child_stderr) = if drop_stderr {
        (None, Stdio::null())
    } else {
        let (stderr, child_stderr) = pipe::from_child()?;
        (Some(stderr), Stdio::from(child_stderr))
    };
    command.stdin(child_stdin).stdout(child_stdout).stderr(child_stderr);
    let pid = Pid::from_child(&command.spawn()?);
    let pidfd = child::pidfd(pid)?;
    Ok(Program { pid, pidfd, stdin, stdout, stderr, stdio: ProgramStdio::Pipes })
}

/// A command of these words, and its name for messages. `what` says which kind of program it is.
///
/// # Errors
/// If there is no first word.
pub(super) fn direct_command(argv: &[Vec<u8>], what: &str) -> Result<(Command, String), Refusal> {
    let [name, arguments @ ..] = argv else {
        let message = format!("a {what} without a name can't be started");
        return Err(Refusal { reason: RefusalReason::NotFound, message });
    };
    let name = OsStr::from_bytes(name);
    let mut command = Command::new(name);
    command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
    Ok((command, name.to_string_lossy().into_owned()))
}

/// Bytes that these words take of the kernel's limit for a command line.
pub(super) fn length(argv: &[Vec<u8>]) -> usize {
    argv.iter().map(|argument| argument.len() + 1).sum()
}

/// Tells the master why a program did not start: `what` it was, and how long its command line was.
pub(super) fn refusal(error: &io::Error, what: &str, len: usize) -> Refusal {
    let (reason, message) = match Errno::from_io_error(error) {
        Some(Errno::TOOBIG) => (
            RefusalReason::Other,
            format!(
                "the command of {len} bytes and its variables are longer than the target accepts"
            ),
        ),
        Some(Errno::MFILE | Errno::NFILE) => (
            RefusalReason::Limit,
            format!("the target is at its limit of open descriptors: {error}"),
        ),
        Some(Errno::AGAIN | Errno::NOMEM) => (
            RefusalReason::Limit,
            format!("the target is at its limit of processes or memory: {error}"),
        ),
        Some(Errno::NOENT | Errno::NOTDIR) => {
            (RefusalReason::NotFound, format!("can't start {what}: {error}"))
        }
        _ => (RefusalReason::Other, format!("can't start {what}: {error}")),
    };
    Refusal { reason, message }
}
