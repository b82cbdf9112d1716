//! How much of something a peer may send before it has to wait: a burst, and a rate for ever.
//!
//! All connections are served by one thread. What a peer sends for nobody, as fast as the network
//! carries it, takes that thread from everybody else. So it is counted, and a peer that has sent too
//! much is not read for a moment: the network then makes it wait.

use std::time::Duration;

use tokio::time::Instant;

/// What a peer has left.
#[derive(Debug)]
pub(crate) struct Allowance {
    burst: u64,
    per_second: u64,
    /// What was taken and not yet forgiven.
    taken: u64,
    /// The time up to which it was forgiven.
    since: Instant,
}

impl Allowance {
    /// An allowance of which nothing is taken.
    pub(crate) fn new(burst: u64, per_second: u64, now: Instant) -> Allowance {
        Allowance { burst, per_second, taken: 0, since: now }
    }

    /// The peer has sent so much.
    pub(crate) fn take(&mut self, amount: u64) {
        self.taken = self.taken.saturating_add(amount);
    }

    /// So much of what it has sent was wanted.
    pub(crate) fn give_back(&mut self, amount: u64) {
        self.taken = self.taken.saturating_sub(amount);
    }

    /// Whether more is taken than is free, but for what time has forgiven.
    pub(crate) fn is_used_up(&self) -> bool {
        self.taken > self.burst
    }

    /// Until when nothing more is to be read; `None` if the peer may go on.
    pub(crate) fn rest(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if !self.is_used_up() {
            // Nobody asks for the time while nothing is wrong.
            return None;
        }
        let now = now();
        let elapsed = now.saturating_duration_since(self.since);
        let forgiven = elapsed.as_micros().saturating_mul(u128::from(self.per_second)) / 1_000_000;
        self.give_back(u64::try_from(forgiven).unwrap_or(u64::MAX));
        self.since = now;
        let excess = self.taken.checked_sub(self.burst).filter(|&excess| excess > 0)?;
        let micros = (excess.saturating_mul(1_000_000) / self.per_second).saturating_add(1);
        Some(now + Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: u64 = 10_000;
    const PER_SECOND: u64 = 100_000;

    #[tokio::test]
    async fn a_burst_is_free_and_a_flood_is_slowed_to_its_rate() {
        let begin = Instant::now();
        let mut now = begin;
        let mut allowance = Allowance::new(BURST, PER_SECOND, now);
        allowance.take(BURST);
        assert_eq!(allowance.rest(|| now), None);
        let mut taken = 0;
        while taken < 10 * PER_SECOND {
            allowance.take(8192);
            taken += 8192;
            if let Some(until) = allowance.rest(|| now) {
                assert!(until > now);
                now = until;
            }
        }
        let seconds = now.saturating_duration_since(begin).as_secs_f64();
        assert!((9.9..10.2).contains(&seconds), "{seconds}");
    }

    #[tokio::test]
    async fn what_is_slower_never_rests() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(BURST, PER_SECOND, now);
        for _ in 0..100_000 {
            now += Duration::from_micros(100);
            allowance.take(9);
            assert_eq!(allowance.rest(|| now), None);
        }
    }

    #[tokio::test]
    async fn what_was_wanted_does_not_count() {
        let now = Instant::now();
        let mut allowance = Allowance::new(BURST, PER_SECOND, now);
        for _ in 0..1000 {
            allowance.take(BURST);
            allowance.give_back(BURST);
            assert_eq!(allowance.rest(|| now), None);
        }
    }
}
