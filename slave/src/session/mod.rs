//! Sessions: a program, our ends of its pipes, and the handles that they go to.
//!
//! A `Session` has a `Sink` for the program's standard input and a `Source` for each of its
//! outputs. The same two serve reverse sessions.

#[allow(clippy::module_inception)]
mod session;
mod sessions;
mod sink;
mod source;

pub(crate) use sessions::Sessions;
pub(crate) use sink::Sink;
pub(crate) use source::Source;
