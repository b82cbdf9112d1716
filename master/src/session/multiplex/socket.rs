//! A client's connection to a ControlPath: packets, and descriptors between them.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use bytes::{Buf as _, BytesMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use super::wire::{Answer, MAX_PACKET};
use crate::sys;

/// Most descriptors that one call receives: ssh sends one at a time.
const AT_ONCE: usize = 3;

/// Bytes that are read at once.
const PIECE: usize = 4096;

/// A client's connection.
pub(super) struct ClientSocket {
    fd: AsyncFd<OwnedFd>,
    /// One reader at a time.
    received: Mutex<Received>,
}

/// What was received and is not used up.
#[derive(Default)]
struct Received {
    bytes: BytesMut,
    descriptors: VecDeque<OwnedFd>,
}

impl ClientSocket {
    pub(super) fn new(fd: OwnedFd) -> io::Result<ClientSocket> {
        let fd = sys::watch(fd, Interest::READABLE | Interest::WRITABLE)?;
        Ok(ClientSocket { fd, received: Mutex::default() })
    }

    /// The payload of the next packet; `None` at the end.
    ///
    /// # Errors
    /// As recvmsg(2), and for a packet that is too large. Cancel safe.
    pub(super) async fn packet(&self) -> io::Result<Option<Vec<u8>>> {
        let mut received = self.received.lock().await;
        loop {
            if let Some(len) = received.bytes.first_chunk().map(|len| u32::from_be_bytes(*len)) {
                let len = len as usize;
                if len > MAX_PACKET {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if received.bytes.len() >= 4 + len {
                    received.bytes.advance(4);
                    return Ok(Some(received.bytes.split_to(len).to_vec()));
                }
            }
            if !self.receive(&mut received).await? {
                return Ok(None);
            }
        }
    }

    /// The next descriptor, which comes with a byte of its own.
    ///
    /// # Errors
    /// As recvmsg(2), and if the descriptor is missing. Cancel safe.
    pub(super) async fn descriptor(&self) -> io::Result<OwnedFd> {
        let mut received = self.received.lock().await;
        while received.bytes.is_empty() {
            if !self.receive(&mut received).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        received.bytes.advance(1);
        received.descriptors.pop_front().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Receives once; false at the end.
    async fn receive(&self, received: &mut Received) -> io::Result<bool> {
        let Received { bytes, descriptors } = received;
        let read = self.fd.async_io(Interest::READABLE, |fd| {
            let mut piece = [0; PIECE];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let message = recvmsg(fd, &mut [IoSliceMut::new(&mut piece)], &mut control, flags)?;
            for part in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = part {
                    descriptors.extend(rights);
                }
            }
            bytes.extend_from_slice(&piece[..message.bytes]);
            Ok(message.bytes)
        });
        Ok(read.await? > 0)
    }

    /// Answers. A client that is gone is noticed when it is read.
    pub(super) async fn answer(&self, answer: &Answer<'_>) {
        let packet = answer.encode();
        let mut rest = &packet[..];
        while !rest.is_empty() {
            let sent = self.fd.async_io(Interest::WRITABLE, |fd| {
                Ok(send(fd, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
            });
            match sent.await {
                Ok(len) => rest = &rest[len..],
                Err(_) => return,
            }
        }
    }
}
