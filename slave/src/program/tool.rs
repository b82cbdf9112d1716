//! Tools: programs whose `ssh`, `scp` and `sftp` lead back to the master. A tool starts without a
//! shell in between, in the login's environment, with its run's directory first on `PATH`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use fakessh_protocol::message::{ProgramSetup, Refusal, Tool};
use fakessh_unix::tool_environment;

use super::launcher::Launcher;
use super::spawn::{Program, direct_command, length, refusal, start_program};
use crate::sys;

/// Starts a tool, with this run directory and its end of the run's socket.
///
/// # Errors
/// What the master is to be told: [`RefusalReason::NotFound`] if the program does not exist,
/// [`RefusalReason::Limit`] for a limit of the target, else [`RefusalReason::Other`].
///
/// [`RefusalReason::NotFound`]: fakessh_protocol::message::RefusalReason::NotFound
/// [`RefusalReason::Limit`]: fakessh_protocol::message::RefusalReason::Limit
/// [`RefusalReason::Other`]: fakessh_protocol::message::RefusalReason::Other
pub(crate) fn start(
    launcher: &Launcher,
    tool: &Tool,
    setup: &ProgramSetup,
    directory: &Path,
    socket: &OwnedFd,
) -> Result<Program, Refusal> {
    let (mut command, name) = direct_command(&tool.argv, "tool")?;
    let start = || -> io::Result<Program> {
        launcher.prepare(&mut command, setup);
        let inherited = tool_environment::descriptor_for_tool(socket.as_fd())?;
        let ours = tool_environment::for_tool(directory, inherited.as_fd(), |name| {
            launcher.value(&setup.environment, name)
        })?;
        command.envs(ours);
        sys::inherit(&mut command, inherited);
        start_program(command, setup, false)
    };
    start().map_err(|error| refusal(&error, &name, length(&tool.argv)))
}
