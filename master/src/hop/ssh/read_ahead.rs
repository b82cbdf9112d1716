//! A stream that is read while it can't be written.
//!
//! russh writes all that it has to say before it reads again. If what carries the connection takes
//! no more because nobody reads what came (another connection of russh's, or a ProxyCommand, whose
//! window or pipe is full), both would wait for each other for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::algorithms::WINDOW;
use super::transport::Duplex;

/// Most bytes that are read ahead: what a server may send on one channel, and 1 MiB for what it says
/// beside that. If a server sends more, it waits, and so does what is written.
const MOST: usize = WINDOW as usize + 1024 * 1024;

/// Bytes that are read at once.
const PIECE: usize = 32 * 1024;

/// A stream that is read while it can't be written.
pub(super) struct ReadAhead {
    stream: Box<dyn Duplex>,
    /// What was read ahead.
    ahead: BytesMut,
    /// How the reading ended, after what was read ahead.
    ended: Option<io::Result<()>>,
}

impl ReadAhead {
    pub(super) fn new(stream: Box<dyn Duplex>) -> ReadAhead {
        ReadAhead { stream, ahead: BytesMut::new(), ended: None }
    }

    /// Reads what is there, and has the task woken when there is more.
    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        while self.ended.is_none() && self.ahead.len() < MOST {
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.stream).poll_read(cx, &mut piece) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if piece.filled().is_empty() => self.ended = Some(Ok(())),
                Poll::Ready(Ok(())) => self.ahead.extend_from_slice(piece.filled()),
                Poll::Ready(Err(error)) => self.ended = Some(Err(error)),
            }
        }
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(target.remaining());
            target.put_slice(&this.ahead[..count]);
            this.ahead.advance(count);
            if this.ahead.is_empty() {
                // Gives the memory back: it was needed for a moment, and may be megabytes.
                this.ahead = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        match this.ended.take() {
            Some(Ok(())) => {
                this.ended = Some(Ok(()));
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Pin::new(&mut this.stream).poll_read(cx, target),
        }
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_pending() {
            self.read_ahead(cx);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_pending() {
            self.read_ahead(cx);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn who_writes_before_it_reads_waits_for_nobody_who_does_the_same() {
        let (near, far) = duplex(1000);
        let work = async |stream: tokio::io::DuplexStream, byte: u8| {
            let mut stream = ReadAhead::new(Box::new(stream));
            stream.write_all(&vec![byte; 1_000_000]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert!(all.len() == 1_000_000 && all.iter().all(|&other| other != byte));
            // The end is told again.
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        };
        tokio::join!(work(near, b'a'), work(far, b'b'));
    }

    // The clock goes on when nothing else can.
    #[tokio::test(start_paused = true)]
    async fn no_more_is_read_ahead_than_a_server_may_send() {
        let (near, mut far) = duplex(1000);
        let mut near = ReadAhead::new(Box::new(near));
        let flood = async {
            let piece = vec![0; 1024 * 1024];
            loop {
                far.write_all(&piece).await.unwrap();
            }
        };
        let stuck = near.write_all(&[0; 2000]);
        tokio::select! {
            biased;
            () = flood => {}
            _ = stuck => panic!("nobody has read it"),
            () = tokio::time::sleep(std::time::Duration::from_secs(2)) => {}
        }
        assert!((MOST..MOST + PIECE).contains(&near.ahead.len()), "{}", near.ahead.len());
    }
}
