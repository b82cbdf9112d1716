//! Signals to a process that waits for a tool: which of them are the tool's as well.
//!
//! A terminal signals the whole job, so that the tool has got it already, and must not get it
//! twice. What another process sends to this one alone is passed on.

use std::io;

use fakessh_unix::process::Stat;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, getpgrp, getpid, getppid, getsid, kill_process,
    waitid,
};

use super::sys::{Came, Caught};

/// Signals that a terminal sends to a whole job.
const OF_A_TERMINAL: [Signal; 5] =
    [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::TTIN, Signal::TTOU];

/// Others that are the tool's. A terminal that hangs up tells its session's leader, and that alone.
const OTHERS: [Signal; 2] = [Signal::TERM, Signal::HUP];

/// Most generations between this process and one that the tool has started.
const GENERATIONS: u32 = 64;

/// Signals that this process outlives, as far as they were not ignored when it started.
pub(super) struct Signals(Option<Caught>);

impl Signals {
    /// Catches them. Must be called in a tokio runtime.
    pub(super) fn new() -> io::Result<Signals> {
        let numbers = OF_A_TERMINAL.iter().chain(&OTHERS).chain(&[Signal::CONT]);
        let numbers: Vec<i32> = numbers.map(|signal| signal.as_raw()).collect();
        Ok(Signals(Caught::new(&numbers)?))
    }

    /// The next signal. Cancel safe.
    pub(super) async fn next(&self) -> Came {
        match &self.0 {
            Some(caught) => match caught.next().await {
                Ok(came) => came,
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Passes a signal on to the tool, unless it has got it already.
    pub(super) fn pass_on(&self, came: Came, tool: Pid) {
        let Some(signal) = Signal::from_named_raw(came.number) else { return };
        let wanted = if signal == Signal::CONT {
            // A shell continues the whole job.
            is_stopped(tool)
        } else if OF_A_TERMINAL.contains(&signal) {
            came.sender.is_some_and(|sender| !descends_from_us(sender))
        } else {
            true
        };
        if wanted {
            let _ = kill_process(tool, signal);
        }
    }
}

/// Stops this process, as its tool was; returns when it is continued. Where nobody would continue
/// it, it goes on.
pub(super) fn stop() {
    // Not with the tool's signal: that would have to do its worst until we run again, and the next
    // one of the terminal may come before.
    if is_job_of_a_shell() {
        let _ = kill_process(getpid(), Signal::STOP);
    }
}

/// Whether our process group is not orphaned (setpgid(2)): a process of our session, outside of the
/// group, is there to continue it.
fn is_job_of_a_shell() -> bool {
    let (group, session) = (getpgrp(), getsid(None));
    let mut process = getppid();
    for _ in 0..GENERATIONS {
        let Some(ancestor) = process else { return false };
        if getsid(Some(ancestor)) != session {
            return false;
        }
        match getpgid(Some(ancestor)) {
            Ok(other) if other == group => {}
            other => return other.is_ok(),
        }
        process = Stat::of(ancestor).and_then(|stat| stat.parent);
    }
    false
}

/// Whether a child of this process is stopped now.
pub(super) fn is_stopped(child: Pid) -> bool {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(child), options).is_ok_and(|status| status.is_some())
}

/// Whether the tool, or something that it has started, sent a signal: to its process group, most
/// likely, as line editors do with what they get from the terminal.
fn descends_from_us(sender: i32) -> bool {
    let mut process = Pid::from_raw(sender);
    for _ in 0..GENERATIONS {
        match process {
            Some(process) if process == getpid() => return true,
            Some(other) => process = Stat::of(other).and_then(|stat| stat.parent),
            None => return false,
        }
    }
    false
}
