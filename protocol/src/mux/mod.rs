//! Many handles on one link, as a state machine without I/O and without a clock.
//!
//! The mux never holds a byte of bulk. A driver *offers* how many bytes it has ready for a
//! handle; [`Mux::transmit`] says which frame goes next, and for data how many of the offered
//! bytes follow its header. Inbound, [`Mux::expecting`] says whether the next bytes of the link
//! belong to the mux ([`Mux::receive`]) or are payload of a handle, which the driver moves by
//! whatever means it likes (a slice, `splice`) and reports with [`Mux::took`].
//!
//! A handle is one direction of bytes with one sender. Its sender may send what it has credit
//! for; credit is granted as bytes are *consumed*, so a receiver never holds more than its
//! window. It ends with an end of file or a reset from the sender; a receiver that wants no more
//! says *stop*, which the sender answers with a reset. Whoever opens a handle does so by a
//! message that both sides understand, before any byte of it. Whoever gets such a message opens
//! its handles also where it refuses the rest of it, and then stops and resets them: bytes for
//! them may be on the way, and the other side waits for their end.
//!
//! A handle's number is not used again for a long time (numbers are taken in rising order): its
//! sender has closed it while the receiver may still grant or stop, and such a late frame would
//! be taken for the new handle's.
//!
//! Order: control frames go before bulk, and handles take turns of at most
//! [`MAX_DATA`](crate::wire::MAX_DATA) bytes. A message that must not overtake data is given to
//! the mux when [`Mux::is_sending`] has turned false.

mod inbound;
mod liveness;
mod outbound;
mod receiving;
mod sending;

use std::collections::{HashMap, VecDeque};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::wire::{self, Handle, Header, Kind, WireError};

pub use inbound::Expecting;
pub use liveness::Liveness;
pub use outbound::Transmit;
use receiving::Receiving;
use sending::Sending;

/// Credit of a new handle, known to both sides without a word. One round trip's worth of 40 Mbit/s
/// at 50 ms; it bounds what a thousand stopped sessions hold to 256 MB.
pub const INITIAL_WINDOW: u32 = 256 * 1024;

/// What a window may grow to where the reader keeps up and the sender waits for credit: 1.3 Gbit/s
/// at 50 ms.
pub const MAX_WINDOW: u32 = 8 * 1024 * 1024;

/// What all windows of a link together may grow by: sixteen handles at full width. It bounds what
/// sessions hold whose readers were fast and then stopped.
pub const MAX_WIDENED: usize = 128 * 1024 * 1024;

/// Most handles of one direction on a link: 16,000 sessions and more. Bounds what a peer can make
/// us remember.
pub const MAX_HANDLES: usize = 65_536;

/// What the peer did to break the protocol. The link is of no use after one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MuxError {
    /// A frame that can't be.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Bytes, an end or a reset for a handle that is not open.
    #[error("frame for handle {} that is not open", .0.0)]
    NotOpen(Handle),
    /// More bytes than were granted.
    #[error("handle {} got more bytes than it granted", .0.0)]
    OverCredit(Handle),
    /// More credit than a window can ever be.
    #[error("handle {} was granted more than any window", .0.0)]
    CreditOverflow(Handle),
    /// A handle is opened that is open.
    #[error("handle {} is opened twice", .0.0)]
    OpenedTwice(Handle),
    /// A session is started with handles that are not the sender's to pick.
    #[error("session {} is started with handles that it can't have", .0.0)]
    BadHandles(Handle),
    /// Too many handles at once.
    #[error("more than {MAX_HANDLES} handles")]
    TooManyHandles,
}

/// Something that the peer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message on this handle. There may be a secret in it.
    Message(Handle, Zeroizing<Vec<u8>>),
    /// The handle's stream is complete. It is closed.
    Eof(Handle),
    /// The handle's stream is cut short. It is closed.
    Reset(Handle),
    /// The receiver wants no more of this handle; what was offered is forgotten, and the handle
    /// is closed. A data frame of it that was begun is sent to its end nevertheless.
    Stopped(Handle),
}

/// The state of one end of a link.
#[derive(Debug)]
pub struct Mux {
    sending: HashMap<Handle, Sending>,
    receiving: HashMap<Handle, Receiving>,
    /// Encoded control frames, in order.
    control: VecDeque<Zeroizing<Vec<u8>>>,
    /// How many bytes they have together.
    queued: usize,
    /// Handles with something to send and the credit for it, in the order of their turns.
    turns: Line,
    /// Receiving handles with credit to grant.
    grants: Line,
    /// How often a handle was opened.
    serial: u64,
    /// Bytes that all open windows have grown by.
    widened: usize,
    inbound: inbound::Inbound,
    liveness: liveness::Pings,
    /// Frames whose header came.
    received: u64,
    limits: Limits,
}

/// Most bytes of a message, by its first byte.
pub type MessageLimit = fn(u8) -> usize;

/// What messages may have.
#[derive(Clone, Copy, Debug)]
struct Limits {
    sent: MessageLimit,
    received: MessageLimit,
}

/// Handles in line, each with the serial of its opening: one that has closed since, and perhaps
/// opened again, has lost its place.
type Line = VecDeque<(Handle, u64)>;

impl Default for Mux {
    fn default() -> Self {
        Self::new()
    }
}

impl Mux {
    /// An end of a link with no handle open.
    pub fn new() -> Mux {
        Mux {
            sending: HashMap::new(),
            receiving: HashMap::new(),
            control: VecDeque::new(),
            queued: 0,
            turns: VecDeque::new(),
            grants: VecDeque::new(),
            serial: 0,
            widened: 0,
            inbound: inbound::Inbound::new(),
            liveness: liveness::Pings::default(),
            received: 0,
            limits: Limits { sent: |_| wire::MAX_MESSAGE, received: |_| wire::MAX_MESSAGE },
        }
    }

    /// The same, for a peer that breaks the protocol with a message above this limit. It is known
    /// before the rest of the message is taken.
    #[must_use]
    pub fn limit_received(mut self, limit: MessageLimit) -> Mux {
        self.limits.received = limit;
        self
    }

    /// The same, which sends no message above this limit.
    #[must_use]
    pub fn limit_sent(mut self, limit: MessageLimit) -> Mux {
        self.limits.sent = limit;
        self
    }

    /// Opens a handle to send on.
    ///
    /// # Errors
    /// [`MuxError::OpenedTwice`], [`MuxError::TooManyHandles`].
    pub fn open_sending(&mut self, handle: Handle) -> Result<(), MuxError> {
        if self.sending.len() >= MAX_HANDLES {
            return Err(MuxError::TooManyHandles);
        }
        if self.sending.contains_key(&handle) || handle == Handle::LINK {
            return Err(MuxError::OpenedTwice(handle));
        }
        self.serial += 1;
        self.sending.insert(handle, Sending::new(self.serial));
        Ok(())
    }

    /// Opens a handle to receive on.
    ///
    /// # Errors
    /// [`MuxError::OpenedTwice`], [`MuxError::TooManyHandles`].
    pub fn open_receiving(&mut self, handle: Handle) -> Result<(), MuxError> {
        if self.receiving.len() >= MAX_HANDLES {
            return Err(MuxError::TooManyHandles);
        }
        if self.receiving.contains_key(&handle) || handle == Handle::LINK {
            return Err(MuxError::OpenedTwice(handle));
        }
        self.serial += 1;
        self.receiving.insert(handle, Receiving::new(self.serial));
        Ok(())
    }

    /// Closes a handle, both directions, without a word. Only for a handle that the peer was never
    /// told of: the message that would have opened it could not be sent.
    pub fn forget(&mut self, handle: Handle) {
        self.sending.remove(&handle);
        self.close_receiving(handle);
    }

    /// Queues a message. It goes out before bulk, in the order of messages.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], [`WireError::TooLargeForKind`], [`WireError::BadMessage`] where one
    /// of its lists is too long; nothing is queued then.
    pub fn message<T: serde::Serialize>(
        &mut self,
        handle: Handle,
        message: &T,
    ) -> Result<(), WireError> {
        let frame = wire::encode_frame(handle, message)?;
        if let Some(&kind) = frame.get(wire::HEADER_LEN) {
            check_message(self.limits.sent, kind, frame.len() - wire::HEADER_LEN)?;
        }
        self.queue(frame);
        Ok(())
    }

    /// How many frames have come so far: what a peer makes us do, if it sends small ones.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of control frames that wait to be sent. Whoever takes in what is to be passed on as
    /// messages waits while they are many.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Whether the sending side of this handle is open: its end, or a reset, is not yet out.
    pub fn is_sending(&self, handle: Handle) -> bool {
        self.sending.contains_key(&handle)
    }

    /// Whether the receiving side of this handle is open: no end and no reset came.
    pub fn is_receiving(&self, handle: Handle) -> bool {
        self.receiving.contains_key(&handle)
    }

    /// Most bytes that may be held of this handle at this time, 0 where it is not open to
    /// receive: at least [`INITIAL_WINDOW`], at most [`MAX_WINDOW`].
    pub fn window(&self, handle: Handle) -> usize {
        self.receiving.get(&handle).map_or(0, Receiving::window)
    }

    fn close_receiving(&mut self, handle: Handle) -> Option<Receiving> {
        let receiving = self.receiving.remove(&handle)?;
        self.widened -= receiving.widened();
        Some(receiving)
    }

    fn queue(&mut self, frame: Zeroizing<Vec<u8>>) {
        self.queued += frame.len();
        self.control.push_back(frame);
    }
}

/// Holds the length of a message against its limit.
fn check_message(limit: MessageLimit, kind: u8, len: usize) -> Result<(), WireError> {
    let limit = limit(kind).min(wire::MAX_MESSAGE);
    if len > limit { Err(WireError::TooLargeForKind { kind, len, limit }) } else { Ok(()) }
}

/// A control frame that is no message.
fn frame(kind: Kind, handle: Handle, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let header = Header { kind, len: payload.len(), handle }.encode();
    Zeroizing::new([&header[..], payload].concat())
}
