//! Who holds the SSH connection of a context, and for how long.

use std::sync::{Arc, Mutex, PoisonError};

use crate::hop::ssh::SshConnection;
use crate::link::Link;

/// The connection that leads to a context, until its slave is gone: then nothing of it is of use
/// any more, and the server need not wait. What else goes through the connection keeps it.
#[derive(Clone, Debug)]
pub(super) struct HeldConnection(Arc<Mutex<Option<SshConnection>>>);

impl HeldConnection {
    pub(super) fn new(connection: SshConnection) -> HeldConnection {
        HeldConnection(Arc::new(Mutex::new(Some(connection))))
    }

    /// The connection, unless somebody has taken it.
    pub(super) fn take(&self) -> Option<SshConnection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The connection, which stays held.
    pub(super) fn connection(&self) -> Option<SshConnection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the connection up when this link has ended.
    pub(super) fn let_go_after(&self, link: Link) {
        let held = self.clone();
        tokio::spawn(async move {
            link.lost().await;
            drop(held.take());
        });
    }
}
