//! `ProxyCommand`: a command of the user's whose stdin and stdout are the connection.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::Join;
use tokio::process::{Child, ChildStdin, ChildStdout};
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
    let mut child = caller
        .command(shell.unwrap_or(OsStr::new("/bin/sh")))
        .arg("-c")
        .arg(format!("exec {command}"))
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(failed("it has no pipes".to_owned()));
    };
    let diagnostics = Diagnostics::default();
    let relay = NoticeRelay::new(format!("ProxyCommand of {}", resolved.host));
    // It is shown as long as the connection is being made.
    let ask = move || attempt_caller.get().map(|caller| caller.ask);
    let kept = diagnostics.clone();
    let stderr = tokio::spawn(async move { relay.listen(stderr, &kept, ask).await });
    let proxy = ProxyCommand { child, command, diagnostics, stderr };
    Ok((tokio::io::join(stdout, stdin), proxy))
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
