//! What a tool on this host finds in its environment: what it would have had, and the way to us.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A copy of a run's socket that a tool can inherit: with a number that scripts leave alone, and
/// still close-on-exec in this process.
///
/// # Errors
/// As fcntl(2).
pub fn descriptor_for_tool(socket: &OwnedFd) -> io::Result<OwnedFd> {
    fakessh_unix::tool_environment::descriptor_for_tool(socket.as_fd())
}

/// Variables to set for a tool: `PATH` with the run directory first, and the ways in which a shim
/// finds the master.
///
/// # Errors
/// As fstat(2) of the descriptor.
pub fn environment(directory: &Path, socket: &OwnedFd) -> io::Result<Vec<(OsString, OsString)>> {
    let ours = |name: &str| std::env::var_os(name);
    fakessh_unix::tool_environment::for_tool(directory, socket.as_fd(), ours)
}
