//! Helpers: programs that lead to another account or into a container (`sudo`, `docker exec`).
//!
//! One starts in the login's environment like any program, with a terminal where it is to ask for
//! a password. Its standard input and output are the stream of a link.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fakessh_protocol::message::{Helper, HelperTerminal, Refusal, RefusalReason};
use fakessh_protocol::wire::Handle;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::event_loop::Slave;
use crate::poll::{Part, Poll};
use crate::program::launcher::{self, Launcher, Program};
use crate::program::self_upload::SelfUpload;
use crate::program::subsystem::is_executable;
use crate::program::terminal::{Ends, Pty};
use crate::session::{Session, Source};
use crate::sys;

/// Where a helper is looked for when it is not on the account's `PATH`: accounts other than root's
/// often lack what administrators use, and logins without a shell what snaps install.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin:/snap/bin";

/// What a helper has that other programs have not.
#[derive(Debug, Default)]
pub(crate) struct HelperStdio {
    /// Its terminal. What is written on it comes on standard error.
    pub(crate) terminal: Option<Ends>,
    /// What goes to its standard input first.
    pub(crate) upload: Option<SelfUpload>,
}

/// How a helper is connected, in the making.
struct Wiring {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    terminal: Option<Ends>,
}

impl Launcher {
    /// Starts a helper.
    ///
    /// # Errors
    /// What the master is to be told.
    pub(crate) fn start_helper(
        &self,
        helper: &Helper,
        variables: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Program, Refusal> {
        let [name, arguments @ ..] = &helper.argv[..] else {
            let message = "a helper without a name can't be started".to_owned();
            return Err(Refusal { reason: RefusalReason::Other, message });
        };
        let name = OsStr::from_bytes(name);
        let path = self.value(variables, "PATH").unwrap_or_default();
        let mut command = Command::new(find(name, &path)?);
        command.arg0(name).args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
        self.prepare(&mut command, variables);
        // Helpers are the master's own. On its host they read the files of whoever called it.
        let home = variables.iter().rev().find(|(name, _)| name == b"HOME");
        command.envs(home.map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value))));
        let len = helper.argv.iter().map(|argument| argument.len() + 1).sum();
        let failed = |error: &io::Error| launcher::refusal(error, &name.to_string_lossy(), len);

        let carry = || SelfUpload::new(self.program()?);
        let upload = helper.carries.then(carry).transpose().map_err(|error| Refusal {
            reason: RefusalReason::Other,
            message: format!(
                "the slave on the target can't read its own program, which {} is to carry: {error}",
                name.to_string_lossy()
            ),
        })?;
        let wants_terminal = helper.terminal != HelperTerminal::None;
        let pty = match wants_terminal.then(Pty::open).transpose() {
            Ok(pty) => pty,
            Err(error @ (Errno::MFILE | Errno::NFILE)) => return Err(failed(&error.into())),
            Err(_) if helper.terminal == HelperTerminal::Controlling => None,
            Err(error) => {
                let name = name.to_string_lossy();
                let message = format!(
                    "{name} asks for a password on a terminal, and the target has none to give: \
                     {error}",
                );
                return Err(Refusal { reason: RefusalReason::Other, message });
            }
        };
        let is_whole = helper.terminal == HelperTerminal::Whole;
        let wiring = wire_up(&mut command, pty, is_whole).map_err(|error| failed(&error))?;
        let pid = Pid::from_child(&command.spawn().map_err(|error| failed(&error))?);
        let pidfd = launcher::watch_for_end(pid).map_err(|error| failed(&error))?;
        let Wiring { stdin, stdout, stderr, terminal } = wiring;
        let helper_stdio = Some(HelperStdio { terminal, upload });
        Ok(Program { pid, pidfd, stdin, stdout, stderr: Some(stderr), helper_stdio })
    }
}

/// Makes pipes and terminal the helper's. Its own ends are closed with the command.
fn wire_up(command: &mut Command, pty: Option<Pty>, is_whole: bool) -> io::Result<Wiring> {
    let (child_stdin, stdin) = launcher::pipe_to_program()?;
    let (stdout, child_stdout) = launcher::pipe_from_program()?;
    let (stderr, said) = launcher::pipe_from_program()?;
    let Some(Pty { master, side }) = pty else {
        command.stdin(child_stdin).stdout(child_stdout).stderr(said);
        return Ok(Wiring { stdin, stdout, stderr, terminal: None });
    };
    if is_whole {
        command.stdin(side.try_clone()?).stdout(side.try_clone()?);
        sys::give_stream(command, child_stdin, child_stdout)?;
    } else {
        command.stdin(child_stdin).stdout(child_stdout);
    }
    command.stderr(side);
    sys::take_terminal(command);
    Ok(Wiring { stdin, stdout, stderr, terminal: Some(Ends::new(master, said)?) })
}

/// Where the helper of this name lies.
fn find(name: &OsStr, path: &OsStr) -> Result<PathBuf, Refusal> {
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let directories = [path.as_bytes(), SYSTEM_PATH.as_bytes()];
    let mut directories = directories.iter().flat_map(|path| path.split(|&byte| byte == b':'));
    let found = directories.find_map(|directory| {
        // What is relative, or empty, means a directory of whoever set it, and not ours.
        let path = Path::new(OsStr::from_bytes(directory)).join(name);
        (path.is_absolute() && !name.is_empty() && is_executable(&path)).then_some(path)
    });
    found.ok_or_else(|| {
        let mut message = OsString::from("the target has no program ");
        message.push(name);
        message.push(format!(" (looked for on the account's PATH and in {SYSTEM_PATH})"));
        let message = message.to_string_lossy().into_owned();
        Refusal { reason: RefusalReason::NotFound, message }
    })
}

impl Session {
    /// The terminal, or the pipe that what it shows goes into, is ready.
    pub(crate) fn serve_terminal(&mut self, poll: &Poll) {
        if let Some(terminal) = &mut self.terminal {
            terminal.serve(poll);
        }
    }
}

impl Slave {
    /// Types a secret into the terminal of a session's helper. Where there is none, nobody asked.
    pub(crate) fn type_secret(&mut self, control: Handle, secret: &str) {
        if let Some(session) = self.sessions.by_control.get_mut(&control)
            && let Some(terminal) = &mut session.terminal
        {
            terminal.enter(secret, &self.poll);
        }
    }

    /// Ends the standard error of a helper that has ended and whose stream has: what it left
    /// running may hold its terminal for ever. What was said until now is still sent.
    pub(crate) fn end_helpers_stderr(&mut self, control: Handle) {
        let sessions = self.sessions.len();
        let Some(session) = self.sessions.by_control.get_mut(&control) else { return };
        if let Some(terminal) = &mut session.terminal {
            terminal.end(&self.poll);
        }
        let handle = session.handles.stderr;
        let slot = session.output(Part::Stderr);
        let Some(output) = slot else { return };
        if output.ended {
            return;
        }
        let more = output.discover(sessions);
        Source::end(slot, &self.poll);
        self.mux.offer(handle, more);
        self.mux.finish(handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_is_found_where_administrators_programs_lie() {
        let found = find(OsStr::new("sh"), OsStr::new("/nonexistent:relative:")).unwrap();
        assert!(found.is_absolute() && found.ends_with("sh"), "{found:?}");
        let refusal = find(OsStr::new("no-such-helper"), OsStr::new("/usr/bin")).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::NotFound);
        assert!(refusal.message.contains("no-such-helper"), "{}", refusal.message);
        assert!(find(OsStr::new(""), OsStr::new("/usr/bin")).is_err());
    }
}
