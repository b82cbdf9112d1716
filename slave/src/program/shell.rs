//! Programs that the account's login shell starts, as sshd has it do.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use fakessh_protocol::message::{ProgramSetup, Refusal};

use super::launcher::Launcher;
use super::spawn::{Program, refusal, start_program};

/// Starts the login shell itself.
pub(super) fn login(launcher: &Launcher, setup: &ProgramSetup) -> Result<Program, Refusal> {
    let mut dashed = OsString::from("-");
    dashed.push(name_of(launcher.shell()));
    let mut command = Command::new(launcher.shell());
    command.arg0(dashed);
    start(launcher, command, setup, 0, false)
}

/// Starts the login shell with a command line.
pub(super) fn command(
    launcher: &Launcher,
    line: &[u8],
    setup: &ProgramSetup,
    drop_stderr: bool,
) -> Result<Program, Refusal> {
    let shell = launcher.shell();
    let mut command = Command::new(shell);
    command.arg0(name_of(shell)).arg("-c").arg(OsStr::from_bytes(line));
    start(launcher, command, setup, line.len(), drop_stderr)
}

fn start(
    launcher: &Launcher,
    mut command: Command,
    setup: &ProgramSetup,
    len: usize,
    drop_stderr: bool,
) -> Result<Program, Refusal> {
    launcher.prepare(&mut command, setup);
    start_program(command, setup, drop_stderr).map_err(|error| {
        refusal(&error, &format!("the login shell {}", launcher.shell().to_string_lossy()), len)
    })
}

fn name_of(shell: &OsStr) -> &OsStr {
    Path::new(shell).file_name().unwrap_or(shell)
}
