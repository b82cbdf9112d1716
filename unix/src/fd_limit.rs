//! How many descriptors this process may have, and which ones it has.

use std::io;
use std::os::fd::RawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of descriptors to the hard one, for this process.
///
/// # Errors
/// As setrlimit(2), with the limit as it was.
pub fn raise() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// The numbers of the open descriptors of this process. The one through which they are listed is
/// among them, and closed again.
///
/// # Errors
/// Without `/proc`, among others.
pub fn open_numbers() -> io::Result<Vec<RawFd>> {
    let names = std::fs::read_dir("/proc/self/fd")?.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
}
