//! Ends programs whose invoker is gone: SIGHUP to their process groups, and SIGKILL after a grace
//! period.
//!
//! A number is signalled only while its process is unreaped, so that it can't be another's.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use fakessh_protocol::wire::Handle;
use rustix::process::{Pid, Signal, kill_process_group};

use super::process_tree::{self, GRACE, Whom};
use super::watchdog::SessionSlot;
use crate::poll::Watched;

/// A program that was hung up.
#[derive(Debug)]
pub(crate) struct HungUp {
    pub(crate) pid: Pid,
    pub(crate) slot: SessionSlot,
    /// The program's standard input. It stays open during the grace period: the program must not
    /// take what it got for the whole because its invoker is gone.
    _stdin: Option<Watched>,
}

impl HungUp {
    /// A program whose slot the kill queue takes over, with its standard input if that is open.
    pub(crate) fn new(pid: Pid, slot: SessionSlot, stdin: Option<Watched>) -> HungUp {
        HungUp { pid, slot, _stdin: stdin }
    }
}

/// Programs in their grace period, in the order in which it ends.
#[derive(Debug, Default)]
pub(crate) struct KillQueue {
    queue: VecDeque<PendingKill>,
    /// How many at the end of the queue have not got their SIGHUP yet.
    unsignalled: usize,
}

/// A program in its grace period.
#[derive(Debug)]
pub(crate) struct PendingKill {
    /// The control handle of its session, which may be over.
    pub(crate) control: Handle,
    pub(crate) program: HungUp,
    due: Instant,
}

impl KillQueue {
    /// When the next grace period ends.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|kill| kill.due)
    }

    /// When the last grace period ends.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.queue.back().map(|kill| kill.due)
    }

    /// Adds a program. It gets its SIGHUP with the next [`KillQueue::hang_up`].
    pub(crate) fn add(&mut self, control: Handle, program: HungUp) {
        let due = Instant::now() + GRACE;
        self.queue.push_back(PendingKill { control, program, due });
        self.unsignalled += 1;
    }

    /// Hangs up the programs that were added since the last call, all at once: looking through the
    /// target's processes costs the same for one and for a thousand.
    pub(crate) fn hang_up(&mut self) {
        if self.unsignalled == 0 {
            return;
        }
        let from = self.queue.len() - self.unsignalled;
        self.unsignalled = 0;
        let pids = self.queue.range(from..).map(|kill| kill.program.pid).collect();
        // A stopped process takes no SIGHUP before it goes on.
        signal(&pids, &[Signal::HUP, Signal::CONT]);
    }

    /// Kills the programs whose grace period is over, and returns them. They are to be reaped.
    #[must_use]
    pub(crate) fn kill_overdue(&mut self, now: Instant) -> Vec<PendingKill> {
        let overdue = self.queue.partition_point(|kill| kill.due <= now);
        let kills: Vec<PendingKill> = self.queue.drain(..overdue).collect();
        if !kills.is_empty() {
            signal(&kills.iter().map(|kill| kill.program.pid).collect(), &[Signal::KILL]);
        }
        kills
    }

    /// Whether any process of the programs in here runs.
    pub(crate) fn any_runs(&self) -> bool {
        process_tree::any_runs(&self.queue.iter().map(|kill| kill.program.pid).collect())
    }
}

/// Signals the process groups of these unreaped leaders, and what else is in their sessions.
fn signal(leaders: &HashSet<Pid>, signals: &[Signal]) {
    for leader in leaders {
        for signal in signals {
            let _ = kill_process_group(*leader, *signal);
        }
    }
    process_tree::signal(leaders, Whom::Strays, signals);
}
