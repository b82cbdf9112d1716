//! `ProxyCommand`: a command of the user's whose stdin and stdout are the connection.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, Join};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::caller::Caller;
use crate::notice_relay::NoticeRelay;
use crate::ssh_config::{Resolved, expand_proxy_command};
use crate::stream::Diagnostics;

use super::client::AttemptCaller;
use super::error::ConnectError;

/// How long a command that has closed its output may take to end, so that its last words are in
/// the error. One that is ending has it done in no time, but for a machine that is very slow.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Most bytes of a line that is shown.
const MAX_LINE: usize = 1024;

/// The stream that a command makes.
pub(super) type CommandStream = Join<ChildStdout, ChildStdin>;

/// A command that runs. Dropping it ends the command and what it has started in its process group.
pub(super) struct ProxyCommand {
    child: Child,
    command: String,
    diagnostics: Diagnostics,
    stderr: JoinHandle<()>,
}

/// Starts the command by the caller's shell, in its directory and with its environment.
pub(super) fn start(
    command: &str,
    resolved: &Resolved,
    caller: &Caller,
    attempt_caller: AttemptCaller,
) -> Result<(CommandStream, ProxyCommand), ConnectError> {
    let command = expand_proxy_command(command, resolved, caller);
    let shell = caller.variable("SHELL").filter(|shell| !shell.is_empty());
    let failed = |message: String| ConnectError::ProxyCommand { command: command.clone(), message };
    let mut child = Command::new(shell.unwrap_or(OsStr::new("/bin/sh")));
    crate::fd_limit::give_back(child.as_std_mut());
    let mut child = child
        .arg("-c")
        .arg(format!("exec {command}"))
        .env_clear()
        .envs(caller.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(caller.open_directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(failed("it has no pipes".to_owned()));
    };
    let diagnostics = Diagnostics::default();
    let relay = NoticeRelay::new(format!("ProxyCommand of {}", resolved.host));
    let stderr = tokio::spawn(listen(stderr, diagnostics.clone(), attempt_caller, relay));
    let proxy = ProxyCommand { child, command, diagnostics, stderr };
    Ok((tokio::io::join(stdout, stdin), proxy))
}

/// Keeps what a command says, and shows it as long as the connection is being made: it may be
/// what the person has to do for it.
async fn listen(
    mut stderr: ChildStderr,
    kept: Diagnostics,
    attempt_caller: AttemptCaller,
    relay: NoticeRelay,
) {
    let mut line = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        kept.add(&buffer[..count]);
        for &byte in &buffer[..count] {
            if byte != b'\n' {
                line.push(byte);
                if line.len() < MAX_LINE {
                    continue;
                }
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            if let Some(caller) = attempt_caller.get() {
                relay.show(&text, &*caller.ask).await;
            }
        }
    }
}

impl ProxyCommand {
    /// The error of a connection that ended before it was up, where the command is to blame: it
    /// has ended, or said something.
    pub(super) async fn blame(&mut self) -> Option<ConnectError> {
        let status = tokio::time::timeout(LAST_WORDS, self.child.wait()).await;
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.stderr).await;
        if let Ok(Ok(status)) = status {
            self.diagnostics.remark(match status.signal() {
                Some(signal) => format!("it was killed by signal {signal}"),
                None => format!("it ended with status {}", status.code().unwrap_or_default()),
            });
        }
        let said = self.diagnostics.said();
        let (command, message) = (self.command.clone(), said.to_string());
        (!said.is_empty()).then_some(ConnectError::ProxyCommand { command, message })
    }
}

impl Drop for ProxyCommand {
    fn drop(&mut self) {
        self.stderr.abort();
        // Its id is ours as long as it was not waited for.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::HUP);
        }
    }
}
