//! Cleaning up.

pub(crate) mod kill_queue;
pub(crate) mod process_tree;
pub(crate) mod sweep;
pub(crate) mod watchdog;
