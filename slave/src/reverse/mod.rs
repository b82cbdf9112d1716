//! Reverse sessions: a tool on the target calls `ssh`, and the master runs the program elsewhere.
//!
//! A tool has a run (`runs`) with a directory (`run_directory`) that its `ssh` lies in. A shim
//! hands over (`handoff`), and that becomes a `session`, which serves the shim's standard
//! descriptors (`shim_stdio`), with a process that copies (`copier`) if the loop can't. So does a
//! connection that comes in on a socket that is listened on for a forward (`listeners`).

mod copier;
mod handoff;
mod listeners;
mod run_directory;
mod runs;
mod session;
mod sessions;
mod shim_stdio;

pub(crate) use sessions::Reverse;
