//! What came on a stream and was not read yet.
//!
//! Credit counts bytes, and a piece of one byte takes a hundred: so small pieces are put together.
//! Whatever a slave cuts its output into, it takes no more memory than the handle's window.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// All bytes have come.
    Whole,
    /// The stream was cut: bytes are missing.
    Cut,
}

impl From<StreamEnd> for Chunk {
    fn from(end: StreamEnd) -> Chunk {
        match end {
            StreamEnd::Whole => Chunk::End,
            StreamEnd::Cut => Chunk::Cut,
        }
    }
}

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

/// Bytes from which a piece is kept as it is. Smaller ones are put together.
pub(super) const WORTH_A_PIECE: usize = 4096;

/// Bytes of small pieces that are put together: what a reader likes to get at once.
const GATHERED: usize = 16 * 1024;

/// Makes both ends of what waits for a handle's reader.
pub(super) fn inbox() -> (Inbox, Arrivals) {
    let shared = Arc::new(InboxShared::default());
    (Inbox(shared.clone()), Arrivals(shared))
}

#[derive(Debug, Default)]
struct InboxShared {
    state: Mutex<State>,
}

impl InboxShared {
    /// Wakes the reader after `put` has put something there for it; false if nobody reads.
    fn wake_after(&self, put: impl FnOnce(&mut Unreceived)) -> bool {
        let reader = match &mut *self.lock() {
            State::Read(waiting) => {
                put(waiting);
                waiting.reader.take()
            }
            State::Unread => return false,
        };
        reader.inspect(Waker::wake_by_ref);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
enum State {
    Read(Unreceived),
    /// The reader is gone.
    Unread,
}

impl Default for State {
    fn default() -> State {
        State::Read(Unreceived::default())
    }
}

/// What waits for the reader.
#[derive(Debug, Default)]
struct Unreceived {
    pieces: VecDeque<Bytes>,
    /// Small pieces after `pieces`.
    gathered: BytesMut,
    /// How the stream ended, after both.
    end: Option<StreamEnd>,
    /// Who waits for more.
    reader: Option<Waker>,
}

impl Unreceived {
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
        self.take_bytes().map(Chunk::Data).or_else(|| self.end.map(Chunk::from))
    }
}

/// Where the link's task puts what comes. Dropped without an end, it cuts the stream.
#[derive(Debug)]
pub(crate) struct Inbox(Arc<InboxShared>);

impl Inbox {
    /// Adds bytes; false if nobody reads them.
    #[must_use]
    pub(crate) fn put(&self, piece: Bytes) -> bool {
        self.0.wake_after(|waiting| waiting.put(piece))
    }

    /// Says how the stream ended; the first word counts.
    pub(crate) fn end(&self, end: StreamEnd) {
        self.0.wake_after(|waiting| {
            waiting.end.get_or_insert(end);
        });
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.end(StreamEnd::Cut);
    }
}

/// Where a handle's reader takes it from.
#[derive(Debug)]
pub(super) struct Arrivals(Arc<InboxShared>);

impl Arrivals {
    /// The next bytes, or how the stream ended, again and again.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Chunk> {
        let next = self.waiting(|waiting| {
            let chunk = waiting.take();
            if chunk.is_none() {
                waiting.reader = Some(cx.waker().clone());
            }
            chunk
        });
        next.map_or(Poll::Pending, Poll::Ready)
    }

    /// The next bytes, if they have come already.
    pub(super) fn more(&mut self) -> Option<Bytes> {
        self.waiting(Unreceived::take_bytes)
    }

    fn waiting<T>(&self, take: impl FnOnce(&mut Unreceived) -> Option<T>) -> Option<T> {
        match &mut *self.0.lock() {
            State::Read(waiting) => take(waiting),
            State::Unread => None,
        }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        *self.0.lock() = State::Unread;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(arrivals: &mut Arrivals) -> Chunk {
        std::future::poll_fn(|cx| arrivals.poll_next(cx)).await
    }

    fn data(bytes: &'static [u8]) -> Chunk {
        Chunk::Data(Bytes::from_static(bytes))
    }

    #[tokio::test]
    async fn small_pieces_come_together_and_in_order() {
        let (inbox, mut arrivals) = inbox();
        let large = Bytes::from(vec![b'L'; WORTH_A_PIECE]);
        assert!(inbox.put(Bytes::from_static(b"a")) && inbox.put(Bytes::from_static(b"b")));
        assert!(inbox.put(large.clone()) && inbox.put(Bytes::from_static(b"c")));
        inbox.end(StreamEnd::Whole);
        drop(inbox);
        assert_eq!(next(&mut arrivals).await, data(b"ab"));
        assert_eq!(next(&mut arrivals).await, Chunk::Data(large));
        assert_eq!(next(&mut arrivals).await, data(b"c"));
        assert_eq!(next(&mut arrivals).await, Chunk::End);
        assert_eq!(next(&mut arrivals).await, Chunk::End);
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
        while let Chunk::Data(piece) = next(&mut arrivals).await {
            sizes.push(piece.len());
        }
        assert_eq!(sizes, [GATHERED; WINDOW / GATHERED]);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_and_one_that_is_gone_is_known() {
        let (inbox, mut arrivals) = inbox();
        let (came, ()) = tokio::join!(next(&mut arrivals), async {
            tokio::task::yield_now().await;
            assert!(inbox.put(Bytes::from_static(b"x")));
        });
        assert_eq!(came, data(b"x"));
        let (came, ()) = tokio::join!(next(&mut arrivals), async { drop(inbox) });
        assert_eq!(came, Chunk::Cut);
        let (inbox, arrivals) = super::inbox();
        drop(arrivals);
        assert!(!inbox.put(Bytes::from_static(b"x")));
    }
}
