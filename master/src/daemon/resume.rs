//! Learns that the machine has slept: connections may have died meanwhile, and nobody was told.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Seconds since 1970 that no clock reaches: the year 2255, near the kernel's last.
const NEVER: i64 = 9_000_000_000;

/// Watches for jumps of the clock, which a resume is one of (timerfd_create(2),
/// `TFD_TIMER_CANCEL_ON_SET`). Nothing wakes up meanwhile.
#[derive(Debug)]
pub(super) struct Resumes(Option<AsyncFd<OwnedFd>>);

impl Resumes {
    /// Begins to watch. Where the system can't, nothing is ever seen, and the keepalive has to do.
    pub(super) fn watch() -> Resumes {
        let watch = || {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
            arm(&timer)?;
            sys::watch(timer, Interest::READABLE)
        };
        let watching = watch().inspect_err(|error| tracing::warn!(%error, "can't watch the clock"));
        Resumes(watching.ok())
    }

    /// Resolves when the clock has jumped. Cancel safe.
    pub(super) async fn next(&self) {
        let Some(timer) = &self.0 else { return std::future::pending().await };
        let read = |timer: &OwnedFd| match rustix::io::read(timer, &mut [0; 8]) {
            Err(Errno::CANCELED) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        };
        let jumped = timer.async_io(Interest::READABLE, read).await;
        if jumped.and_then(|()| arm(timer.get_ref())).is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Sets the timer to a time that never comes.
fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Timespec { tv_sec: NEVER, tv_nsec: 0 };
    let value = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &value)?;
    Ok(())
}
