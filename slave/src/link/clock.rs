//! When the slave wakes for its link though nothing is ready: to ask whether the master is there,
//! and when the master has been silent for too long. Nothing here reads the time of day.

use std::time::{Duration, Instant};

use fakessh_protocol::message::LinkSettings;

/// The timers of a link. With none of them set the slave sleeps without a timeout.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// The interval between two ticks, and when the next is due.
    tick: Option<(Duration, Instant)>,
    /// How long the master may be silent, and when it was heard last.
    silence: Option<(Duration, Instant)>,
}

impl Clock {
    /// Sets the intervals that the master asks for.
    pub(crate) fn set(&mut self, settings: LinkSettings, now: Instant) {
        let interval = |ms: u32| (ms > 0).then(|| Duration::from_millis(ms.into()));
        self.tick = interval(settings.keepalive_ms).map(|every| (every, now + every));
        self.silence = interval(settings.silence_ms).map(|limit| (limit, now));
    }

    /// Notes that bytes of the master came.
    pub(crate) fn heard(&mut self) {
        if let Some((_, last)) = &mut self.silence {
            *last = Instant::now();
        }
    }

    /// Whether it is time to ask for a sign of life. Says so once an interval.
    pub(crate) fn tick_is_due(&mut self, now: Instant) -> bool {
        match &mut self.tick {
            Some((every, next)) if *next <= now => {
                *next = now + *every;
                true
            }
            _ => false,
        }
    }

    /// Whether the master has been silent for too long.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.silence.is_some_and(|(limit, last)| now.duration_since(last) >= limit)
    }

    /// When to wake at the latest, for either.
    pub(crate) fn next(&self) -> Option<Instant> {
        let tick = self.tick.map(|(_, next)| next);
        let silence = self.silence.map(|(limit, last)| last + limit);
        tick.into_iter().chain(silence).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long, so that nothing that holds this test up is as long.
    const LIMIT: Duration = Duration::from_secs(1_000_000);

    fn clock(keepalive: Duration, now: Instant) -> Clock {
        let ms = |duration: Duration| duration.as_millis() as u32;
        let mut clock = Clock::default();
        let settings = LinkSettings { keepalive_ms: ms(keepalive), silence_ms: ms(LIMIT) };
        clock.set(settings, now);
        clock
    }

    #[test]
    fn silence_begins_anew_with_what_is_heard() {
        let begun = Instant::now();
        let mut clock = clock(Duration::ZERO, begun);
        let end = begun + LIMIT;
        assert_eq!(clock.next(), Some(end));
        assert!(clock.is_silent(end) && !clock.is_silent(end - Duration::from_nanos(1)));
        while Instant::now() == begun {}
        clock.heard();
        assert!(!clock.is_silent(end));
        assert!(clock.next() > Some(end));
        assert!(clock.is_silent(Instant::now() + LIMIT));
    }

    #[test]
    fn a_tick_is_due_once_an_interval() {
        let begun = Instant::now();
        let every = Duration::from_secs(5);
        let mut clock = clock(every, begun);
        assert!(!clock.tick_is_due(begun));
        assert_eq!(clock.next(), Some(begun + every));
        assert!(clock.tick_is_due(begun + every));
        assert!(!clock.tick_is_due(begun + every));
        assert!(clock.tick_is_due(begun + 2 * every));
    }

    #[test]
    fn without_settings_nothing_is_due() {
        let mut clock = Clock::default();
        let late = Instant::now() + LIMIT;
        assert!(clock.next().is_none() && !clock.is_silent(late) && !clock.tick_is_due(late));
    }
}
