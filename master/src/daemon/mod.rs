//! The master as a process of its own: one per user, started when first needed.
//!
//! It sits in `/`, holds nobody's stdio and has its own session. Clients talk to it over one
//! socket ([`control`](crate::control)); each request brings the environment and directory of who asked.

mod answering;
mod background;
pub mod client;
mod clients;
mod contexts;
mod forward_listing;
mod listing;
mod liveness;
mod messages;
pub mod request;
mod resume;
mod runs;
mod serve;
mod shared;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::runtime_dir::{LOCK, RuntimeDir, RuntimeDirError};
use crate::socket::listen;

pub use crate::bounded_log::{BoundedLog, EventLines};
pub use answering::Answering;
pub use background::{detach, let_go_of_stdio};
pub use forward_listing::ForwardListing;
pub use listing::Listing;
pub use serve::serve;

/// How long a master without contexts and clients stays.
pub const IDLE_EXIT: Duration = Duration::from_secs(300);

/// How long a new master waits for one that is ending.
const ENDING: Duration = Duration::from_secs(10);

/// How often it looks.
const ENDING_LOOK: Duration = Duration::from_millis(20);

/// Why a master can't be started.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// The directory for sockets can't be used.
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    /// There is one.
    #[error("a master is running already (see `fakessh ls`; `fakessh stop` ends it)")]
    Running,
    /// The system refused.
    #[error("can't start a master in {0}: {1}")]
    System(String, io::Error),
}

/// The right to be the one master, and the socket on which it listens.
#[derive(Debug)]
pub struct InstanceLock {
    directory: RuntimeDir,
    listener: OwnedFd,
    /// Locked as long as this process lives, whatever becomes of it.
    _lock: File,
}

impl InstanceLock {
    /// Becomes the one master of this directory: locks, then looks, then binds.
    ///
    /// What a master before this one left behind is removed: its socket and its run directories.
    ///
    /// # Errors
    /// [`InstanceError::Running`] where another process is the master.
    pub fn take(directory: RuntimeDir) -> Result<InstanceLock, InstanceError> {
        let system =
            |error: io::Error| InstanceError::System(directory.path().display().to_string(), error);
        let lock = directory.open_file(LOCK).map_err(system)?;
        let socket = directory.socket();
        let begin = Instant::now();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    // One that is just ending has taken its socket away.
                    if socket.exists() || begin.elapsed() > ENDING {
                        return Err(InstanceError::Running);
                    }
                    std::thread::sleep(ENDING_LOOK);
                }
                Err(error) => return Err(system(error.into())),
            }
        }
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system(error)),
            _ => {}
        }
        crate::tool::sweep(&directory);
        let listener = listen(&socket).map_err(system)?;
        Ok(InstanceLock { directory, listener, _lock: lock })
    }

    /// Takes the socket away, so that no client comes any more; who needs a master then starts a
    /// new one, which waits until this one is gone.
    fn close(&self) {
        let _ = std::fs::remove_file(self.directory.socket());
    }
}
