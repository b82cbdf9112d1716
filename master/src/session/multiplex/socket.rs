//! A client's connection to a ControlPath: packets, and descriptors between them.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use bytes::{Buf as _, BytesMut};
use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use super::wire::{Answer, MAX_PACKET};
use crate::audit::Who;
use crate::pump::Foreign;
use crate::sys;

/// Most descriptors that wait to be used: those of a session.
const MAX_DESCRIPTORS: usize = 3;

/// Bytes that are read at once.
const PIECE: usize = 4096;

/// A client's connection.
pub(super) struct ClientSocket {
    fd: AsyncFd<Foreign>,
    /// One reader at a time.
    received: Mutex<Received>,
}

/// What was received and is not used up.
#[derive(Default)]
struct Received {
    bytes: BytesMut,
    descriptors: Vec<Foreign>,
}

impl ClientSocket {
    pub(super) fn new(fd: Foreign) -> io::Result<ClientSocket> {
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

    /// The process at the other end.
    pub(super) fn who(&self) -> Option<Who> {
        Who::at(self.fd.get_ref())
    }

    /// The standard streams of a session: so many descriptors, each of which comes with a byte of its
    /// own, and `/dev/null` for those that are missing.
    ///
    /// # Errors
    /// As recvmsg(2) and open(2), and if a descriptor is missing. Cancel safe.
    pub(super) async fn standard_streams(&self, count: usize) -> io::Result<[Foreign; 3]> {
        let mut received = self.received.lock().await;
        while received.bytes.len() < count {
            if !self.receive(&mut received).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        received.bytes.advance(count);
        let mut streams: Vec<Foreign> = received.descriptors.drain(..).collect();
        if streams.len() != count {
            return Err(io::ErrorKind::InvalidData.into());
        }
        while streams.len() < 3 {
            streams.push(null()?.into());
        }
        streams.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Receives once; false at the end.
    ///
    /// # Errors
    /// As recvmsg(2), and for more descriptors than a session has.
    async fn receive(&self, received: &mut Received) -> io::Result<bool> {
        let Received { bytes, descriptors } = received;
        let read = self.fd.async_io(Interest::READABLE, |fd| {
            let mut piece = [0; PIECE];
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let message = recvmsg(fd, &mut [IoSliceMut::new(&mut piece)], &mut control, flags)?;
            for part in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = part {
                    descriptors.extend(rights.map(Foreign::from));
                }
            }
            if descriptors.len() > MAX_DESCRIPTORS {
                return Err(io::ErrorKind::InvalidData.into());
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

fn null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}
