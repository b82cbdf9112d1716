//! Runs a tool: a private directory first on its `PATH`, and one inherited descriptor.
//!
//! [`ServedRun`] does all of it in this process; [`run`] waits for a tool as `fakessh run` does.

mod directory;
mod environment;
mod process;
mod served;
mod signals;
mod sys;

pub use directory::{RunDirectory, RunDirectoryError, RunDirectoryName};
pub(crate) use directory::{remove_abandoned, sweep};
pub use environment::{descriptor_for_tool, environment};
pub use process::{prepare, run, socket_pair, status_of_failed_start};
pub use served::{ServeError, ServedRun};
