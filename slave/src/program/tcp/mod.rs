//! TCP connections.

pub(crate) mod connection;
pub(crate) mod relay;
pub(crate) mod resolve;
