//! Channels of a connection: opens them, and knows whether one holds up the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fakessh_protocol::message::{Peer, ProgramSetup};
use fakessh_protocol::terminal::{TerminalRequest, WindowSize};
use russh::client::Msg;
use russh::{Channel, ChannelOpenFailure, Pty};
use tokio::time::Instant;

use super::error::refused_channel;
use super::{ChannelError, ConnectionLost, RemoteProgram, SshConnection, channel, quote};
use crate::stream::ByteStream;

/// First pause before a session is asked for again that was refused. It doubles each time.
const REOPEN_PAUSE: Duration = Duration::from_millis(5);

/// A session's reader is behind, as long as this lives.
pub(crate) struct HoldUp<'a>(&'a AtomicUsize);

impl Drop for HoldUp<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A mode of a terminal, as russh has it.
fn mode(&(opcode, value): &(u8, u32)) -> Option<(Pty, u32)> {
    Pty::from_u8(opcode).map(|mode| (mode, value))
}

impl SshConnection {
    /// Runs a command by the account's login shell, as a stream: its stdin and stdout, with its
    /// stderr in the diagnostics. There also stands how it ended, if not with status 0.
    ///
    /// Bytes may be sent at once. What comes has to be taken at all times, or the whole connection
    /// waits.
    ///
    /// # Errors
    /// [`ChannelError`] where no channel is opened. A server that opens one and runs nothing ends
    /// the stream. Cancel safe.
    pub async fn exec(&self, command: Vec<u8>) -> Result<ByteStream, ChannelError> {
        let channel = self.session(Duration::ZERO).await?;
        channel.exec(true, command).await.map_err(|_| self.lost_now())?;
        Ok(channel::byte_stream(channel, self.0.worth.clone(), self.alive()))
    }

    /// Starts a program on a channel of its own, on the terminal that its setup asks for, and with
    /// the variables that the server accepts (`AcceptEnv`).
    ///
    /// # Errors
    /// [`ChannelError`] where no channel is opened. Cancel safe.
    pub async fn start(
        &self,
        program: &fakessh_protocol::message::ProgramKind,
        setup: &ProgramSetup,
    ) -> Result<RemoteProgram, ChannelError> {
        self.start_within(program, setup, Duration::ZERO).await
    }

    /// As [`SshConnection::start`]. A server that refuses the session is asked again for
    /// `retry_for`: it may not have counted the end of the last session yet.
    pub(crate) async fn start_within(
        &self,
        program: &fakessh_protocol::message::ProgramKind,
        setup: &ProgramSetup,
        retry_for: Duration,
    ) -> Result<RemoteProgram, ChannelError> {
        use fakessh_protocol::message::ProgramKind;
        let channel = self.session(retry_for).await?;
        let request = async {
            if let Some(TerminalRequest { term, size, modes }) = &setup.terminal {
                let term = String::from_utf8_lossy(term);
                let WindowSize { columns, rows, width, height } = *size;
                let [columns, rows, width, height] = [columns, rows, width, height].map(u32::from);
                let modes: Vec<(Pty, u32)> = modes.iter().filter_map(mode).collect();
                // A server that gives none runs the program without one, as for ssh.
                channel.request_pty(false, &term, columns, rows, width, height, &modes).await?;
            }
            if setup.agent.is_some() {
                channel.agent_forward(false).await?;
            }
            for (name, value) in &setup.environment {
                // Not every server takes what is no text.
                if let (Ok(name), Ok(value)) =
                    (std::str::from_utf8(name), std::str::from_utf8(value))
                {
                    channel.set_env(false, name, value).await?;
                }
            }
            match program {
                ProgramKind::Shell(command) => channel.exec(true, command.as_slice()).await,
                ProgramKind::Login => channel.request_shell(true).await,
                ProgramKind::Subsystem(name) => channel.request_subsystem(true, name).await,
                ProgramKind::Program(argv) => channel.exec(true, quote::command_line(argv)).await,
                // These need a slave.
                ProgramKind::Helper(_) | ProgramKind::Connection(_) | ProgramKind::Tool(_) => {
                    Err(russh::Error::RequestDenied)
                }
            }
        };
        request.await.map_err(|_| self.lost_now())?;
        Ok(channel::program(channel, self.0.worth.clone(), self.alive()))
    }

    /// A TCP connection that the server opens.
    ///
    /// # Errors
    /// [`ChannelError`]. Cancel safe.
    pub async fn direct_tcpip(&self, host: &str, port: u16) -> Result<ByteStream, ChannelError> {
        let channel = self.direct_channel(host, port).await?;
        Ok(channel::connection(channel, self.0.worth.clone(), self.alive()))
    }

    /// A connection that the server opens, as a program that reports on its standard error
    /// ([`fakessh_protocol::report`]).
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) async fn start_connection(
        &self,
        peer: &Peer,
    ) -> Result<RemoteProgram, ChannelError> {
        let channel = match peer {
            Peer::Tcp { host, port } => self.direct_channel(host, *port).await?,
            Peer::Unix(path) => self.direct_streamlocal(path, peer).await?,
        };
        Ok(channel::reported(channel, self.0.worth.clone(), self.alive()))
    }

    async fn direct_streamlocal(
        &self,
        path: &[u8],
        peer: &Peer,
    ) -> Result<Channel<Msg>, ChannelError> {
        let what = format!("a connection to {peer}");
        let Ok(path) = std::str::from_utf8(path) else {
            return Err(ChannelError::Refused {
                host: self.0.host.clone(),
                what,
                message: "its SSH server is asked in UTF-8, which the path is not".to_owned(),
                forbidden: true,
            });
        };
        let opened = self.0.handle.channel_open_direct_streamlocal(path).await;
        opened.map_err(|error| self.channel_error(&what, &error))
    }

    async fn session(&self, retry_for: Duration) -> Result<Channel<Msg>, ChannelError> {
        let until = Instant::now() + retry_for;
        let mut pause = REOPEN_PAUSE;
        loop {
            match self.0.handle.channel_open_session().await {
                Err(russh::Error::ChannelOpenFailure(_)) if Instant::now() + pause < until => {
                    // An answer says that it has looked at all that we have closed so far.
                    let _ = tokio::time::timeout_at(until, self.0.handle.send_ping()).await;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                opened => {
                    return opened.map_err(|error| self.channel_error("a session", &error));
                }
            }
        }
    }

    /// Whether what comes waits for the reader of some session.
    pub(crate) fn is_held_up(&self) -> bool {
        self.0.held_up.load(Ordering::Relaxed) > 0
    }

    /// Says that a session's reader is behind, until what is returned is dropped.
    pub(crate) fn hold_up(&self) -> HoldUp<'_> {
        self.0.held_up.fetch_add(1, Ordering::Relaxed);
        HoldUp(&self.0.held_up)
    }

    pub(super) async fn direct_channel(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Channel<Msg>, ChannelError> {
        let handle = &self.0.handle;
        let opened = handle.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0).await;
        opened
            .map_err(|error| self.channel_error(&format!("a connection to {host}:{port}"), &error))
    }

    fn channel_error(&self, what: &str, error: &russh::Error) -> ChannelError {
        let host = self.0.host.clone();
        match error {
            russh::Error::ChannelOpenFailure(failure) => {
                let message = refused_channel(failure, &self.0.refusal.take());
                let forbidden = *failure == ChannelOpenFailure::AdministrativelyProhibited;
                ChannelError::Refused { host, what: what.to_owned(), message, forbidden }
            }
            _ => self.lost_now(),
        }
    }

    fn lost_now(&self) -> ChannelError {
        let message = self.0.ended.borrow().clone();
        let message = match self.0.closing.get() {
            Some(why) => (*why).to_owned(),
            None => message.unwrap_or_else(|| "it has ended".to_owned()),
        };
        ChannelError::Lost(ConnectionLost { host: self.0.host.clone(), message })
    }
}
