//! SSH over a byte stream that another context has opened.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender, error::SendError};

use crate::stream::ByteStream;

/// Most bytes that are put into one chunk.
const CHUNK: usize = 64 * 1024;

type Reserving = Pin<Box<dyn Future<Output = Result<OwnedPermit<Bytes>, SendError<()>>> + Send>>;

/// A [`ByteStream`] to be read from and written to.
pub(super) struct StreamIo {
    incoming: Receiver<Bytes>,
    /// What is left of the chunk that came last.
    rest: Bytes,
    /// `None` when writing has ended.
    outgoing: Option<Sender<Bytes>>,
    reserving: Option<Reserving>,
}

impl StreamIo {
    pub(super) fn new(stream: ByteStream) -> StreamIo {
        let ByteStream { incoming, outgoing, .. } = stream;
        StreamIo { incoming, rest: Bytes::new(), outgoing: Some(outgoing), reserving: None }
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.incoming.poll_recv(cx)) {
                Some(chunk) => self.rest = chunk,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(outgoing) = self.outgoing.clone() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let reserving = self.reserving.get_or_insert_with(|| Box::pin(outgoing.reserve_owned()));
        let permit = ready!(reserving.as_mut().poll(cx));
        self.reserving = None;
        match permit {
            Ok(permit) => {
                let count = buf.len().min(CHUNK);
                permit.send(Bytes::copy_from_slice(&buf[..count]));
                Poll::Ready(Ok(count))
            }
            Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.reserving = None;
        self.outgoing = None;
        Poll::Ready(Ok(()))
    }
}
