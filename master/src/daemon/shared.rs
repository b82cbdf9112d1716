//! What all clients of a master share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::audit::Audit;
use crate::context::Registry;
use crate::runtime_dir::RuntimeDir;

/// What all clients of a master share.
#[derive(Debug)]
pub(super) struct MasterState {
    /// The directory of this master.
    pub(super) directory: RuntimeDir,
    pub(super) registry: Registry,
    /// Clients and runs that are served now.
    pub(super) busy: AtomicUsize,
    /// Somebody asked for the end.
    pub(super) stop: Notify,
}

impl MasterState {
    pub(super) fn new(directory: RuntimeDir, audit: Audit) -> MasterState {
        let registry = Registry::with_audit(audit);
        let (busy, stop) = Default::default();
        MasterState { directory, registry, busy, stop }
    }
}

/// Counts what is served, for as long as it lives.
#[derive(Debug)]
pub(super) struct Busy(Arc<MasterState>);

impl Busy {
    pub(super) fn new(shared: &Arc<MasterState>) -> Busy {
        shared.busy.fetch_add(1, Ordering::Relaxed);
        Busy(shared.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
