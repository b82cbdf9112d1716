//! One message over a `SOCK_SEQPACKET` Unix socket, with descriptors beside it (`SCM_RIGHTS`).
//!
//! The first byte of a datagram says where the payload is: behind it, or, where it would not fit
//! into a socket's buffer, in a sealed memory file that travels as the last descriptor. Both ends
//! of a handoff use this file, so nothing here changes a flag of the socket: the functions whose
//! name begins with `try_` ask for `MSG_DONTWAIT` on each call.
//!
//! A receiver that is at its limit of open descriptors gets the first ones and loses the rest
//! (`MSG_CTRUNC`): what is needed for an answer goes first. See [`CutShort`].

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use fakessh_protocol::wire;

mod memory;

/// Most bytes of a payload that travel in the datagram itself. A socket's buffer is 208 KiB by
/// default and counts overhead; an invocation with its environment is some 10 KiB.
pub const MAX_INLINE: usize = 64 * 1024;

/// Most bytes of a payload at all: twice the largest message ([`wire::MAX_MESSAGE`]), so that a
/// message that is too large is refused by the codec, with its own words.
pub const MAX_PAYLOAD: usize = 8 * 1024 * 1024;

/// Most descriptors of one datagram. A handoff has four; the kernel's limit is 253.
pub const MAX_DESCRIPTORS: usize = 8;

/// How long a blocking send goes on trying while the kernel has no room for descriptors in
/// flight (`ETOOMANYREFS`) or for the datagram (`ENOBUFS`): a burst of a thousand handoffs is
/// worked off in less.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first pause of such a wait; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The payload follows in the datagram.
const INLINE: u8 = 0;

/// The payload is in the memory file that is the last descriptor.
const IN_MEMORY_FILE: u8 = 1;

/// What came with one datagram.
#[derive(Debug)]
pub struct Datagram {
    /// The bytes of the message.
    pub payload: Vec<u8>,
    /// The descriptors, all of them close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// A datagram of which descriptors were lost, because this process may not open as many. Found
/// inside of errors of the kind `InvalidData`.
#[derive(Debug, Error)]
#[error("malformed datagram: descriptors were lost at this process's limit of open ones")]
pub struct CutShort {
    /// The descriptors that arrived: the first ones, perhaps none.
    pub descriptors: Vec<OwnedFd>,
}

/// Sends one datagram, and waits for room as long as it takes.
///
/// # Errors
/// `InvalidInput` for more than [`MAX_PAYLOAD`] bytes or [`MAX_DESCRIPTORS`] descriptors;
/// `BrokenPipe` or `ConnectionReset` where the far end is gone; what `sendmsg(2)` says.
pub fn send(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut pause = FIRST_PAUSE;
    let mut waited = Duration::ZERO;
    loop {
        match transmit(socket, payload, descriptors, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            // Somebody set O_NONBLOCK on the socket.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&socket, PollFlags::OUT)], None).ok();
            }
            Err(Errno::TOOMANYREFS | Errno::NOBUFS) if waited < PATIENCE => {
                let timeout = Timespec::try_from(pause).map_err(io::Error::other)?;
                poll(&mut [], Some(&timeout)).ok();
                waited += pause;
                pause = LONGEST_PAUSE.min(pause * 2);
            }
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Sends one datagram if there is room for it now.
///
/// # Errors
/// As [`send`], `WouldBlock` where the socket's buffer is full, and an error for which
/// [`is_shortage`] is true where the kernel has no room although the socket may be writable:
/// try that again after a pause, it has no event to wait for.
pub fn try_send(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match transmit(socket, payload, descriptors, flags) {
            Err(Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Whether a send failed for a shortage that passes: too many descriptors of this user in flight
/// (`ETOOMANYREFS`), or no memory for the datagram (`ENOBUFS`).
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::TOOMANYREFS | Errno::NOBUFS))
}

/// Receives one datagram, and waits for it. `None` is the end: the far end is closed.
///
/// # Errors
/// `InvalidData` for a datagram that [`send`] does not make (too many descriptors, a memory file
/// that is not sealed or too large) and, with a [`CutShort`] inside, for one that lost descriptors
/// on its way. What `recvmsg(2)` says.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Datagram>> {
    accept(socket, RecvFlags::CMSG_CLOEXEC)
}

/// Receives one datagram if one is there.
///
/// # Errors
/// As [`receive`], and `WouldBlock` where there is none.
pub fn try_receive(socket: BorrowedFd<'_>) -> io::Result<Option<Datagram>> {
    accept(socket, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
}

/// Encodes a message and sends it as [`send`] does. Its encoded bytes are zeroed afterwards, as
/// they may be an answer to a question.
///
/// # Errors
/// As [`send`], and `InvalidInput` for a message that is too large.
pub fn send_message<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send(socket, &encode(message)?, descriptors)
}

/// Encodes a message and sends it as [`try_send`] does.
///
/// # Errors
/// As [`try_send`], and `InvalidInput` for a message that is too large.
pub fn try_send_message<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    try_send(socket, &encode(message)?, descriptors)
}

/// Receives a message as [`receive`] does, with its descriptors.
///
/// # Errors
/// As [`receive`], and `InvalidData` for bytes that are no such message.
pub fn receive_message<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive(socket)?.map(decode).transpose()
}

/// Receives a message as [`try_receive`] does, with its descriptors.
///
/// # Errors
/// As [`try_receive`], and `InvalidData` for bytes that are no such message.
pub fn try_receive_message<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    try_receive(socket)?.map(decode).transpose()
}

/// The bytes of a short message as they go over the socket, for a caller that can only call
/// `sendmsg(2)`: a signal handler.
///
/// # Errors
/// `InvalidInput` for a message that is too large.
pub fn inline_bytes<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![INLINE];
    bytes.extend_from_slice(&encode(message)?);
    Ok(bytes)
}

fn encode<T: Serialize>(message: &T) -> io::Result<Zeroizing<Vec<u8>>> {
    wire::encode(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn decode<T: DeserializeOwned>(datagram: Datagram) -> io::Result<(T, Vec<OwnedFd>)> {
    let payload = Zeroizing::new(datagram.payload);
    match wire::decode(&payload) {
        Ok(message) => Ok((message, datagram.descriptors)),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// One attempt to send.
fn transmit(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<()> {
    if payload.len() > MAX_PAYLOAD || descriptors.len() > MAX_DESCRIPTORS {
        return Err(Errno::INVAL);
    }
    if payload.len() <= MAX_INLINE {
        return transmit_parts(socket, INLINE, payload, descriptors, flags);
    }
    let file = memory::seal(payload)?;
    let mut all = Vec::with_capacity(1 + descriptors.len());
    all.extend_from_slice(descriptors);
    all.push(file.as_fd());
    transmit_parts(socket, IN_MEMORY_FILE, &[], &all, flags)
}

fn transmit_parts(
    socket: BorrowedFd<'_>,
    form: u8,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS + 1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let form = [form];
    let parts = [IoSlice::new(&form), IoSlice::new(payload)];
    // A datagram goes as a whole or not at all.
    sendmsg(socket, &parts, &mut control, flags).map(drop)
}

/// Receives one datagram with the flags given.
fn accept(socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<Option<Datagram>> {
    let mut form = [0];
    // Zeroed memory fresh from the kernel: pages that no datagram touches are never resident.
    let mut inline = vec![0; MAX_INLINE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS + 1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut form), IoSliceMut::new(&mut inline)];
        match recvmsg(socket, &mut parts, &mut control, flags) {
            Err(Errno::INTR) => {}
            // A peer that died with our datagrams unread resets: the end, too.
            Err(Errno::CONNRESET) => return Ok(None),
            result => break result?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC) {
        return Err(malformed("it was cut short"));
    }
    if received.flags.intersects(ReturnFlags::CTRUNC) && descriptors.len() <= MAX_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidData, CutShort { descriptors }));
    }
    let payload = match form {
        [INLINE] => {
            // What came and no more: it is zeroed after use, and that would touch all of the rest.
            let came = &mut inline[..received.bytes - form.len()];
            let payload = came.to_vec();
            came.zeroize();
            payload
        }
        [IN_MEMORY_FILE] if received.bytes == form.len() => match descriptors.pop() {
            Some(file) => memory::open(file)?,
            None => return Err(malformed("its memory file is missing")),
        },
        _ => return Err(malformed("its form is unknown")),
    };
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(malformed("it has too many descriptors"));
    }
    Ok(Some(Datagram { payload, descriptors }))
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed datagram: {why}"))
}

#[cfg(test)]
mod tests;
