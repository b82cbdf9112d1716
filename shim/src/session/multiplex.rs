//! `-M`: a session that other programs reach through a ControlPath, with ssh's own protocol.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fakessh_protocol::exit::TRANSPORT_FAILURE;
use fakessh_protocol::invocation::{Invocation, Multiplex, Request};
use fakessh_protocol::message::Notice;
use fakessh_protocol::terminal::RequestTty;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::run;
use crate::diagnostics::Diagnostics;
use crate::parse::{CommandLine, Local};
use crate::real;
use crate::sys::{self, Fork};

/// What becomes of a session that is a master.
pub(super) enum Prepared {
    /// The session begins.
    Begin,
    /// There is nothing more to do: the status to exit with.
    Over(u8),
}

/// The path and how long a master lasts whose session has ended: `None` if it does not.
struct Control {
    path: PathBuf,
    persist: Option<Persist>,
}

/// How long a master in the background waits for the next session; `None` is for ever.
struct Persist(Option<u32>);

/// Makes a session the master of its ControlPath. With `ControlPersist`, another process in the
/// background is the master, and the session one of its first.
pub(super) fn prepare(
    command_line: &mut CommandLine,
    socket: &OwnedFd,
    diagnostics: &Diagnostics,
) -> Prepared {
    let Some(Control { path, persist }) = control(command_line) else { return Prepared::Begin };
    let say = |text: String| diagnostics.notice(&Notice::ours(text));
    if path.symlink_metadata().is_ok() {
        let path = path.display();
        say(format!("ControlSocket {path} already exists, disabling multiplexing"));
        return Prepared::Begin;
    }
    let multiplex = |idle_seconds| {
        let path = path.as_os_str().as_bytes().to_vec();
        Some(Multiplex { path, idle_seconds })
    };
    let Some(Persist(idle)) = persist else {
        command_line.invocation.multiplex = multiplex(None);
        return Prepared::Begin;
    };
    let background = background(command_line, multiplex(idle));
    let forked = socket.try_clone().and_then(|socket| Ok((socket, sys::fork()?)));
    match forked {
        Ok((socket, Fork::Child)) => std::process::exit(run(background, socket).into()),
        Ok((_, Fork::Parent(pid))) => {
            // That process ends when the master is there, and goes on as another.
            match ended(pid) {
                Some(0) => {}
                code => return Prepared::Over(code.unwrap_or(TRANSPORT_FAILURE)),
            }
        }
        Err(error) => {
            say(format!("cannot start a master in the background: {error}"));
            return Prepared::Begin;
        }
    }
    // The master has opened them.
    command_line.invocation.forwards.clear();
    command_line.invocation.forward_options.clear_all = Some(true);
    match command_line.invocation.request {
        Request::Nothing => Prepared::Over(0),
        _ => Prepared::Begin,
    }
}

/// The status of a process, which is waited for.
fn ended(pid: Pid) -> Option<u8> {
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).ok()??;
    u8::try_from(status.exit_status()?).ok()
}

/// The session of a master in the background.
fn background(command_line: &CommandLine, multiplex: Option<Multiplex>) -> CommandLine {
    let CommandLine { invocation, local, argv } = command_line.clone();
    let invocation = Invocation {
        request: Request::Nothing,
        request_tty: Some(RequestTty::No),
        announce: true,
        multiplex,
        ..invocation
    };
    let local = Local {
        null_stdin: true,
        background: true,
        local_command: None,
        is_master: false,
        ..local
    };
    CommandLine { invocation, local, argv }
}

/// The ControlPath of a command line and its configuration, as the real ssh says it: programs that
/// look for the socket go by the same words. `None` if there is none.
fn control(command_line: &CommandLine) -> Option<Control> {
    let mut command = real::command("ssh").ok()?;
    let words = command_line.argv.with_options(vec![OsString::from("-G")]);
    command.args(words.get(1..)?).stdin(Stdio::null()).stderr(Stdio::null());
    let said = command.output().ok()?.stdout;
    let value = |keyword: &[u8]| {
        said.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(keyword))
    };
    let path = value(b"controlpath ").filter(|path| *path != b"none")?;
    let path = Path::new(&OsString::from_vec(path.to_vec())).to_owned();
    let persist = match value(b"controlpersist ") {
        None | Some(b"no" | b"false") => None,
        Some(b"yes" | b"true" | b"0") => Some(Persist(None)),
        Some(seconds) => {
            let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse().ok());
            seconds.map(|seconds| Persist(Some(seconds)))
        }
    };
    Some(Control { path: std::path::absolute(path).ok()?, persist })
}
