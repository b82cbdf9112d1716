//! `LocalCommand` of `ssh_config(5)`: what runs here once the session runs there.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};

use rustix::stdio::{stdin, stdout};

use fakessh_protocol::message::Notice;

use crate::diagnostics::Diagnostics;
use crate::parse::Local;

/// A command and the descriptors that it needs: ours are gone by the time it runs. `ssh` gives it
/// its own standard output, and Nix reads a word from there.
pub(super) struct LocalCommand {
    command: OsString,
    stdin: OwnedFd,
    stdout: OwnedFd,
}

impl LocalCommand {
    /// Keeps the descriptors, if there is a command.
    pub(super) fn keep(local: &Local) -> io::Result<Option<LocalCommand>> {
        let Some(command) = &local.local_command else { return Ok(None) };
        let stdin = stdin().as_fd().try_clone_to_owned()?;
        let stdout = stdout().as_fd().try_clone_to_owned()?;
        Ok(Some(LocalCommand { command: command.clone(), stdin, stdout }))
    }

    /// Runs the command with the user's shell and waits for it. Its status changes nothing, as
    /// with `ssh`.
    pub(super) fn run(self, diagnostics: &Diagnostics) {
        let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
        let shell = shell.unwrap_or_else(|| "/bin/sh".into());
        let mut command = Command::new(&shell);
        command.arg("-c").arg(&self.command);
        command.stdin(Stdio::from(self.stdin)).stdout(Stdio::from(self.stdout));
        if let Err(error) = command.status() {
            let shell = shell.to_string_lossy();
            let text = format!("cannot run LocalCommand with {shell}: {error}");
            diagnostics.notice(&Notice::ours(text));
        }
    }
}
