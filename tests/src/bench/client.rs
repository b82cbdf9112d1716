//! One client: how it is started, and how it ends.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fakessh_lab::process::Process;

use crate::order::Program;

/// A client that is to be started, with a pipe as standard output.
pub(super) fn command(program: &Program) -> io::Result<Command> {
    let (name, arguments) = program.words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = &program.directory {
        command.current_dir(directory);
    }
    Ok(command)
}

/// Waits for a child's end; kills it if it does not come.
pub(super) fn end(child: &mut Child, limit: Duration) {
    let process = Process::open(child.id());
    if process.is_some_and(|process| !process.wait(limit)) {
        _ = child.kill();
    }
    _ = child.wait();
}
