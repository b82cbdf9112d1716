//! Runs `KnownHostsCommand`, which prints lines as they stand in a `known_hosts` file.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use russh::keys::{HashAlg, PublicKeyOrCertificate};
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

use crate::caller::Caller;
use crate::notice_relay::NoticeRelay;
use crate::ssh_config::{CommandError, Resolved, known_hosts_command};
use crate::stream::Diagnostics;

use super::HostName;

/// Longest that the command may take. It may look things up in the network; ssh waits for ever.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long its standard error is read after its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Most bytes that it may print: the keys of a thousand hosts, and it is asked about one.
const MAX_OUTPUT: usize = 1 << 20;

/// What the command is asked.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// Which kinds of keys the host has, before it shows one.
    Order,
    /// Whether the host may show this key.
    Host(&'a PublicKeyOrCertificate),
}

/// The command said nothing that can be believed.
#[derive(Debug, Error)]
pub enum KnownHostsCommandError {
    /// It can't be told what to start.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It could not be started.
    #[error("it can't be started: {0}")]
    NotRun(String),
    /// It did not end well.
    #[error("{0}")]
    Failed(String),
    /// It did not end.
    #[error("it took more than {} seconds", TIMEOUT.as_secs())]
    TimedOut,
    /// It did not stop printing.
    #[error("it printed more than {MAX_OUTPUT} bytes")]
    TooLong,
}

/// The lines that the command prints.
///
/// It runs without a shell, in the directory and with the environment of the caller. What it prints
/// to its standard error is shown to the caller.
///
/// # Errors
/// [`KnownHostsCommandError`]. Cancel safe: the command is killed.
pub(super) async fn ask(
    command: &str,
    purpose: Purpose<'_>,
    resolved: &Resolved,
    caller: &Caller,
) -> Result<String, KnownHostsCommandError> {
    let tokens = tokens(purpose, &HostName::of(resolved), &resolved.hostname);
    let tokens: Vec<(char, &str)> = tokens.iter().map(|(name, value)| (*name, &**value)).collect();
    let words = known_hosts_command(command, resolved, caller, &tokens)?;
    let not_run =
        |error: std::io::Error| KnownHostsCommandError::NotRun(crate::fd_limit::explain(&error));
    let mut command = caller.command(&words[0]);
    command.args(&words[1..]).process_group(0);
    let mut running = Running(command.spawn().map_err(not_run)?);
    let (stdout, stderr) = (running.0.stdout.take(), running.0.stderr.take());
    let relay = NoticeRelay::new(format!("KnownHostsCommand of {}", resolved.host));
    let diagnostics = Diagnostics::default();
    let listen = async {
        if let Some(stderr) = stderr {
            relay.listen(stderr, &diagnostics, || Some(caller.ask.clone())).await;
        }
    };
    let run = async {
        let output = read(stdout).await?;
        let status = running.0.wait().await.map_err(not_run)?;
        Ok::<_, KnownHostsCommandError>((output, status))
    };
    let heard = async {
        let (mut run, mut listen) = (std::pin::pin!(run), std::pin::pin!(listen));
        tokio::select! {
            ended = &mut run => {
                // A program that it has left behind may hold its standard error.
                let _ = tokio::time::timeout(LAST_WORDS, listen).await;
                ended
            }
            () = &mut listen => run.await,
        }
    };
    let ended = tokio::time::timeout(TIMEOUT, heard).await;
    let (output, status) = ended.map_err(|_| KnownHostsCommandError::TimedOut)??;
    match status.success() {
        true => Ok(String::from_utf8_lossy(&output).into_owned()),
        false => Err(KnownHostsCommandError::Failed(end(status))),
    }
}

/// What only this keyword's tokens stand for.
fn tokens(purpose: Purpose<'_>, name: &HostName, hostname: &str) -> [(char, String); 5] {
    let none = || "NONE".to_owned();
    match purpose {
        // ssh asks by the bare name here, whatever the port or an alias is.
        Purpose::Order => [
            ('I', "ORDER".to_owned()),
            ('H', hostname.to_ascii_lowercase()),
            ('t', none()),
            ('f', none()),
            ('K', none()),
        ],
        Purpose::Host(shown) => {
            let (key, written) = match shown {
                PublicKeyOrCertificate::PublicKey { key, .. } => (key.clone(), key.to_openssh()),
                PublicKeyOrCertificate::Certificate(certificate) => {
                    (shown.public_key(), certificate.to_openssh())
                }
            };
            let written = written.unwrap_or_default();
            let mut fields = written.split(' ').map(str::to_owned);
            [
                ('I', "HOSTNAME".to_owned()),
                ('H', name.recorded().to_owned()),
                ('t', fields.next().unwrap_or_else(none)),
                ('f', key.fingerprint(HashAlg::Sha256).to_string()),
                ('K', fields.next().unwrap_or_else(none)),
            ]
        }
    }
}

async fn read(stdout: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, KnownHostsCommandError> {
    let mut output = Vec::new();
    let Some(stdout) = stdout else { return Ok(output) };
    let mut stdout = stdout.take(MAX_OUTPUT as u64 + 1);
    let read = stdout.read_to_end(&mut output).await;
    read.map_err(|error| KnownHostsCommandError::Failed(error.to_string()))?;
    if output.len() > MAX_OUTPUT { Err(KnownHostsCommandError::TooLong) } else { Ok(output) }
}

fn end(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("it was killed by signal {signal}"),
        None => format!("it ended with status {}", status.code().unwrap_or_default()),
    }
}

/// A command that runs. Dropping it ends the command, and what the command has started in its
/// process group.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Its id is ours as long as it was not waited for.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
