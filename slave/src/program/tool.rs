//! Tools: programs whose `ssh`, `scp` and `sftp` lead back to the master. One starts without a
//! shell in between, in the login's environment, with its run's directory first on `PATH`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fakessh_protocol::message::{Refusal, Tool};
use fakessh_unix::tool_environment;

use crate::program::launcher::{self, Launcher, Program};
use crate::reverse::run_directory;
use crate::sys;

impl Launcher {
    /// Where a run directory may lie, in order.
    pub(crate) fn places(&self) -> Vec<PathBuf> {
        let runtime = self.variable("XDG_RUNTIME_DIR").map(Path::new);
        run_directory::places(runtime, self.home())
    }

    /// Starts a tool, with this run directory and its end of the run's socket.
    ///
    /// # Errors
    /// What the master is to be told: [`RefusalReason::NotFound`] for a program that is nowhere,
    /// [`RefusalReason::Other`] for one that can't be executed, and [`RefusalReason::Limit`] for
    /// what has nothing to do with it.
    pub(crate) fn start_tool(
        &self,
        tool: &Tool,
        variables: &[(Vec<u8>, Vec<u8>)],
        directory: &Path,
        socket: &OwnedFd,
    ) -> Result<Program, Refusal> {
        let (mut command, name) = launcher::direct_command(&tool.argv, "tool")?;
        let start = || -> io::Result<Program> {
            self.prepare(&mut command, variables);
            let inherited = tool_environment::descriptor_for_tool(socket.as_fd())?;
            let ours = tool_environment::for_tool(directory, inherited.as_fd(), |name| {
                self.value(variables, name)
            })?;
            command.envs(ours);
            sys::inherit(&mut command, inherited);
            launcher::launch(command, false)
        };
        start().map_err(|error| launcher::refusal(&error, &name, launcher::length(&tool.argv)))
    }

    /// What a variable is for a program that gets `variables`.
    pub(crate) fn value(&self, variables: &[(Vec<u8>, Vec<u8>)], name: &str) -> Option<OsString> {
        let given = variables.iter().rev().find(|(other, _)| other == name.as_bytes());
        let given = given.map(|(_, value)| OsStr::from_bytes(value));
        given.or_else(|| self.variable(name)).map(OsStr::to_owned)
    }
}
