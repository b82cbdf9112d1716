//! Why there is no context.

use std::sync::Arc;

use fakessh_protocol::failure::{Failure, FailureKind};
use thiserror::Error;

use crate::hop::ssh::{ConnectError, ConnectionLost};
use crate::ssh_config::{ConfigError, DestinationError};
use crate::start::StartError;

/// Why there is no context. Its text is one line that says what to do.
#[derive(Clone, Debug, Error)]
pub enum ContextError {
    /// The configuration can't be read.
    #[error(transparent)]
    Config(Arc<ConfigError>),
    /// A destination or jump host can't be understood.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// More jump hosts behind one another than sense.
    #[error("ProxyJump leads through more than {0} hosts; is there a loop in ssh_config?")]
    TooManyJumps(usize),
    /// A host can only be reached through itself.
    #[error("ProxyJump leads in a circle: {0}; look at ssh_config, or name the jump hosts with -J")]
    JumpLoop(String),
    /// The registry makes no contexts any more.
    #[error("the master is about to end; try again to start a new one")]
    Closing,
    /// Somebody locked while it was made.
    #[error("it was locked (fakessh lock) while it was connected to; try again")]
    Locked,
    /// No connection, or no login.
    #[error(transparent)]
    Connect(Arc<ConnectError>),
    /// A helper did not get there, or no slave started behind it.
    #[error("{hop}: {error}")]
    Helper {
        /// The hop, and where it was tried.
        hop: String,
        /// What it said.
        error: Arc<StartError>,
        /// Whether it asked something that nobody could be asked.
        unanswered: bool,
    },
    /// The connection ended before the command ran that starts a slave.
    #[error("{0}")]
    EndedAtStart(String),
    /// The connection was lost while a slave was being started.
    #[error("{0}; a slave was just being started there; try again")]
    LostAtStart(ConnectionLost),
    /// A step needs a slave where none can run.
    #[error("{name}: {needs} needs a slave there, and {why}")]
    Slaveless {
        /// Where none can run.
        name: String,
        /// What would need one.
        needs: String,
        /// Why not.
        why: Arc<StartError>,
    },
    /// Something of this machine.
    #[error("{0}")]
    Local(String),
}

impl ContextError {
    /// What kind of failure it is.
    pub fn kind(&self) -> FailureKind {
        match self {
            ContextError::Config(_)
            | ContextError::Destination(_)
            | ContextError::TooManyJumps(_)
            | ContextError::JumpLoop(_) => FailureKind::Config,
            ContextError::Connect(error) => error.kind(),
            ContextError::Helper { unanswered: true, .. } => FailureKind::NeedsAnswer,
            ContextError::Helper { .. } => FailureKind::Hop,
            ContextError::EndedAtStart(_) | ContextError::LostAtStart(_) => {
                FailureKind::ConnectionLost
            }
            ContextError::Slaveless { .. } => FailureKind::NoSlave,
            ContextError::Closing | ContextError::Locked | ContextError::Local(_) => {
                FailureKind::Other
            }
        }
    }

    /// The same as a failure, for another process.
    pub fn failure(&self) -> Failure {
        Failure::new(self.kind(), self.to_string())
    }

    /// Whether the host was not even reached, so that perhaps there is none of this name.
    pub(crate) fn is_of_the_path(&self) -> bool {
        match self {
            ContextError::Config(_) | ContextError::Destination(_) => true,
            ContextError::Connect(error) => {
                !matches!(**error, ConnectError::HostKey(_) | ConnectError::Auth(_))
            }
            _ => false,
        }
    }

    /// Whether the only reason is that this caller could not be asked: with another it may go well.
    pub(super) fn is_unanswered(&self) -> bool {
        match self {
            ContextError::Connect(error) => error.is_unanswered(),
            ContextError::Helper { unanswered, .. } => *unanswered,
            _ => false,
        }
    }
}
