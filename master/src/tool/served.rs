//! A run that is served in this process, for programs that embed the library.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;

use thiserror::Error;
use tokio::task::JoinSet;

use super::{RunDirectory, RunDirectoryError, prepare, socket_pair};
use crate::run::Run;
use crate::runtime_dir::RuntimeDir;
use crate::session;
use crate::socket::Socket;

/// Why a run can't be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// There is no run directory.
    #[error(transparent)]
    RunDirectory(#[from] RunDirectoryError),
    /// The system refused.
    #[error("can't serve a run: {0}")]
    System(#[from] io::Error),
}

/// A run that this process serves. Dropped, it hangs up every session of it.
#[derive(Debug)]
pub struct ServedRun {
    directory: RunDirectory,
    socket: OwnedFd,
    /// The one task that serves it; dropped, it ends.
    serving: JoinSet<()>,
}

impl ServedRun {
    /// Begins to serve a run, with its run directory in `base`. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn start(run: Arc<Run>, base: &RuntimeDir) -> Result<ServedRun, ServeError> {
        let directory = RunDirectory::create(base)?;
        let (socket, masters) = socket_pair()?;
        let masters = Arc::new(Socket::new(masters)?);
        let listener = Socket::new(directory.listener().try_clone()?)?;
        let mut serving = JoinSet::new();
        serving.spawn(session::serve(run, masters, Some(listener)));
        Ok(ServedRun { directory, socket, serving })
    }

    /// The run directory, with `ssh`, `scp` and `sftp` in it.
    pub fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    /// A tool of the run, to be given arguments and started.
    ///
    /// # Errors
    /// Failures of the system.
    pub fn command(&self, program: impl AsRef<OsStr>) -> io::Result<Command> {
        prepare(program, &self.directory, &self.socket)
    }

    /// Waits until no process holds the run any more and its last session is over.
    ///
    /// Cancelled, it hangs up every session.
    pub async fn finish(self) {
        let ServedRun { directory: _directory, socket, mut serving } = self;
        // Ours is one of the descriptors that hold it.
        drop(socket);
        serving.join_next().await;
    }
}
