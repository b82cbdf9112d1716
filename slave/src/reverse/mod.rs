//! Reverse sessions.

pub(crate) mod copier;
pub(crate) mod run_directory;
pub(crate) mod runs;
pub(crate) mod session;
pub(crate) mod shim_stdio;
