//! A description of our own of something that others share.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Opens a pipe or terminal anew through `/proc/self/fd`, with `O_NONBLOCK`: the flags of the
/// description that others share stay as they are.
///
/// # Errors
/// `EACCES` if it is another user's, `ENXIO` for a pipe without a reader, `ENOENT` without
/// `/proc`.
pub fn reopen(fd: impl AsFd, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path(&fd), flags, Mode::empty())
}

/// The path under which `/proc` shows a descriptor of this process.
pub fn path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_the_shared_description_stay() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let own = reopen(&reader, OFlags::RDONLY).unwrap();
        let is_nonblocking =
            |fd: &OwnedFd| rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK);
        assert!(is_nonblocking(&own) && !is_nonblocking(&reader));
    }
}
