//! The slave of the master's own host, which the master itself runs: the first step of a route.

use std::ffi::OsString;
use std::io;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::caller::Caller;
use crate::stream::{ByteStream, Diagnostics, INCOMING_CHUNKS, OUTGOING_CHUNKS};

/// Bytes that are read in one piece.
const PIECE: usize = 64 * 1024;

/// How long a program whose stream has ended may take to end itself, and to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where a login finds programs, as sshd's does. Systems of Nix have theirs in the last alone.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:\
                    /run/current-system/sw/bin";

/// What a login has besides that its caller knows: it is the account's, whoever that is.
const OF_LOGIN: [&str; 2] = ["XDG_RUNTIME_DIR", "LANG"];

/// A program that runs as a child of this process.
#[derive(Debug)]
pub(crate) struct Process(JoinHandle<()>);

impl Process {
    /// Starts it with the environment of a login. When both ends of the stream are dropped, it
    /// gets the end of its input, and is killed where it does not end by that.
    ///
    /// # Errors
    /// Where it can't be started.
    pub(crate) fn start(argv: &[OsString], caller: &Caller) -> io::Result<(Process, ByteStream)> {
        let (program, arguments) =
            argv.split_first().ok_or_else(|| io::Error::other("an empty command"))?;
        let mut child = Command::new(program);
        crate::fd_limit::give_back(child.as_std_mut());
        let mut child = child
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .envs(OF_LOGIN.iter().filter_map(|name| Some((name, caller.variable(name)?))))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("it has no pipes"));
        };
        let (incoming_sender, incoming) = mpsc::channel(INCOMING_CHUNKS);
        let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_CHUNKS);
        let diagnostics = Diagnostics::default();
        let said = diagnostics.clone();
        let task = tokio::spawn(async move {
            let pipes = (stdin, stdout, stderr);
            run(child, pipes, outgoing_receiver, incoming_sender, said).await;
        });
        Ok((Process(task), ByteStream { incoming, outgoing, diagnostics }))
    }

    /// Waits until a program is gone whose stream was given up. Cancel safe.
    pub(crate) async fn gone(&mut self) {
        let _ = timeout(2 * LAST_WORDS, &mut self.0).await;
    }
}

/// Moves bytes until the program ends its stream or nobody wants that, and sees the program end.
async fn run(
    mut child: Child,
    (stdin, stdout, stderr): (ChildStdin, ChildStdout, ChildStderr),
    outgoing: mpsc::Receiver<Bytes>,
    // Closed last: whoever sees the end of the stream finds the reason.
    incoming: mpsc::Sender<Bytes>,
    said: Diagnostics,
) {
    let mut write = Box::pin(write(outgoing, stdin));
    let mut read = pin!(read(stdout, &incoming));
    let mut listen = pin!(listen(stderr, &said));
    let (mut writes, mut listens) = (true, true);
    loop {
        tokio::select! {
            () = &mut write, if writes => writes = false,
            () = &mut listen, if listens => listens = false,
            () = &mut read => break,
        }
    }
    let end = async {
        // What was sent last is still written, unless the program has hung up.
        if writes && incoming.is_closed() {
            write.await;
        } else {
            drop(write);
        }
        child.wait().await
    };
    let rest = async {
        if listens {
            listen.await;
        }
    };
    let (ended, _) = tokio::join!(timeout(LAST_WORDS, end), timeout(LAST_WORDS, rest));
    match ended {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => said.remark(format!("it ended ({status})")),
        _ => {
            said.remark("it did not end, and was killed");
            // Not waited for yet: the id is still its own.
            let id = child.id().and_then(|id| i32::try_from(id).ok());
            if let Some(group) = id.and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait().await;
        }
    }
}

async fn write(mut outgoing: mpsc::Receiver<Bytes>, mut stdin: ChildStdin) {
    while let Some(bytes) = outgoing.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Reads to the end, or until nobody wants more.
async fn read(mut stdout: ChildStdout, incoming: &mpsc::Sender<Bytes>) {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = tokio::select! {
            read = stdout.read_buf(&mut piece) => read,
            () = incoming.closed() => return,
        };
        match read {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::caller::AskNobody;

    fn start(script: &str) -> (Process, ByteStream) {
        let words = ["/bin/sh", "-c", script].map(OsString::from);
        let environment =
            [("A", "b"), ("LANG", "C")].map(|(name, value)| (name.into(), value.into()));
        let directory = "/nonexistent".into();
        let caller =
            Caller { environment: environment.into(), directory, ask: Arc::new(AskNobody) };
        Process::start(&words, &caller).unwrap()
    }

    async fn all(stream: &mut ByteStream) -> String {
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.incoming.recv().await {
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn it_has_the_environment_of_a_login() {
        let (_process, mut stream) = start("echo $A$LANG; pwd");
        assert_eq!(all(&mut stream).await, "C\n/\n");
    }

    #[tokio::test]
    async fn what_it_printed_last_is_not_lost() {
        let many = OUTGOING_CHUNKS + 2 * INCOMING_CHUNKS;
        let script = format!("head -c {} /dev/zero; echo why; echo more >&2; exit 3", many * PIECE);
        let (_process, mut stream) = start(&script);
        let text = all(&mut stream).await;
        assert!(text.ends_with("\0why\n") && text.len() == many * PIECE + 4, "{}", text.len());
        let said = stream.diagnostics.said().to_string();
        assert_eq!(said, "it ended (exit status: 3); it printed: more");
    }

    #[tokio::test]
    async fn one_that_has_hung_up_ends_the_stream_and_is_killed_with_its_group() {
        let (mut process, mut stream) = start("sleep 1000 >&- & echo $!; exec >&-; wait");
        let pid: i32 = all(&mut stream).await.trim().parse().unwrap();
        let said = stream.diagnostics.said().to_string();
        assert!(said.contains("was killed"), "{said}");
        process.gone().await;
        // Killed, it is there until its new parent has seen it; but a zombie has no command line.
        let path = format!("/proc/{pid}/cmdline");
        let gone = async {
            while std::fs::read(&path).is_ok_and(|line| !line.is_empty()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), gone).await.unwrap();
    }
}
