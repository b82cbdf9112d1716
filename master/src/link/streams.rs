//! The streams of a link: the mux counts their bytes, and this holds them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fakessh_protocol::mux::{Mux, MuxError, Transmit};
use fakessh_protocol::wire::{HEADER_LEN, Handle, MAX_DATA};

use super::ends::{LinkLost, StreamRequest, Underway};
use super::inbox::{Inbox, StreamEnd, WORTH_A_PIECE};
use super::piece::Piece;

/// Bytes that go to the link's stream in one piece, if so many are ready: one full data frame and
/// the small ones around it.
const BATCH: usize = MAX_DATA + HEADER_LEN;

/// How many times its own size a piece may keep in memory, as a part of what came at once.
const MOST_KEPT: usize = 4;

/// The mux, and what waits on both sides of it.
pub(super) struct Streams {
    pub(super) mux: Mux,
    outboxes: HashMap<Handle, Outbox>,
    inboxes: HashMap<Handle, Inbox>,
}

/// Chunks of a handle that wait for their turn.
struct Outbox {
    chunks: VecDeque<Piece>,
    underway: Arc<Underway>,
}

impl Streams {
    pub(super) fn new(mux: Mux) -> Streams {
        Streams { mux, outboxes: HashMap::new(), inboxes: HashMap::new() }
    }

    /// Opens a handle for sending. `underway` counts the chunks that wait here.
    pub(super) fn open_sending(
        &mut self,
        handle: Handle,
        underway: Arc<Underway>,
    ) -> Result<(), LinkLost> {
        self.mux.open_sending(handle).map_err(broken)?;
        self.outboxes.insert(handle, Outbox { chunks: VecDeque::new(), underway });
        Ok(())
    }

    /// Opens a handle for receiving into an inbox.
    pub(super) fn open_receiving(&mut self, handle: Handle, inbox: Inbox) -> Result<(), LinkLost> {
        self.mux.open_receiving(handle).map_err(broken)?;
        self.inboxes.insert(handle, inbox);
        Ok(())
    }

    /// Does what the end of a session's stream asks for.
    pub(super) fn request(&mut self, handle: Handle, request: StreamRequest) {
        match request {
            StreamRequest::Data(chunk) => {
                if let Some(outbox) = self.outboxes.get_mut(&handle) {
                    self.mux.offer(handle, chunk.len());
                    outbox.chunks.push_back(chunk);
                }
            }
            StreamRequest::Finish => self.mux.finish(handle),
            StreamRequest::Reset => {
                self.outboxes.remove(&handle);
                self.mux.reset(handle);
            }
            StreamRequest::Consumed(len) => self.mux.consumed(handle, len),
            StreamRequest::Stop => {
                self.inboxes.remove(&handle);
                self.mux.stop(handle);
            }
        }
    }

    /// The slave wants no more of what we send.
    pub(super) fn stopped(&mut self, handle: Handle) {
        if let Some(outbox) = self.outboxes.remove(&handle) {
            outbox.underway.stop();
        }
    }

    /// Cuts what we send, because the session is over: the sender is not told that the receiver
    /// wants no more.
    pub(super) fn cut_sending(&mut self, handle: Handle) {
        if let Some(outbox) = self.outboxes.remove(&handle) {
            outbox.underway.end();
        }
        self.mux.reset(handle);
    }

    /// Tells the reader how the stream ended.
    pub(super) fn close_inbox(&mut self, handle: Handle, end: StreamEnd) {
        if let Some(inbox) = self.inboxes.remove(&handle) {
            inbox.end(end);
        }
    }

    /// Ends all, because the link has ended.
    pub(super) fn end(&self) {
        self.outboxes.values().for_each(|outbox| outbox.underway.end());
    }

    /// Gives a piece of data to its reader. The piece came with `came` bytes in all.
    pub(super) fn received(&mut self, handle: Handle, mut piece: Bytes, came: usize) {
        let len = piece.len();
        if len >= WORTH_A_PIECE && len < came / MOST_KEPT {
            // The piece would keep all that came with it, which no credit counts, for as long as
            // its reader waits. The inbox copies smaller pieces anyway.
            piece = Bytes::copy_from_slice(&piece);
        }
        self.mux.took(len);
        let inbox = self.inboxes.get(&handle);
        if inbox.is_none_or(|inbox| !inbox.put(piece)) {
            // Nobody reads it.
            self.mux.consumed(handle, len);
        }
    }

    /// Puts frames together until there are no more, or enough for one piece. A large frame that
    /// needs no copy goes after them by itself, and is returned.
    pub(super) fn fill(&mut self, batch: &mut BytesMut) -> Result<Option<Bytes>, LinkLost> {
        while batch.len() < BATCH
            && let Some(transmit) = self.mux.transmit()
        {
            match transmit {
                Transmit::Control(frame) => batch.extend_from_slice(&frame),
                Transmit::Data { header, handle, len } => {
                    let mut outbox = self.outboxes.get_mut(&handle);
                    if len >= WORTH_A_PIECE
                        && let Some(outbox) = &mut outbox
                        && let Some(frame) = outbox.take_frame(header, len)
                    {
                        return Ok(Some(frame));
                    }
                    batch.reserve(HEADER_LEN + len);
                    batch.extend_from_slice(&header);
                    // Only what was put into an outbox is ever offered to the mux.
                    if outbox.map_or(0, |outbox| outbox.take(len, batch)) < len {
                        return Err(LinkLost("the link lost count of its bytes".into()));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Outbox {
    /// Takes the next bytes as a whole frame, if they were read as one.
    fn take_frame(&mut self, header: [u8; HEADER_LEN], len: usize) -> Option<Bytes> {
        if self.chunks.front()?.len() != len {
            return None;
        }
        match self.chunks.pop_front()?.into_frame(header) {
            Ok(frame) => {
                self.underway.took_one();
                Some(frame)
            }
            Err(piece) => {
                self.chunks.push_front(piece);
                None
            }
        }
    }

    /// Moves up to `len` bytes to the batch, and says how many. A chunk whose last byte went makes
    /// room for the next one of its handle.
    fn take(&mut self, len: usize, batch: &mut BytesMut) -> usize {
        let mut taken = 0;
        while taken < len
            && let Some(chunk) = self.chunks.pop_front()
        {
            let mut chunk = chunk.into_bytes();
            let piece = chunk.split_to(chunk.len().min(len - taken));
            taken += piece.len();
            batch.extend_from_slice(&piece);
            if chunk.is_empty() {
                self.underway.took_one();
            } else {
                self.chunks.push_front(Piece::Plain(chunk));
            }
        }
        taken
    }
}

/// Why a link ends whose slave has broken the protocol.
pub(super) fn broken(error: MuxError) -> LinkLost {
    LinkLost(format!("the slave broke the protocol: {error}").into())
}
