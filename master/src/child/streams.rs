//! The standard streams of a program.

use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::{Buf, Bytes};
use fakessh_protocol::wire::MAX_DATA;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::link::{Chunk, Receiver, Sender};
use crate::shared::{InputPipe, OutputPipe};

/// Bytes that are read from a pipe at once.
const PIECE: usize = 64 * 1024;

/// Standard input of a program. Shutdown and drop are its end of file; [`ChildStdin::abort`] cuts it.
#[derive(Debug)]
pub struct ChildStdin {
    /// `None` after the end.
    input: Option<InputStream>,
}

/// What carries standard input.
#[derive(Debug)]
enum InputStream {
    Link(Sender),
    Pipe(InputPipe),
}

impl ChildStdin {
    pub(crate) fn of_link(sender: Sender) -> ChildStdin {
        ChildStdin { input: Some(InputStream::Link(sender)) }
    }

    pub(crate) fn of_pipe(pipe: InputPipe) -> ChildStdin {
        ChildStdin { input: Some(InputStream::Pipe(pipe)) }
    }

    /// Cuts the stream: the program is hung up before it can take what it got for the whole. Must be
    /// called in a tokio runtime.
    pub fn abort(mut self) {
        match self.input.take() {
            // A sender that is dropped unfinished cuts.
            Some(InputStream::Link(sender)) => drop(sender),
            Some(InputStream::Pipe(pipe)) => pipe.abort(),
            None => {}
        }
    }

    /// Waits until the program wants no more input, or has ended. Cancel safe.
    pub async fn closed(&self) {
        match &self.input {
            Some(InputStream::Link(sender)) => sender.stopped().await,
            Some(InputStream::Pipe(pipe)) => pipe.closed().await,
            None => {}
        }
    }

    fn end(&mut self) {
        if let Some(InputStream::Link(sender)) = self.input.take() {
            sender.finish();
        }
    }
}

impl AsyncWrite for ChildStdin {
    /// Gives bytes to the connection as fast as the program takes them. Cancel safe.
    ///
    /// # Errors
    /// `BrokenPipe` if the program wants no more, has ended, or the connection is lost:
    /// [`Child::wait`](crate::Child::wait) tells which.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sender = match &mut self.input {
            Some(InputStream::Link(sender)) => sender,
            Some(InputStream::Pipe(pipe)) => return pipe.poll_write(cx, bytes),
            None => return Poll::Ready(Err(broken())),
        };
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
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for ChildStdin {
    fn drop(&mut self) {
        self.end();
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the program takes no more input, or is gone")
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the stream was cut: bytes are missing")
}

/// Bytes that come from a program.
#[derive(Debug)]
pub(super) enum OutputStream {
    Link {
        receiver: Receiver,
        /// What came and was not read.
        pending: Bytes,
    },
    Pipe(OutputPipe),
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
        let (receiver, pending) = match self {
            OutputStream::Link { receiver, pending } => (receiver, pending),
            OutputStream::Pipe(pipe) => {
                let read = ready!(pipe.poll_read(cx, target))?;
                return Poll::Ready(read.map(drop).ok_or_else(cut));
            }
        };
        while pending.is_empty() {
            match ready!(receiver.poll_receive(cx)) {
                Chunk::Data(bytes) => *pending = bytes,
                Chunk::End => return Poll::Ready(Ok(())),
                Chunk::Cut => return Poll::Ready(Err(cut())),
            }
        }
        let len = pending.len().min(target.remaining());
        target.put_slice(&pending[..len]);
        pending.advance(len);
        receiver.consumed(len);
        Poll::Ready(Ok(()))
    }

    /// All that is still to come; `None` if bytes are missing.
    pub(super) async fn collect(mut self) -> Option<Vec<u8>> {
        let mut collected = Vec::new();
        loop {
            // Whole pieces of a link need not be copied twice.
            if let OutputStream::Link { receiver, pending } = &mut self
                && pending.is_empty()
            {
                match receiver.receive().await {
                    Chunk::Data(bytes) => {
                        collected.extend_from_slice(&bytes);
                        receiver.consumed(bytes.len());
                    }
                    Chunk::End => return Some(collected),
                    Chunk::Cut => return None,
                }
                continue;
            }
            collected.reserve(PIECE);
            if self.read_buf(&mut collected).await.ok()? == 0 {
                return Some(collected);
            }
        }
    }
}

impl AsyncRead for OutputStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        OutputStream::poll_read(&mut self, cx, target)
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
        pub struct $name(pub(super) OutputStream);

        impl $name {
            pub(crate) fn of_link(receiver: Receiver) -> $name {
                $name(OutputStream::Link { receiver, pending: Bytes::new() })
            }

            pub(crate) fn of_pipe(pipe: OutputPipe) -> $name {
                $name(OutputStream::Pipe(pipe))
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
