//! What came on a stream and was not read yet.
//!
//! Credit counts bytes, and a piece of one byte takes a hundred: so small pieces are put together.
//! Whatever a slave cuts its output into, it takes no more memory than the handle's window.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

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
    arrival: Notify,
}

impl InboxShared {
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
        match &mut *self.0.lock() {
            State::Read(waiting) => waiting.put(piece),
            State::Unread => return false,
        }
        self.0.arrival.notify_one();
        true
    }

    /// Says how the stream ended; the first word counts.
    pub(crate) fn end(&self, end: StreamEnd) {
        if let State::Read(waiting) = &mut *self.0.lock() {
            waiting.end.get_or_insert(end);
        }
        self.0.arrival.notify_one();
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
    /// The next bytes, or how the stream ended, again and again. Cancel safe.
    pub(super) async fn next(&mut self) -> Chunk {
        loop {
            if let Some(chunk) = self.waiting(Unreceived::take) {
                return chunk;
            }
            self.0.arrival.notified().await;
        }
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
