//! The pipes of a program that the user's master runs.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::pipe;

use super::session::{EndOfOutput, InputCutter, SharedSession};
use crate::control::OutputName;

/// A pipe for standard input: our end, and the one that the program reads. Must be called in a tokio
/// runtime.
pub(crate) fn input_pipe() -> io::Result<(pipe::Sender, OwnedFd)> {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    non_blocking(&ours)?;
    Ok((pipe::Sender::from_owned_fd(ours)?, theirs))
}

/// A pipe for an output: our end, and the one that the program writes. Must be called in a tokio
/// runtime.
pub(crate) fn output_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    non_blocking(&ours)?;
    Ok((pipe::Receiver::from_owned_fd(ours)?, theirs))
}

/// An end that is this process's alone, which tokio waits for.
fn non_blocking(end: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(end)?;
    Ok(rustix::fs::fcntl_setfl(end, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// Standard input of a program. Dropped, it is at its end.
#[derive(Debug)]
pub(crate) struct InputPipe {
    pipe: pipe::Sender,
    cutter: InputCutter,
}

impl InputPipe {
    pub(crate) fn new(pipe: pipe::Sender, session: &SharedSession) -> InputPipe {
        InputPipe { pipe, cutter: session.cutter() }
    }

    /// Cuts the stream: the program is hung up before it can take what it got for the whole.
    pub(crate) fn abort(self) {
        self.cutter.cut();
        // The order is on its way, and goes over another socket than the end of this pipe. So the
        // pipe stays open until the master has closed its end.
        tokio::spawn(async move { self.closed().await });
    }

    /// Waits until nobody reads the pipe any more. Cancel safe.
    pub(crate) async fn closed(&self) {
        loop {
            match self.pipe.ready(Interest::ERROR).await {
                Ok(ready) if ready.is_error() || ready.is_write_closed() => return,
                Ok(_) => tokio::task::yield_now().await,
                Err(_) => return,
            }
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }
}

/// An output of a program.
pub(crate) struct OutputPipe {
    pipe: pipe::Receiver,
    end: EndOfOutput,
    /// Finds out what kind of end was found.
    asking: Option<Pin<Box<dyn Future<Output = bool> + Send + Sync>>>,
}

impl std::fmt::Debug for OutputPipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutputPipe").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

impl OutputPipe {
    pub(crate) fn new(
        pipe: pipe::Receiver,
        session: &SharedSession,
        output: OutputName,
    ) -> OutputPipe {
        OutputPipe { pipe, end: session.end_of(output), asking: None }
    }

    /// Reads what is there. Nothing is the end; `None` says that the stream was cut.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Option<usize>>> {
        if self.asking.is_none() {
            let before = target.filled().len();
            ready!(Pin::new(&mut self.pipe).poll_read(cx, target))?;
            let read = target.filled().len() - before;
            if read > 0 {
                return Poll::Ready(Ok(Some(read)));
            }
        }
        let asking = self.asking.get_or_insert_with(|| Box::pin(self.end.clone().whole()));
        let is_whole = ready!(asking.as_mut().poll(cx));
        self.asking = None;
        Poll::Ready(Ok(is_whole.then_some(0)))
    }
}
