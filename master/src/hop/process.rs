//! A helper that the master itself runs, on its own host: the first step of a route.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Plan;
use crate::caller::Caller;
use crate::stream::{ByteStream, Diagnostics, INCOMING_CHUNKS, OUTGOING_CHUNKS};

/// Bytes that are read in one piece.
const PIECE: usize = 64 * 1024;

/// How long a helper whose stream has ended may take to end itself, and to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A helper that runs as a child of this process.
#[derive(Debug)]
pub(crate) struct Process(JoinHandle<()>);

impl Process {
    /// Starts it in the caller's directory and with its environment. When both ends of the stream
    /// are dropped, it gets the end of its input, and is killed where it does not end by that.
    ///
    /// # Errors
    /// Where it can't be started.
    pub(crate) fn start(plan: &Plan, caller: &Caller) -> std::io::Result<(Process, ByteStream)> {
        let words: &[OsString] = &plan.argv;
        let (program, arguments) =
            words.split_first().ok_or_else(|| std::io::Error::other("an empty command"))?;
        let mut child = Command::new(program);
        crate::limits::give_back(child.as_std_mut());
        let mut child = child
            .args(arguments)
            .env_clear()
            .envs(caller.environment.iter().map(|(name, value)| (name, value)))
            .envs(plan.environment.iter().copied())
            .current_dir(&caller.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(std::io::Error::other("it has no pipes"));
        };
        let (incoming_sender, incoming) = mpsc::channel(INCOMING_CHUNKS);
        let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_CHUNKS);
        let diagnostics = Diagnostics::default();
        let said = diagnostics.clone();
        let task = tokio::spawn(async move {
            let streams = async {
                tokio::join!(write(outgoing_receiver, stdin), read(stdout, &incoming_sender),)
            };
            let listen = listen(stderr, &said);
            tokio::pin!(listen);
            tokio::select! {
                _ = streams => {}
                () = incoming_sender.closed() => {}
                _ = child.wait() => {}
            }
            let _ = timeout(LAST_WORDS, listen).await;
            finish(child, &said).await;
            drop(incoming_sender);
        });
        Ok((Process(task), ByteStream { incoming, outgoing, diagnostics }))
    }

    /// Waits until a helper is gone whose stream was given up. Cancel safe.
    pub(crate) async fn gone(&mut self) {
        let _ = timeout(3 * LAST_WORDS, &mut self.0).await;
    }
}

async fn write(mut outgoing: mpsc::Receiver<Bytes>, mut stdin: ChildStdin) {
    while let Some(bytes) = outgoing.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn read(mut stdout: ChildStdout, incoming: &mpsc::Sender<Bytes>) {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        match stdout.read_buf(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(_) if incoming.send(piece.freeze()).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

async fn listen(mut stderr: ChildStderr, said: &Diagnostics) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        said.add(&buffer[..count]);
    }
}

/// Waits for the end of a helper whose streams are closed, and notes a bad one.
async fn finish(mut child: Child, said: &Diagnostics) {
    match timeout(LAST_WORDS, child.wait()).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => said.add(format!("\nit ended ({status})\n").as_bytes()),
        // Dropped, it is killed.
        _ => said.add(b"\nit did not end, and was killed\n"),
    }
}
