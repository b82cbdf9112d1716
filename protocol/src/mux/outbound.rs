//! What goes out, and in which order.

use zeroize::Zeroizing;

use crate::wire::{HEADER_LEN, Handle, Header, Kind};

use super::sending::Turn;
use super::{Mux, frame};

/// The next frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// These bytes, as they are. There may be a secret in a message.
    Control(Zeroizing<Vec<u8>>),
    /// This header, and behind it the next `len` bytes that the driver offered on `handle`.
    Data {
        /// The encoded header.
        header: [u8; HEADER_LEN],
        /// Whose bytes follow.
        handle: Handle,
        /// How many, 1 to [`MAX_DATA`](crate::wire::MAX_DATA).
        len: usize,
    },
}

impl Mux {
    /// The driver has `len` more bytes of this handle ready. Forgotten where it is not open, or
    /// finished. What is beyond its credit is worth offering, too: only then the receiver learns
    /// that its window holds the stream up, and may widen it.
    pub fn offer(&mut self, handle: Handle, len: usize) {
        if let Some(sending) = self.sending.get_mut(&handle) {
            sending.offer(len);
            self.queue_turn(handle);
        }
    }

    /// The stream of this handle ends behind what was offered.
    pub fn finish(&mut self, handle: Handle) {
        if let Some(sending) = self.sending.get_mut(&handle) {
            sending.finish();
            self.queue_turn(handle);
        }
    }

    /// Gives up the stream of this handle; what was offered is forgotten, and the handle closed.
    pub fn reset(&mut self, handle: Handle) {
        if self.sending.remove(&handle).is_some() {
            self.queue(frame(Kind::Reset, handle, &[]));
        }
    }

    /// Wants no more bytes of this handle. What is still on the way is for the driver to throw
    /// away; the handle closes when the sender has answered.
    pub fn stop(&mut self, handle: Handle) {
        if let Some(receiving) = self.receiving.get_mut(&handle)
            && !receiving.stopped
        {
            receiving.stopped = true;
            self.queue(frame(Kind::Stop, handle, &[]));
        }
    }

    /// The driver is done with `len` bytes of this handle: they can be granted again.
    pub fn consumed(&mut self, handle: Handle, len: usize) {
        let Some(receiving) = self.receiving.get_mut(&handle) else { return };
        receiving.consume(len);
        self.queue_grant(handle);
    }

    /// Whether [`Mux::transmit`] may have something to give. Where this is false it has not.
    pub fn wants_transmit(&self) -> bool {
        !self.control.is_empty()
            || !self.grants.is_empty()
            || !self.turns.is_empty()
            || self.liveness.owes_pong()
    }

    /// The next frame, if there is one. The driver sends it whole before it asks again.
    pub fn transmit(&mut self) -> Option<Transmit> {
        if let Some(frame) = self.control.pop_front() {
            self.queued -= frame.len();
            return Some(Transmit::Control(frame));
        }
        if let Some((kind, nonce)) = self.liveness.transmit() {
            return Some(Transmit::Control(frame(kind, Handle::LINK, &nonce.to_le_bytes())));
        }
        while let Some((handle, serial)) = self.grants.pop_front() {
            if let Some(frame) = self.grant(handle, serial) {
                return Some(Transmit::Control(frame));
            }
        }
        while let Some((handle, serial)) = self.turns.pop_front() {
            if let Some(transmit) = self.turn(handle, serial) {
                return Some(transmit);
            }
        }
        None
    }

    /// The credit frame of a handle whose turn has come.
    fn grant(&mut self, handle: Handle, serial: u64) -> Option<Zeroizing<Vec<u8>>> {
        let receiving = self.receiving.get_mut(&handle).filter(|open| open.serial == serial)?;
        receiving.queued = false;
        let granted = receiving.grant() as u32;
        (granted > 0).then(|| frame(Kind::Credit, handle, &granted.to_le_bytes()))
    }

    /// One turn of a handle: data, its end, or word that it is blocked.
    fn turn(&mut self, handle: Handle, serial: u64) -> Option<Transmit> {
        let sending = self.sending.get_mut(&handle).filter(|open| open.serial == serial)?;
        sending.queued = false;
        match sending.turn() {
            Turn::Data(len) => {
                let header = Header { kind: Kind::Data, len, handle }.encode();
                self.queue_turn(handle);
                Some(Transmit::Data { header, handle, len })
            }
            Turn::Blocked => Some(Transmit::Control(frame(Kind::Blocked, handle, &[]))),
            Turn::Eof => {
                self.sending.remove(&handle);
                Some(Transmit::Control(frame(Kind::Eof, handle, &[])))
            }
            Turn::Pass => None,
        }
    }

    /// Puts a handle in line for data, unless it stands there or has nothing that could go.
    pub(super) fn queue_turn(&mut self, handle: Handle) {
        if let Some(sending) = self.sending.get_mut(&handle)
            && sending.wants_turn()
            && !sending.queued
        {
            sending.queued = true;
            self.turns.push_back((handle, sending.serial));
        }
    }

    /// Puts a handle in line for a grant, unless it stands there or has too little to grant.
    pub(super) fn queue_grant(&mut self, handle: Handle) {
        if let Some(receiving) = self.receiving.get_mut(&handle)
            && receiving.owes_grant()
            && !receiving.queued
        {
            receiving.queued = true;
            self.grants.push_back((handle, receiving.serial));
        }
    }
}
