//! Starts a program as sshd does: login shell, home directory, three pipes, a session of its own.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::{Hello, ProgramKind, Refusal, RefusalReason, Spawn};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Rlimit, Signal, WaitId, WaitIdOptions};

use crate::program::account::Account;
use crate::program::helper::HelperStdio;
use crate::program::subsystem;
use crate::sftp;
use crate::sys::{self, ChildSetup};

/// Variables that a shell sets for itself, and that are those of another process here.
const NOT_INHERITED: [&str; 4] = ["OLDPWD", "PWD", "SHLVL", "_"];

/// Variables that are ours begin so.
const OUR_PREFIX: &[u8] = b"FAKESSH_";

/// Variables that no invocation may set: they say who the account is.
const NOT_SETTABLE: [&[u8]; 4] = [b"USER", b"LOGNAME", b"HOME", b"SHELL"];

/// Where sshd looks for programs (its `_PATH_STDPATH`), for a target that sets no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// A program that runs, with our ends of its streams.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) pid: Pid,
    /// Becomes readable when the program ends. `None` where the kernel has no such thing.
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    /// `None` where standard error is dropped.
    pub(crate) stderr: Option<OwnedFd>,
    /// What a helper has beyond that.
    pub(crate) helper_stdio: Option<HelperStdio>,
}

/// What every program of this slave gets.
#[derive(Debug)]
pub(crate) struct Launcher {
    account: Account,
    environment: Vec<(OsString, OsString)>,
    child_setup: ChildSetup,
    /// The file that this process runs, or why it could not be opened.
    program: Result<File, Errno>,
}

impl Launcher {
    /// Programs of this account, with this limit of descriptors and our own environment.
    /// `program` is the file that this process runs.
    pub(crate) fn new(
        account: Account,
        descriptors: Rlimit,
        program: Result<File, Errno>,
    ) -> Launcher {
        let directory = CString::new(account.home.clone()).unwrap_or_else(|_| c"/".to_owned());
        let environment = login_environment(&account);
        Launcher {
            account,
            environment,
            child_setup: ChildSetup { directory, descriptors },
            program,
        }
    }

    /// Who we are, for the master.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            user: String::from_utf8_lossy(&self.account.name).into_owned(),
            uid: self.account.uid,
            home: String::from_utf8_lossy(&self.account.home).into_owned(),
            pid: rustix::process::getpid().as_raw_nonzero().get().unsigned_abs(),
        }
    }

    /// Starts a program. It runs when this returns.
    ///
    /// # Errors
    /// What the master is to be told.
    pub(crate) fn start(&self, spawn: &Spawn) -> Result<Program, Refusal> {
        match &spawn.program {
            ProgramKind::Helper(helper) => return self.start_helper(helper, &spawn.environment),
            ProgramKind::Connection { host, port } => return self.start_connection(host, *port),
            ProgramKind::Program(argv) => return self.start_program(argv, &spawn.environment),
            ProgramKind::Subsystem(name) if subsystem::is_ours(name) => {
                let started = self.start_sftp(&spawn.environment);
                return started.map_err(|error| refusal(&error, "the SFTP server", 0));
            }
            _ => {}
        }
        let (mut command, len) = self.command(&spawn.program)?;
        self.prepare(&mut command, &spawn.environment);
        let is_subsystem = matches!(spawn.program, ProgramKind::Subsystem(_));
        launch(command, is_subsystem).map_err(|error| {
            let shell = self.account.shell().to_string_lossy();
            refusal(&error, &format!("the login shell {shell}"), len)
        })
    }

    /// Gives a program the login's environment with these variables, and all else that every
    /// program gets.
    pub(crate) fn prepare(&self, command: &mut Command, variables: &[(Vec<u8>, Vec<u8>)]) {
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        for (name, value) in variables.iter().filter(|(name, value)| may_set(name, value)) {
            command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
        sys::prepare_child(command, self.child_setup.clone());
    }

    /// The value of a variable in the login's environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        let (_, value) = self.environment.iter().find(|(other, _)| other == name)?;
        Some(value)
    }

    /// The account's home directory.
    pub(crate) fn home(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.account.home))
    }

    /// The file that this process runs, open for reading. Its name is gone from the disk.
    ///
    /// # Errors
    /// Where it could not be opened when the slave started.
    pub(crate) fn program(&self) -> io::Result<&File> {
        self.program.as_ref().map_err(|error| (*error).into())
    }

    /// What every program finds when it starts.
    pub(crate) fn child_setup(&self) -> &ChildSetup {
        &self.child_setup
    }

    /// The login shell with the arguments for this program, and how long its command line is.
    fn command(&self, program: &ProgramKind) -> Result<(Command, usize), Refusal> {
        let shell = self.account.shell();
        let name = Path::new(shell).file_name().unwrap_or(shell);
        let mut command = Command::new(shell);
        let line = match program {
            ProgramKind::Login => {
                let mut dashed = OsString::from("-");
                dashed.push(name);
                command.arg0(dashed);
                return Ok((command, 0));
            }
            ProgramKind::Shell(line) => line.clone(),
            ProgramKind::Subsystem(name) => subsystem::command(name)
                .ok_or_else(|| Refusal {
                    reason: RefusalReason::NotFound,
                    message: format!("the target has no subsystem {name:?}"),
                })?
                .into_bytes(),
            ProgramKind::Helper(_)
            | ProgramKind::Connection { .. }
            | ProgramKind::Tool(_)
            | ProgramKind::Program(_) => {
                let message = "this is no command line for a shell".to_owned();
                return Err(Refusal { reason: RefusalReason::Other, message });
            }
        };
        command.arg0(name).arg("-c").arg(OsStr::from_bytes(&line));
        Ok((command, line.len()))
    }

    /// Starts a program without a shell in between.
    fn start_program(
        &self,
        argv: &[Vec<u8>],
        variables: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Program, Refusal> {
        let (mut command, name) = direct_command(argv, "program")?;
        self.prepare(&mut command, variables);
        launch(command, false).map_err(|error| refusal(&error, &name, length(argv)))
    }

    /// Starts the slave's own SFTP server.
    fn start_sftp(&self, variables: &[(Vec<u8>, Vec<u8>)]) -> io::Result<Program> {
        let (child_stdin, stdin) = pipe_to_program()?;
        let (stdout, child_stdout) = pipe_from_program()?;
        let variables: Vec<(&OsStr, &OsStr)> = variables
            .iter()
            .filter(|(name, value)| may_set(name, value))
            .map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value)))
            .collect();
        let pid =
            sftp::start(&self.account, &self.child_setup, &variables, child_stdin, child_stdout)?;
        let pidfd = watch_for_end(pid)?;
        Ok(Program { pid, pidfd, stdin, stdout, stderr: None, helper_stdio: None })
    }
}

/// A command of these words, and its name for messages; `what` it is.
///
/// # Errors
/// If there is no first word.
pub(crate) fn direct_command(argv: &[Vec<u8>], what: &str) -> Result<(Command, String), Refusal> {
    let [name, arguments @ ..] = argv else {
        let message = format!("a {what} without a name can't be started");
        return Err(Refusal { reason: RefusalReason::NotFound, message });
    };
    let name = OsStr::from_bytes(name);
    let mut command = Command::new(name);
    command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
    Ok((command, name.to_string_lossy().into_owned()))
}

/// How long these words are for the kernel.
pub(crate) fn length(argv: &[Vec<u8>]) -> usize {
    argv.iter().map(|argument| argument.len() + 1).sum()
}

/// Starts a program with three pipes, or two.
pub(crate) fn launch(mut command: Command, drop_stderr: bool) -> io::Result<Program> {
    let (child_stdin, stdin) = pipe_to_program()?;
    let (stdout, child_stdout) = pipe_from_program()?;
    let (stderr, child_stderr) = if drop_stderr {
        (None, Stdio::null())
    } else {
        let (stderr, child_stderr) = pipe_from_program()?;
        (Some(stderr), Stdio::from(child_stderr))
    };
    command.stdin(child_stdin).stdout(child_stdout).stderr(child_stderr);
    let pid = Pid::from_child(&command.spawn()?);
    let pidfd = watch_for_end(pid)?;
    Ok(Program { pid, pidfd, stdin, stdout, stderr, helper_stdio: None })
}

/// A pipe for a program's input: its end, and ours. Only ours is non-blocking: each end is a
/// description of its own.
pub(crate) fn pipe_to_program() -> io::Result<(OwnedFd, OwnedFd)> {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((theirs, ours))
}

/// A pipe for a program's output: our end, which alone is non-blocking, and its.
pub(crate) fn pipe_from_program() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

/// What becomes readable when a program that has just been started ends; `None` where the kernel
/// has no such thing.
///
/// # Errors
/// Where there are no more descriptors. A program whose end we could not see would stay for ever:
/// it is killed.
pub(crate) fn watch_for_end(pid: Pid) -> io::Result<Option<OwnedFd>> {
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(Errno::NOSYS) => Ok(None),
        Err(error) => {
            destroy(pid);
            Err(error.into())
        }
    }
}

/// What to tell the master of a program that did not start: `what` it was, and how long its
/// command line was.
pub(crate) fn refusal(error: &io::Error, what: &str, len: usize) -> Refusal {
    let (reason, message) = match Errno::from_io_error(error) {
        Some(Errno::TOOBIG) => (
            RefusalReason::Limit,
            format!("the command of {len} bytes is longer than the target accepts"),
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

/// Our own environment, less what is ours or of this process alone. What sshd sets from the
/// account's entry is added where it is missing.
fn login_environment(account: &Account) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> = env::vars_os()
        .filter(|(name, _)| {
            !NOT_INHERITED.iter().any(|other| name == other)
                && !name.as_bytes().starts_with(OUR_PREFIX)
        })
        .collect();
    let login: [(&str, &[u8]); 5] = [
        ("USER", &account.name),
        ("LOGNAME", &account.name),
        ("HOME", &account.home),
        ("SHELL", &account.shell),
        ("PATH", DEFAULT_PATH.as_bytes()),
    ];
    for (name, value) in login {
        if !environment.iter().any(|(other, _)| other == name) {
            environment.push((name.into(), OsStr::from_bytes(value).to_owned()));
        }
    }
    environment
}

/// Whether an invocation may set this variable, and whether it is one at all.
fn may_set(name: &[u8], value: &[u8]) -> bool {
    let is_variable = !name.is_empty() && !name.contains(&b'=') && !name.contains(&0);
    is_variable && !value.contains(&0) && !name.starts_with(b"LD_") && !NOT_SETTABLE.contains(&name)
}

/// Whether the kernel has pidfds: Linux 5.3 and later.
pub(crate) fn has_pidfds() -> bool {
    let ours = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    !matches!(ours, Err(Errno::NOSYS))
}

/// How a program ended, where it has. It stays a zombie, and its number its own.
pub(crate) fn look_for_end(pid: Pid) -> Option<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let status = rustix::process::waitid(WaitId::Pid(pid), options).ok()??;
    Some(match status.terminating_signal() {
        Some(number) => ExitStatus::Signal(number as u8),
        None => ExitStatus::Code(status.exit_status().unwrap_or_default() as u8),
    })
}

/// Kills a program that has just been started, and waits until it is gone. What was forked alone
/// may not lead a group yet, so the process is killed as well.
pub(crate) fn destroy(pid: Pid) {
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
}

/// Lets a program that has ended go. Its number may be another's from here on.
pub(crate) fn reap(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let _ = rustix::process::waitid(WaitId::Pid(pid), options);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_say_who_we_are_or_what_to_load_are_not_set() {
        assert!(may_set(b"LC_ALL", b"C") && may_set(b"EMPTY", b""));
        for name in [&b"LD_PRELOAD"[..], b"HOME", b"USER", b"LOGNAME", b"SHELL", b"", b"A=B"] {
            assert!(!may_set(name, b"x"), "{name:?}");
        }
        assert!(!may_set(b"A", b"nul\0"));
    }

    #[test]
    fn a_program_that_leads_no_group_is_destroyed_too() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let input = child.stdin.take();
        let (done, is_done) = std::sync::mpsc::channel();
        let destroying = std::thread::spawn(move || {
            destroy(pid);
            let _ = done.send(());
        });
        // It hangs for as long as there may be input.
        let guard = std::time::Duration::from_secs(60);
        assert!(is_done.recv_timeout(guard).is_ok(), "it hangs");
        destroying.join().unwrap();
        drop(input);
        assert!(child.wait().is_err(), "it is reaped");
    }
}
