//! The first processes of a lab's containers.

use std::sync::{Arc, Mutex, PoisonError};

use crate::process::Process;

/// The containers that are the lab's own, and not left behind. Clones share the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adopted(Arc<Mutex<Vec<Process>>>);

impl Adopted {
    /// Takes the first process of a container, and all that run in it, for the lab's own.
    pub(crate) fn add(&self, pid: u32) {
        let process = Process::open(pid).expect("the first process of a container");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(process);
    }

    /// The first processes of the containers that still run.
    pub(crate) fn running(&self) -> Vec<u32> {
        let processes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The number of an ended process may be another's by now.
        processes.iter().filter(|process| !process.has_ended()).map(|process| process.pid).collect()
    }
}
