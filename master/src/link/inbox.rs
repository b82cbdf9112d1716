//! What came on a stream and was not read yet.
//!
//! Credit counts bytes, and a piece of one byte takes a hundred: so small pieces are put together.
//! Whatever a slave cuts its output into, it takes no more memory than the handle's window.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

/// What comes on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes, in order.
    Data(Bytes),
    /// All bytes have come.
    End,
    /// The stream was cut: bytes are missing.
    Cut,
}

/// Bytes from which a piece is kept as it is. Smaller ones are copied behind each other.
pub(super) const WORTH_A_PIECE: usize = 4096;

/// Bytes of small pieces that are put together: what a reader likes to get at once.
const GATHERED: usize = 16 * 1024;

/// Makes both ends of what waits for a handle's reader.
pub(super) fn inbox() -> (Inbox, Arrivals) {
    let shared = Arc::new(Shared::default());
    (Inbox(shared.clone()), Arrivals(shared))
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    arrival: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Bytes>,
    /// Small pieces behind `pieces`.
    gathered: BytesMut,
    /// How the stream ended, behind both.
    end: Option<Chunk>,
    /// Whether the reader is gone.
    is_unread: bool,
}

impl Waiting {
    fn put(&mut self, piece: Bytes) {
        if piece.len() >= WORTH_A_PIECE {
            self.close_gathered();
            self.pieces.push_back(piece);
        } else {
            if self.gathered.len() + piece.len() > GATHERED {
                self.close_gathered();
            }
            self.gathered.extend_from_slice(&piece);
        }
    }

    fn close_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push_back(self.gathered.split().freeze());
        }
    }

    fn take_bytes(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.close_gathered();
        }
        self.pieces.pop_front()
    }

    fn take(&mut self) -> Option<Chunk> {
        self.take_bytes().map(Chunk::Data).or_else(|| self.end.clone())
    }
}

/// Where the link's task puts what comes. Dropped without an end, it cuts the stream.
#[derive(Debug)]
pub(crate) struct Inbox(Arc<Shared>);

impl Inbox {
    /// Adds bytes; false if nobody reads them.
    #[must_use]
    pub(crate) fn put(&self, piece: Bytes) -> bool {
        let mut waiting = self.0.lock();
        if waiting.is_unread {
            return false;
        }
        waiting.put(piece);
        drop(waiting);
        self.0.arrival.notify_one();
        true
    }

    /// Says how the stream ended; the first word counts.
    pub(crate) fn end(&self, end: Chunk) {
        self.0.lock().end.get_or_insert(end);
        self.0.arrival.notify_one();
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.end(Chunk::Cut);
    }
}

/// Where a handle's reader takes it from.
#[derive(Debug)]
pub(super) struct Arrivals(Arc<Shared>);

impl Arrivals {
    /// The next bytes, or how the stream ended, again and again. Cancel safe.
    pub(super) async fn next(&mut self) -> Chunk {
        loop {
            let chunk = self.0.lock().take();
            match chunk {
                Some(chunk) => return chunk,
                None => self.0.arrival.notified().await,
            }
        }
    }

    /// The next bytes, if they have come already.
    pub(super) fn more(&mut self) -> Option<Bytes> {
        self.0.lock().take_bytes()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        *waiting = Waiting { is_unread: true, ..Waiting::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &'static [u8]) -> Chunk {
        Chunk::Data(Bytes::from_static(bytes))
    }

    #[tokio::test]
    async fn small_pieces_come_together_and_in_order() {
        let (inbox, mut arrivals) = inbox();
        let large = Bytes::from(vec![b'L'; WORTH_A_PIECE]);
        assert!(inbox.put(Bytes::from_static(b"a")) && inbox.put(Bytes::from_static(b"b")));
        assert!(inbox.put(large.clone()) && inbox.put(Bytes::from_static(b"c")));
        inbox.end(Chunk::End);
        drop(inbox);
        assert_eq!(arrivals.next().await, data(b"ab"));
        assert_eq!(arrivals.next().await, Chunk::Data(large));
        assert_eq!(arrivals.next().await, data(b"c"));
        assert_eq!(arrivals.next().await, Chunk::End);
        assert_eq!(arrivals.next().await, Chunk::End);
    }

    #[tokio::test]
    async fn bytes_one_by_one_take_little_more_than_their_number() {
        const WINDOW: usize = 256 * 1024;
        let (inbox, mut arrivals) = inbox();
        for _ in 0..WINDOW {
            assert!(inbox.put(Bytes::from_static(b"x")));
        }
        drop(inbox);
        let mut sizes = Vec::new();
        while let Chunk::Data(piece) = arrivals.next().await {
            sizes.push(piece.len());
        }
        assert_eq!(sizes, [GATHERED; WINDOW / GATHERED]);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_and_one_that_is_gone_is_known() {
        let (inbox, mut arrivals) = inbox();
        let (came, ()) = tokio::join!(arrivals.next(), async {
            tokio::task::yield_now().await;
            assert!(inbox.put(Bytes::from_static(b"x")));
        });
        assert_eq!(came, data(b"x"));
        let (came, ()) = tokio::join!(arrivals.next(), async { drop(inbox) });
        assert_eq!(came, Chunk::Cut);
        let (inbox, arrivals) = super::inbox();
        drop(arrivals);
        assert!(!inbox.put(Bytes::from_static(b"x")));
    }
}
