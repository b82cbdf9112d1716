//! What wakes whoever ends contexts: at the next end, and not before. A machine that slept nine
//! hours must not go on with what it held for eight, so the clock counts the sleep.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::Moment;
use crate::sys;

/// No time that comes.
const NEVER: u64 = u64::MAX;

/// How often it is looked where the system has no such timer.
const WITHOUT_TIMER: Duration = Duration::from_secs(60);

impl Moment {
    /// What time it is.
    pub(crate) fn now() -> Moment {
        let now = clock_gettime(ClockId::Boottime);
        let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
        Moment(Duration::from_secs(seconds) + Duration::from_nanos(nanos))
    }

    fn milliseconds(self) -> u64 {
        // Rounded up: what is due at a moment must be due when the alarm goes off.
        self.0.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(NEVER)
    }
}

/// The time at which somebody has to look again. Many set it, and one waits for it.
#[derive(Debug)]
pub(crate) struct Alarm {
    at: AtomicU64,
    changed: Notify,
}

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm { at: AtomicU64::new(NEVER), changed: Notify::new() }
    }
}

impl Alarm {
    /// Has it go off at this time, if not before.
    pub(crate) fn no_later_than(&self, moment: Moment) {
        let at = moment.milliseconds();
        if at < self.at.fetch_min(at, Ordering::Relaxed) {
            self.changed.notify_one();
        }
    }

    /// Takes it back. Whoever waits looks at everything after that.
    pub(crate) fn clear(&self) {
        self.at.store(NEVER, Ordering::Relaxed);
    }

    /// Waits until it goes off. Cancel safe.
    pub(crate) async fn wait(&self, timer: &Timer) {
        loop {
            let at = self.at.load(Ordering::Relaxed);
            tokio::select! {
                () = timer.wait(at) => return,
                () = self.changed.notified() => {}
            }
        }
    }
}

/// A timer on the clock that counts sleep.
#[derive(Debug)]
pub(crate) struct Timer(Option<AsyncFd<OwnedFd>>);

impl Timer {
    /// Must be called in a tokio runtime.
    pub(crate) fn new() -> Timer {
        let make = || {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            sys::watch(timerfd_create(TimerfdClockId::Boottime, flags)?, Interest::READABLE)
        };
        let made = make().inspect_err(|error| tracing::warn!(%error, "can't make a timer"));
        Timer(made.ok())
    }

    /// Waits until this time, in milliseconds. Cancel safe.
    async fn wait(&self, at: u64) {
        if at == NEVER {
            return std::future::pending().await;
        }
        let Some(timer) = &self.0 else { return tokio::time::sleep(WITHOUT_TIMER).await };
        // A time of 0 would take the timer back.
        let at = at.max(1);
        let seconds = i64::try_from(at / 1000).unwrap_or(i64::MAX);
        let value = Timespec { tv_sec: seconds, tv_nsec: ((at % 1000) * 1_000_000) as _ };
        let value = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        let set = timerfd_settime(timer.get_ref(), TimerfdTimerFlags::ABSTIME, &value);
        let read =
            |timer: &OwnedFd| -> io::Result<usize> { Ok(rustix::io::read(timer, &mut [0; 8])?) };
        if set.is_err() || timer.async_io(Interest::READABLE, read).await.is_err() {
            tokio::time::sleep(WITHOUT_TIMER).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_goes_off_at_the_earliest_time_that_somebody_has_set() {
        let (alarm, timer) = (Alarm::default(), Timer::new());
        let begun = Moment::now();
        let soon = begun.after(Duration::from_millis(20));
        alarm.no_later_than(begun.after(Duration::from_secs(3600)));
        let set = async {
            tokio::task::yield_now().await;
            alarm.no_later_than(soon);
        };
        tokio::join!(alarm.wait(&timer), set);
        assert!(Moment::now() >= soon);
        // What is past goes off at once.
        alarm.clear();
        alarm.no_later_than(begun);
        alarm.wait(&timer).await;
    }
}
