//! Helpers: programs that lead to another account or into a container (`sudo`, `docker exec`).
//!
//! A helper starts in the login's environment like any program, with a terminal if it is to ask for
//! a password. Its standard input and output are the stream of a link.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fakessh_protocol::message::{Helper, HelperTerminal, ProgramSetup, Refusal, RefusalReason};
use rustix::io::Errno;
use rustix::process::Pid;

use super::launcher::Launcher;
use super::self_upload::SelfUpload;
use super::spawn::{Program, ProgramStdio, length, refusal};
use super::subsystem::is_executable;
use super::terminal::{Ends, Pty};
use crate::{child, pipe, sys};

/// Where a helper is looked for that is not on the account's `PATH`. The `PATH` of an account other
/// than root's often lacks what administrators use, and that of a login without a shell what snaps
/// install.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin:/snap/bin";

/// Our ends of what a helper is connected to, before it starts.
struct Wiring {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    terminal: Option<Ends>,
}

/// Starts a helper.
///
/// # Errors
/// What the master is to be told.
pub(super) fn start(
    launcher: &Launcher,
    helper: &Helper,
    setup: &ProgramSetup,
) -> Result<Program, Refusal> {
    let variables = &setup.environment[..];
    let [name, arguments @ ..] = &helper.argv[..] else {
        let message = "a helper without a name can't be started".to_owned();
        return Err(Refusal { reason: RefusalReason::Other, message });
    };
    let name = OsStr::from_bytes(name);
    let path = launcher.value(variables, "PATH").unwrap_or_default();
    let mut command = Command::new(find(name, &path)?);
    command.arg0(name).args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
    launcher.prepare(&mut command, setup);
    // Helpers are started by the master. On the master's host they read the files of its caller.
    let home = variables.iter().rev().find(|(name, _)| name == b"HOME");
    command.envs(home.map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value))));
    let len = length(&helper.argv);
    let failed = |error: &io::Error| refusal(error, &name.to_string_lossy(), len);

    let upload = || SelfUpload::new(launcher.program()?);
    let upload = helper.carries.then(upload).transpose().map_err(|error| Refusal {
        reason: RefusalReason::Other,
        message: format!(
            "the slave on the target can't read its own program, which {} is to carry: {error}",
            name.to_string_lossy()
        ),
    })?;
    let wants_terminal = helper.terminal != HelperTerminal::None;
    let pty = match wants_terminal.then(Pty::raw).transpose() {
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
    let pidfd = child::pidfd(pid).map_err(|error| failed(&error))?;
    let Wiring { stdin, stdout, stderr, terminal } = wiring;
    let stdio = ProgramStdio::Helper { terminal, upload };
    Ok(Program { pid, pidfd, stdin, stdout, stderr: Some(stderr), stdio })
}

/// Connects a helper to pipes and a terminal. Its own ends are closed with the command.
fn wire_up(command: &mut Command, pty: Option<Pty>, is_whole: bool) -> io::Result<Wiring> {
    let (child_stdin, stdin) = pipe::to_child()?;
    let (stdout, child_stdout) = pipe::from_child()?;
    let (stderr, shown) = pipe::from_child()?;
    let Some(Pty { master, side }) = pty else {
        command.stdin(child_stdin).stdout(child_stdout).stderr(shown);
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
    Ok(Wiring { stdin, stdout, stderr, terminal: Some(Ends::new(master, shown)?) })
}

/// The path of the helper of this name.
fn find(name: &OsStr, path: &OsStr) -> Result<PathBuf, Refusal> {
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let directories = [path.as_bytes(), SYSTEM_PATH.as_bytes()];
    let mut directories = directories.iter().flat_map(|path| path.split(|&byte| byte == b':'));
    let found = directories.find_map(|directory| {
        // A relative or empty entry means the working directory of whoever set it, not ours.
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
