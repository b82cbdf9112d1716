//! Faults: while connecting, while a slave starts, on the target, and in the middle of a session.

pub(crate) mod connecting;
mod cut;
mod start;
mod target;
