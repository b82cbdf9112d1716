//! How a link is cut into frames: a header of eight bytes, then the payload.
//!
//! Control frames carry bincode, bulk is raw bytes. Every length is bounded before it is believed.
//! This is the only file that names bincode.

use bincode::enc::write::SizeWriter;
use bincode::error::EncodeError;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of a frame's header: kind (1), payload length (3, little endian), handle (4, little
/// endian).
pub const HEADER_LEN: usize = 8;

/// Most payload bytes of one data frame. A frame is sent whole before the next one starts, so
/// this is what a control frame may have to wait for: 64 KiB is half a millisecond at 1 Gbit/s.
/// Together with its header it fills two of sshd's packets.
pub const MAX_DATA: usize = 64 * 1024 - HEADER_LEN;

/// Most bytes of one encoded message. A command line of 1 MiB with an environment of the same
/// size fits; more is refused before it is allocated.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// One numbered stream on a link. 0 is the link itself.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize,
)]
pub struct Handle(pub u32);

impl Handle {
    /// The handle of messages that concern the link and no session.
    pub const LINK: Handle = Handle(0);
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a handle's stream.
    Data = 1,
    /// The sender will send no more on this handle; all that it sent counts.
    Eof = 2,
    /// The sender gave up on this handle; its stream is cut short.
    Reset = 3,
    /// The receiver grants this many more bytes (payload: u32, little endian).
    Credit = 4,
    /// The receiver wants no more of this handle.
    Stop = 5,
    /// The sender has bytes for this handle and no credit: the receiver may widen its window.
    Blocked = 6,
    /// A message in bincode, on a session's control handle or on [`Handle::LINK`].
    Message = 7,
    /// Are you there? (payload: u64, little endian, to be sent back)
    Ping = 8,
    /// The answer to [`Kind::Ping`], with its payload.
    Pong = 9,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// Bytes of payload that follow the header.
    pub len: usize,
    /// The handle that the frame is about.
    pub handle: Handle,
}

/// Bytes that no correct peer sends. The link is of no use after one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// The first byte of a header is no kind of frame.
    #[error("unknown kind of frame {0}")]
    UnknownKind(u8),
    /// The length in a header is not one that this kind of frame can have.
    #[error("frame of kind {kind:?} claims {len} bytes")]
    BadLength {
        /// The kind in the header.
        kind: Kind,
        /// The length in the header.
        len: usize,
    },
    /// A message that can't be decoded.
    #[error("malformed message: {0}")]
    BadMessage(String),
    /// A message that is too large to be sent, or to be read.
    #[error("message of more than {MAX_MESSAGE} bytes")]
    TooLarge,
    /// A message that is larger than its kind may be.
    #[error("message of kind {kind} with {len} bytes, and {limit} are its limit")]
    TooLargeForKind {
        /// Its first byte.
        kind: u8,
        /// Its length, as its frame claims.
        len: usize,
        /// The most that it may have.
        limit: usize,
    },
}

impl Header {
    /// The header as it goes over the link.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let len = self.len as u32;
        let [h0, h1, h2, h3] = self.handle.0.to_le_bytes();
        [self.kind as u8, len as u8, (len >> 8) as u8, (len >> 16) as u8, h0, h1, h2, h3]
    }

    /// Reads a header and holds its length against the limits of its kind.
    ///
    /// # Errors
    /// [`WireError::UnknownKind`] and [`WireError::BadLength`].
    pub fn decode(bytes: [u8; HEADER_LEN]) -> Result<Header, WireError> {
        let kind = match bytes[0] {
            1 => Kind::Data,
            2 => Kind::Eof,
            3 => Kind::Reset,
            4 => Kind::Credit,
            5 => Kind::Stop,
            6 => Kind::Blocked,
            7 => Kind::Message,
            8 => Kind::Ping,
            9 => Kind::Pong,
            other => return Err(WireError::UnknownKind(other)),
        };
        let len = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], 0]) as usize;
        let handle = Handle(u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
        let fits = match kind {
            Kind::Data => (1..=MAX_DATA).contains(&len),
            Kind::Message => (1..=MAX_MESSAGE).contains(&len),
            Kind::Credit => len == 4,
            Kind::Ping | Kind::Pong => len == 8,
            Kind::Eof | Kind::Reset | Kind::Stop | Kind::Blocked => len == 0,
        };
        if !fits {
            return Err(WireError::BadLength { kind, len });
        }
        Ok(Header { kind, len, handle })
    }
}

/// Encodes a message. There may be a secret in it, so it is zeroed when it is dropped, and no copy
/// of it is left elsewhere.
///
/// # Errors
/// [`WireError::TooLarge`] where it would be more than [`MAX_MESSAGE`] bytes.
pub fn encode<T: Serialize>(message: &T) -> Result<Zeroizing<Vec<u8>>, WireError> {
    encode_behind(0, message)
}

/// Encodes a message as a whole frame, likewise.
///
/// # Errors
/// As [`encode`].
pub fn encode_frame<T: Serialize>(
    handle: Handle,
    message: &T,
) -> Result<Zeroizing<Vec<u8>>, WireError> {
    let mut frame = encode_behind(HEADER_LEN, message)?;
    let len = frame.len() - HEADER_LEN;
    let header = Header { kind: Kind::Message, len, handle }.encode();
    frame[..HEADER_LEN].copy_from_slice(&header);
    Ok(frame)
}

/// Encodes a message behind so many free bytes. Its length comes first: a vector that grows leaves
/// copies behind.
fn encode_behind<T: Serialize>(free: usize, message: &T) -> Result<Zeroizing<Vec<u8>>, WireError> {
    let config = bincode::config::standard();
    let bad = |error: EncodeError| WireError::BadMessage(error.to_string());
    let mut size = SizeWriter::default();
    bincode::serde::encode_into_writer(message, &mut size, config).map_err(bad)?;
    if size.bytes_written > MAX_MESSAGE {
        return Err(WireError::TooLarge);
    }
    let mut bytes = Zeroizing::new(vec![0; free + size.bytes_written]);
    bincode::serde::encode_into_slice(message, &mut bytes[free..], config).map_err(bad)?;
    Ok(bytes)
}

/// What bincode may believe while it decodes a message: it counts a number by its size in memory,
/// which is up to eight times what it takes on the wire, and the lists of a message have so few
/// items that this is less than the message's own limit. A length that lies within this costs an
/// allocation that is never touched.
const MAX_CLAIM: usize = 2 * MAX_MESSAGE;

/// Decodes a message that takes up all of `bytes`.
///
/// # Errors
/// [`WireError::TooLarge`] above [`MAX_MESSAGE`] bytes; [`WireError::BadMessage`] where the bytes
/// are no such message, or more than one.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::TooLarge);
    }
    let config = bincode::config::standard().with_limit::<MAX_CLAIM>();
    let (message, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|error| WireError::BadMessage(error.to_string()))?;
    if used != bytes.len() {
        return Err(WireError::BadMessage(format!("{} bytes left over", bytes.len() - used)));
    }
    Ok(message)
}
