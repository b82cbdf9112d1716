//! What goes out, and in which order.

use crate::wire::{HEADER_LEN, Handle, Header, Kind, MAX_DATA};

use super::Mux;

/// The next frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// These bytes, as they are.
    Control(Vec<u8>),
    /// This header, and behind it the next `len` bytes that the driver offered on `handle`.
    Data {
        /// The encoded header.
        header: [u8; HEADER_LEN],
        /// Whose bytes follow.
        handle: Handle,
        /// How many, 1 to [`MAX_DATA`].
        len: usize,
    },
}

impl Mux {
    /// The driver has `len` more bytes of this handle ready. Forgotten where it is not open.
    pub fn offer(&mut self, handle: Handle, len: usize) {
        if let Some(sending) = self.sending.get_mut(&handle)
            && !sending.finished
        {
            sending.offered += len;
            self.queue_turn(handle);
        }
    }

    /// The stream of this handle ends behind what was offered.
    pub fn finish(&mut self, handle: Handle) {
        if let Some(sending) = self.sending.get_mut(&handle) {
            sending.finished = true;
            self.queue_turn(handle);
        }
    }

    /// Gives up the stream of this handle; what was offered is forgotten, and the handle closed.
    pub fn reset(&mut self, handle: Handle) {
        if self.sending.remove(&handle).is_some() {
            self.control_frame(Kind::Reset, handle, &[]);
        }
    }

    /// Wants no more bytes of this handle. What is still on the way is for the driver to throw
    /// away; the handle closes when the sender has answered.
    pub fn stop(&mut self, handle: Handle) {
        if let Some(receiving) = self.receiving.get_mut(&handle)
            && !receiving.stopped
        {
            receiving.stopped = true;
            self.control_frame(Kind::Stop, handle, &[]);
        }
    }

    /// The driver is done with `len` bytes of this handle: they can be granted again.
    pub fn consumed(&mut self, handle: Handle, len: usize) {
        let Some(receiving) = self.receiving.get_mut(&handle) else { return };
        let len = len.min(receiving.held);
        receiving.held -= len;
        receiving.freed += len;
        // Half a window at a time keeps the sender going and the credit frames few.
        if receiving.freed >= receiving.window / 2 && !receiving.queued && !receiving.stopped {
            receiving.queued = true;
            self.grants.push_back(handle);
        }
    }

    /// Whether [`Mux::transmit`] has something to give.
    pub fn wants_transmit(&self) -> bool {
        !self.control.is_empty()
            || !self.grants.is_empty()
            || !self.turns.is_empty()
            || self.liveness.owes_pong()
    }

    /// The next frame, if there is one. The driver sends it whole before it asks again.
    pub fn transmit(&mut self) -> Option<Transmit> {
        if let Some(frame) = self.control.pop_front() {
            return Some(Transmit::Control(frame));
        }
        if let Some((kind, nonce)) = self.liveness.transmit() {
            return Some(Transmit::Control(frame(kind, Handle::LINK, &nonce.to_le_bytes())));
        }
        while let Some(handle) = self.grants.pop_front() {
            if let Some(frame) = self.grant(handle) {
                return Some(Transmit::Control(frame));
            }
        }
        while let Some(handle) = self.turns.pop_front() {
            if let Some(transmit) = self.turn(handle) {
                return Some(transmit);
            }
        }
        None
    }

    /// The credit frame of a handle whose turn has come.
    fn grant(&mut self, handle: Handle) -> Option<Vec<u8>> {
        let receiving = self.receiving.get_mut(&handle)?;
        receiving.queued = false;
        let freed = std::mem::take(&mut receiving.freed);
        if freed == 0 || receiving.stopped {
            return None;
        }
        receiving.credit += freed;
        Some(frame(Kind::Credit, handle, &(freed as u32).to_le_bytes()))
    }

    /// One turn of a handle: data, its end, or word that it is blocked.
    fn turn(&mut self, handle: Handle) -> Option<Transmit> {
        let sending = self.sending.get_mut(&handle)?;
        sending.queued = false;
        let len = sending.offered.min(sending.credit).min(MAX_DATA);
        if len > 0 {
            sending.offered -= len;
            sending.credit -= len;
            let header = Header { kind: Kind::Data, len, handle }.encode();
            self.queue_turn(handle);
            return Some(Transmit::Data { header, handle, len });
        }
        if sending.offered > 0 {
            sending.blocked = true;
            return Some(Transmit::Control(frame(Kind::Blocked, handle, &[])));
        }
        if sending.finished {
            self.sending.remove(&handle);
            return Some(Transmit::Control(frame(Kind::Eof, handle, &[])));
        }
        None
    }

    /// Puts a handle in line, unless it stands there or has nothing that could go.
    pub(super) fn queue_turn(&mut self, handle: Handle) {
        let Some(sending) = self.sending.get_mut(&handle) else { return };
        let has_turn = if sending.offered > 0 { !sending.blocked } else { sending.finished };
        if has_turn && !sending.queued {
            sending.queued = true;
            self.turns.push_back(handle);
        }
    }
}

fn frame(kind: Kind, handle: Handle, payload: &[u8]) -> Vec<u8> {
    let mut frame = Header { kind, len: payload.len(), handle }.encode().to_vec();
    frame.extend_from_slice(payload);
    frame
}
