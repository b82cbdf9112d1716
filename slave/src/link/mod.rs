//! The link to the master.

pub(crate) mod clock;
pub(crate) mod direction;
pub(crate) mod inbound;
pub(crate) mod outbound;
