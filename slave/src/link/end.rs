//! Why a link ends.

use std::io;

use fakessh_protocol::mux::MuxError;
use fakessh_protocol::wire::WireError;
use rustix::io::Errno;
use thiserror::Error;

/// Why a link ended.
#[derive(Debug, Error)]
pub(crate) enum LinkEnd {
    /// The master closed it. No other end is a success.
    #[error("the link was closed")]
    Closed,
    #[error("the master was silent for too long")]
    Silent,
    #[error("the link failed: {0}")]
    Failed(#[from] io::Error),
    #[error("the master broke the protocol: {0}")]
    Protocol(#[from] MuxError),
}

impl From<Errno> for LinkEnd {
    fn from(error: Errno) -> LinkEnd {
        LinkEnd::Failed(error.into())
    }
}

impl From<WireError> for LinkEnd {
    fn from(error: WireError) -> LinkEnd {
        LinkEnd::Protocol(error.into())
    }
}
