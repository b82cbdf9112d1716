//! Nothing that a dead session started is left behind, and nothing of a dead slave.
//!
//! The `kill_queue` has the programs that were hung up, until their grace period is over; the
//! `watchdog` does the same when the slave itself is killed. `process_tree` finds and signals what
//! a program has started, and `sweep` removes the files of starts that were killed.

mod kill_queue;
mod process_tree;
mod sweep;
mod watchdog;

pub(crate) use kill_queue::{HungUp, KillQueue, PendingKill};
pub(crate) use watchdog::{DirectorySlot, SessionSlot, Watchdog};
