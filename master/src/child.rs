//! A program that runs in a context, and its standard streams.
//!
//! The end of a stream, the end of the program and the loss of the connection are three things:
//! the end of a stream is read as `Ok(0)`, the end of the program is [`Child::wait`], and the loss of
//! the connection is an error of both.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::{Buf, Bytes};
use fakessh_protocol::exit;
use fakessh_protocol::wire::MAX_DATA;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;

use crate::context::SessionCount;
use crate::error::Error;
use crate::link::{Chunk, Control, Outcome, Receiver, Sender, Signaller};

/// How a program ended (RFC 4254 section 6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(exit::ExitStatus);

impl ExitStatus {
    /// The status that the program exited with, 0 to 255; `None` if a signal killed it.
    pub fn code(self) -> Option<i32> {
        match self.0 {
            exit::ExitStatus::Code(code) => Some(code.into()),
            exit::ExitStatus::Signal(_) => None,
        }
    }

    /// The number of the signal that killed the program, 1 to 64 as on Linux; `None` if it exited.
    pub fn signal(self) -> Option<i32> {
        match self.0 {
            exit::ExitStatus::Code(_) => None,
            exit::ExitStatus::Signal(number) => Some(number.into()),
        }
    }

    /// Whether the program exited with status 0.
    pub fn success(self) -> bool {
        self.0.success()
    }

    /// The status as a shell reports it: the code, or 128 plus the number of the signal.
    pub fn shell_code(self) -> u8 {
        self.0.shell_code()
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.signal()) {
            (Some(code), _) => write!(f, "exit status: {code}"),
            (None, number) => write!(f, "signal: {}", number.unwrap_or_default()),
        }
    }
}

/// A signal, by its number on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(u8);

impl Signal {
    /// Hang-up.
    pub const HUP: Signal = Signal(1);
    /// Interrupt, as of ^C.
    pub const INT: Signal = Signal(2);
    /// Quit, as of ^\.
    pub const QUIT: Signal = Signal(3);
    /// Kill, which no program can catch.
    pub const KILL: Signal = Signal(9);
    /// For the program's own use.
    pub const USR1: Signal = Signal(10);
    /// For the program's own use.
    pub const USR2: Signal = Signal(12);
    /// The request to end.
    pub const TERM: Signal = Signal(15);

    /// The signal of a number, 1 to 64; `None` for any other number.
    pub fn from_number(number: i32) -> Option<Signal> {
        u8::try_from(number).ok().filter(|number| (1..=64).contains(number)).map(Signal)
    }
}

/// What a program printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How the program ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// A program that runs in a context. Dropped, it hangs the program up: SIGHUP, and after two
/// seconds SIGKILL. [`Child::detach`] leaves it alone.
#[derive(Debug)]
pub struct Child {
    /// Standard input, if it was [`Stdio::piped`](crate::Stdio::piped).
    pub stdin: Option<ChildStdin>,
    /// Standard output, likewise.
    pub stdout: Option<ChildStdout>,
    /// Standard error, likewise.
    pub stderr: Option<ChildStderr>,
    control: Control,
    signaller: Signaller,
    status: Option<Result<ExitStatus, Error>>,
    /// What moves bytes between the program and descriptors of this process.
    pumps: JoinSet<Result<(), Error>>,
    name: String,
    _running: SessionCount,
}

impl Child {
    pub(crate) fn new(
        name: &str,
        control: Control,
        running: SessionCount,
        streams: (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>),
        pumps: JoinSet<Result<(), Error>>,
    ) -> Child {
        let (stdin, stdout, stderr) = streams;
        let (name, signaller) = (name.to_owned(), control.signaller());
        let status = None;
        Child { stdin, stdout, stderr, control, signaller, status, pumps, name, _running: running }
    }

    /// Sends a signal to the program's process group. Nothing is waited for; a program that has
    /// ended gets none.
    pub fn signal(&self, signal: Signal) {
        self.signaller.signal(signal.0);
    }

    /// Closes standard input, if it is still here, and waits for the program's end, which comes after
    /// the last byte of its output. Later calls give the same answer. A program whose piped output
    /// nobody reads may wait for that, and does not end.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) and others if the program was never
    /// started, [`ErrorKind::ConnectionLost`](crate::ErrorKind::ConnectionLost) if the connection was
    /// lost: then it is unknown what became of the program.
    /// [`ErrorKind::OutputCut`](crate::ErrorKind::OutputCut) and others if the program ended, and its
    /// output is not whole where it should be.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        drop(self.stdin.take());
        if self.status.is_none() {
            let outcome = self.control.outcome().await;
            self.status = Some(match outcome {
                Outcome::Exited(status) => Ok(ExitStatus(status)),
                Outcome::Refused(refusal) => Err(Error::refused(&self.name, &refusal)),
                Outcome::Lost(lost) => Err(Error::lost(&self.name, &lost)),
            });
        }
        while let Some(pumped) = self.pumps.join_next().await {
            // The status counts only if the bytes are where they should be.
            if let Ok(Err(error)) = pumped
                && matches!(self.status, Some(Ok(_)))
            {
                self.status = Some(Err(error));
            }
        }
        match &self.status {
            Some(status) => status.clone(),
            None => Err(Error::lost(&self.name, &"the session ended")),
        }
    }

    /// Waits for the program's end, and collects what it prints to the streams that are still here.
    ///
    /// Memory grows with the output. Cancelled, it hangs the program up.
    ///
    /// # Errors
    /// As [`Child::wait`], and [`ErrorKind::OutputCut`](crate::ErrorKind::OutputCut) if output is
    /// missing though the program ended.
    pub async fn wait_with_output(mut self) -> Result<Output, Error> {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr, status) = tokio::join!(
            collect(stdout.map(|stdout| stdout.0)),
            collect(stderr.map(|stderr| stderr.0)),
            self.wait()
        );
        let status = status?;
        match (stdout, stderr) {
            (Some(stdout), Some(stderr)) => Ok(Output { status, stdout, stderr }),
            _ => Err(Error::output_cut(&self.name)),
        }
    }

    /// Lets the program run on without this process: it is not hung up, and its status is not known.
    /// It ends with the connection. Streams of this child end as if they were dropped.
    ///
    /// Must be called in a tokio runtime.
    pub fn detach(mut self) {
        drop((self.stdin.take(), self.stdout.take(), self.stderr.take()));
        tokio::spawn(async move {
            let _ = self.wait().await;
        });
    }
}

async fn collect(output: Option<OutputStream>) -> Option<Vec<u8>> {
    let mut collected = Vec::new();
    let Some(mut output) = output else { return Some(collected) };
    loop {
        match output.receiver.receive().await {
            Chunk::Data(bytes) => {
                collected.extend_from_slice(&bytes);
                output.receiver.consumed(bytes.len());
            }
            Chunk::End => return Some(collected),
            Chunk::Cut => return None,
        }
    }
}

/// Standard input of a program. Shutdown and drop are its end of file; [`ChildStdin::abort`] cuts it.
#[derive(Debug)]
pub struct ChildStdin {
    /// `None` after the end.
    sender: Option<Sender>,
}

impl ChildStdin {
    pub(crate) fn new(sender: Sender) -> ChildStdin {
        ChildStdin { sender: Some(sender) }
    }

    /// Cuts the stream: the program is hung up before it can take what it got for the whole.
    pub fn abort(mut self) {
        // A sender that is dropped unfinished cuts.
        drop(self.sender.take());
    }

    /// Waits until the program wants no more input, or has ended. Cancel safe.
    pub async fn closed(&self) {
        if let Some(sender) = &self.sender {
            sender.stopped().await;
        }
    }
}

impl AsyncWrite for ChildStdin {
    /// Gives bytes to the connection as fast as the program takes them. Cancel safe.
    ///
    /// # Errors
    /// `BrokenPipe` if the program wants no more, has ended, or the connection is lost:
    /// [`Child::wait`] tells which.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(sender) = &mut self.sender else { return Poll::Ready(Err(broken())) };
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let len = bytes.len().min(MAX_DATA);
        let sent = ready!(sender.poll_send(cx, || Bytes::copy_from_slice(&bytes[..len])));
        Poll::Ready(sent.map(|()| len).map_err(|_| broken()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        // What was taken is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        if let Some(sender) = self.sender.take() {
            sender.finish();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ChildStdin {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.finish();
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the program takes no more input, or is gone")
}

/// Bytes that come from a program.
#[derive(Debug)]
struct OutputStream {
    receiver: Receiver,
    /// What came and was not read.
    pending: Bytes,
}

impl OutputStream {
    fn poll_read(
        &mut self,
        cx: &mut TaskContext<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if target.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while self.pending.is_empty() {
            match ready!(self.receiver.poll_receive(cx)) {
                Chunk::Data(bytes) => self.pending = bytes,
                Chunk::End => return Poll::Ready(Ok(())),
                Chunk::Cut => {
                    let text = "the stream was cut: bytes are missing";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
                }
            }
        }
        let len = self.pending.len().min(target.remaining());
        target.put_slice(&self.pending[..len]);
        self.pending.advance(len);
        self.receiver.consumed(len);
        Poll::Ready(Ok(()))
    }
}

macro_rules! output_stream {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Reading is cancel safe. The end is `Ok(0)`; a stream that was cut, by the loss of the
        /// connection among others, is an error of the kind `UnexpectedEof` and never an end.
        /// Dropped before its end, the program gets SIGPIPE or EPIPE at its next write.
        #[derive(Debug)]
        pub struct $name(OutputStream);

        impl $name {
            pub(crate) fn new(receiver: Receiver) -> $name {
                $name(OutputStream { receiver, pending: Bytes::new() })
            }
        }

        impl AsyncRead for $name {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut TaskContext<'_>,
                target: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                self.0.poll_read(cx, target)
            }
        }
    };
}

output_stream! {
    /// Standard output of a program.
    ChildStdout
}

output_stream! {
    /// Standard error of a program.
    ChildStderr
}
