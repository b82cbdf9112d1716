//! One program of the demo server, between its pipes and its channel.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::BytesMut;
use fakessh_protocol::exit::signal_name;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

/// The type of data that is standard error (RFC 4254 section 5.2).
const STDERR: u32 = 1;

/// Bytes that are read from a program at once: two packets.
const CHUNK: usize = 64 * 1024;

/// How long a program may take to end after the end of its input, and again after SIGHUP.
const GRACE: Duration = Duration::from_secs(2);

/// Starts a command line by this account's shell, in its home directory, with the environment of a
/// login.
pub(super) fn start(command: &[u8], peer: [Option<SocketAddr>; 2]) -> io::Result<Child> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let shell = variable("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let home = variable("HOME").filter(|home| Path::new(home).is_dir());
    let mut child = Command::new(&shell);
    child.arg("-c").arg(OsStr::from_bytes(command)).env_clear().env("SHELL", &shell);
    for name in ["PATH", "USER", "LOGNAME", "HOME", "LANG", "XDG_RUNTIME_DIR"] {
        child.envs(variable(name).map(|value| (name, value)));
    }
    if let [Some(client), Some(server)] = peer {
        let connection =
            format!("{} {} {} {}", client.ip(), client.port(), server.ip(), server.port());
        child.env("SSH_CONNECTION", connection);
        child.env("SSH_CLIENT", format!("{} {} {}", client.ip(), client.port(), server.port()));
    }
    child
        .current_dir(home.unwrap_or_else(|| "/".into()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Moves bytes until the program has ended and all its output is sent, or the channel is closed;
/// then the program is ended.
pub(super) async fn run(mut child: Child, channel: Channel<Msg>, session: Handle) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (read, write) = channel.split();
    let output = async {
        tokio::try_join!(send(stdout, &write, None), send(stderr, &write, Some(STDERR)))?;
        let status = child.wait().await?;
        let sent = match status.signal() {
            Some(signal) => {
                let name = u8::try_from(signal).ok().and_then(signal_name).unwrap_or("KILL");
                let name = Sig::Custom(name.to_owned());
                let (text, language) = (String::new(), String::new());
                session.exit_signal_request(write.id(), name, false, text, language).await
            }
            None => {
                let code = status.code().unwrap_or_default();
                write.exit_status(code.cast_unsigned()).await.map_err(|_| ())
            }
        };
        sent.map_err(|()| io::ErrorKind::BrokenPipe)?;
        write.eof().await.map_err(io::Error::other)?;
        write.close().await.map_err(io::Error::other)
    };
    tokio::select! {
        // The end of the channel is the end of the program; the end of its input is not.
        () = receive(read, stdin) => {}
        _ = output => {}
    }
    end(child, group).await;
}

/// From the channel to the program, until the channel is closed.
async fn receive(mut read: ChannelReadHalf, stdin: Option<ChildStdin>) {
    let mut stdin = stdin;
    loop {
        match read.wait().await {
            Some(ChannelMsg::Data { data }) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    stdin = None;
                }
            }
            Some(ChannelMsg::Eof) => stdin = None,
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
    }
}

/// From the program to the channel, until the program closes its end. Waits for the client's
/// window.
async fn send(
    source: Option<impl AsyncRead + Unpin>,
    write: &ChannelWriteHalf<Msg>,
    extended: Option<u32>,
) -> io::Result<()> {
    let Some(mut source) = source else { return Ok(()) };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        if source.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let chunk = buffer.split().freeze();
        let sent = match extended {
            None => write.data_bytes(chunk).await,
            Some(code) => write.extended_data_bytes(code, chunk).await,
        };
        sent.map_err(io::Error::other)?;
    }
}

/// Its pipes are closed; what still runs then gets a moment, SIGHUP, a moment, and SIGKILL.
async fn end(mut child: Child, group: Option<Pid>) {
    if tokio::time::timeout(GRACE, child.wait()).await.is_ok() {
        return;
    }
    for signal in [Signal::HUP, Signal::KILL] {
        // Not waited for yet: the id is still its own.
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
        if tokio::time::timeout(GRACE, child.wait()).await.is_ok() {
            return;
        }
    }
}
