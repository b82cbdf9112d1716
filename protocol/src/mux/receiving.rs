//! The receiving side of a handle: what was granted, what is held, what can be granted again.

use super::{INITIAL_WINDOW, MAX_WINDOW};

/// Always: credit + held + freed = window.
#[derive(Debug)]
pub(super) struct Receiving {
    /// Tells this opening of the handle from an earlier one of the same number.
    pub(super) serial: u64,
    /// Bytes the peer may still send.
    credit: usize,
    /// Bytes received and not consumed.
    held: usize,
    /// Bytes consumed and not granted again.
    freed: usize,
    /// Most bytes that may be underway and held.
    window: usize,
    /// Bytes consumed since the window got its size.
    drained: usize,
    /// Whether it stands in the line of grants.
    pub(super) queued: bool,
    /// Whether the peer was told to stop; what still comes is for nobody.
    pub(super) stopped: bool,
}

impl Receiving {
    pub(super) fn new(serial: u64) -> Receiving {
        let window = INITIAL_WINDOW as usize;
        Receiving {
            serial,
            credit: window,
            held: 0,
            freed: 0,
            window,
            drained: 0,
            queued: false,
            stopped: false,
        }
    }

    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// What the window has grown by since it was opened.
    pub(super) fn widened(&self) -> usize {
        self.window - INITIAL_WINDOW as usize
    }

    /// The header of a data frame came. False where the peer had no credit for it.
    #[must_use]
    pub(super) fn arrive(&mut self, len: usize) -> bool {
        let Some(credit) = self.credit.checked_sub(len) else { return false };
        self.credit = credit;
        self.held += len;
        self.check();
        true
    }

    pub(super) fn consume(&mut self, len: usize) {
        let len = len.min(self.held);
        self.held -= len;
        self.freed += len;
        self.drained = self.drained.saturating_add(len);
        self.check();
    }

    /// Whether there is enough to grant. Half a window at a time keeps the sender going and the
    /// credit frames few.
    pub(super) fn owes_grant(&self) -> bool {
        !self.stopped && self.freed >= self.window / 2
    }

    /// Grants what was freed. 0 where there is nothing to grant.
    pub(super) fn grant(&mut self) -> usize {
        if self.stopped {
            return 0;
        }
        let granted = std::mem::take(&mut self.freed);
        self.credit += granted;
        self.check();
        granted
    }

    /// The sender waits for credit. Doubles the window where that is what holds it: the reader
    /// holds no more than half of it, and has read a quarter since the last time, so that a peer
    /// which only *says* that it waits gets nothing. `budget` is the most it may grow by.
    pub(super) fn widen(&mut self, budget: usize) {
        let kept_up = self.held <= self.window / 2 && self.drained >= self.window / 4;
        let more = self.window;
        if self.stopped || !kept_up || more > budget || 2 * more > MAX_WINDOW as usize {
            return;
        }
        self.window += more;
        self.freed += more;
        self.drained = 0;
        self.check();
    }

    fn check(&self) {
        debug_assert_eq!(self.credit + self.held + self.freed, self.window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = INITIAL_WINDOW as usize;

    #[test]
    fn half_a_window_is_granted_at_a_time() {
        let mut receiving = Receiving::new(0);
        assert!(receiving.arrive(WINDOW));
        assert!(!receiving.arrive(1));
        receiving.consume(WINDOW / 2 - 1);
        assert!(!receiving.owes_grant());
        receiving.consume(1);
        assert!(receiving.owes_grant());
        assert_eq!(receiving.grant(), WINDOW / 2);
        assert_eq!(receiving.grant(), 0);
    }

    #[test]
    fn a_window_grows_only_for_a_reader_that_keeps_up() {
        let mut receiving = Receiving::new(0);
        receiving.widen(usize::MAX);
        assert_eq!(receiving.window(), WINDOW, "nothing was read yet");
        assert!(receiving.arrive(WINDOW));
        receiving.consume(WINDOW / 2 - 1);
        receiving.widen(usize::MAX);
        assert_eq!(receiving.window(), WINDOW, "more than half is held");
        receiving.consume(1);
        receiving.widen(WINDOW - 1);
        assert_eq!(receiving.window(), WINDOW, "the budget is spent");
        receiving.widen(WINDOW);
        assert_eq!(receiving.window(), 2 * WINDOW);
        receiving.widen(usize::MAX);
        assert_eq!(receiving.window(), 2 * WINDOW, "nothing was read since");
    }

    #[test]
    fn a_window_never_grows_past_its_limit() {
        let mut receiving = Receiving::new(0);
        for _ in 0..100 {
            receiving.widen(usize::MAX);
            let granted = receiving.grant();
            let credit = receiving.credit;
            assert!(granted <= credit && receiving.arrive(credit));
            receiving.consume(credit);
        }
        assert_eq!(receiving.window(), MAX_WINDOW as usize);
    }

    #[test]
    fn a_stopped_handle_grants_nothing() {
        let mut receiving = Receiving::new(0);
        assert!(receiving.arrive(WINDOW));
        receiving.stopped = true;
        receiving.consume(WINDOW);
        receiving.widen(usize::MAX);
        assert!(!receiving.owes_grant());
        assert_eq!(receiving.grant(), 0);
    }
}
