//! The sending side of a handle: what the receiver granted, and what the driver has ready.

use crate::wire::MAX_DATA;

use super::{INITIAL_WINDOW, MAX_WINDOW};

#[derive(Debug)]
pub(super) struct Sending {
    /// Tells this opening of the handle from an earlier one of the same number.
    pub(super) serial: u64,
    /// Bytes that may still be sent.
    credit: usize,
    /// Bytes that the driver has ready.
    offered: usize,
    /// Whether the end follows what is offered.
    finished: bool,
    /// Whether the receiver was told that credit ran out.
    blocked: bool,
    /// Whether it stands in the line of turns.
    pub(super) queued: bool,
}

/// What a handle does with its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Sends so many bytes.
    Data(usize),
    /// Tells the receiver that it waits for credit.
    Blocked,
    /// Says that nothing follows.
    Eof,
    /// Nothing: there is nothing to send.
    Pass,
}

impl Sending {
    pub(super) fn new(serial: u64) -> Sending {
        Sending {
            serial,
            credit: INITIAL_WINDOW as usize,
            offered: 0,
            finished: false,
            blocked: false,
            queued: false,
        }
    }

    pub(super) fn offer(&mut self, len: usize) {
        if !self.finished {
            self.offered = self.offered.saturating_add(len);
        }
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether it has a use for a turn.
    pub(super) fn wants_turn(&self) -> bool {
        if self.offered > 0 { !self.blocked } else { self.finished }
    }

    pub(super) fn turn(&mut self) -> Turn {
        let len = self.offered.min(self.credit).min(MAX_DATA);
        if len > 0 {
            self.offered -= len;
            self.credit -= len;
            Turn::Data(len)
        } else if self.offered > 0 {
            if std::mem::replace(&mut self.blocked, true) { Turn::Pass } else { Turn::Blocked }
        } else if self.finished {
            Turn::Eof
        } else {
            Turn::Pass
        }
    }

    /// The receiver granted more. False where it is more than any window.
    pub(super) fn credit(&mut self, granted: usize) -> bool {
        self.credit = self.credit.saturating_add(granted);
        // No receiver grants nothing; one that does gets no answer to it.
        self.blocked &= granted == 0;
        self.credit <= MAX_WINDOW as usize
    }
}
