//! What every part of the slave works with: it waits for descriptors, and talks to the master.

use fakessh_protocol::mux::Mux;

use crate::poll::Poll;

/// The epoll descriptor and the mux of the link.
pub(crate) struct Io {
    pub(crate) poll: Poll,
    pub(crate) mux: Mux,
}
