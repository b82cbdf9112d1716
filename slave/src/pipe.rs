//! Pipes between the slave and its children.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

/// A pipe for a child's input: the child's end, and ours. Only ours is non-blocking: each end is
/// an open file description of its own.
pub(crate) fn to_child() -> io::Result<(OwnedFd, OwnedFd)> {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((theirs, ours))
}

/// A pipe for a child's output: our end, which alone is non-blocking, and the child's.
pub(crate) fn from_child() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

/// Makes a pipe larger, to the first of `sizes` that the kernel allows. It is no loss if none is.
pub(crate) fn enlarge(pipe: impl AsFd, sizes: &[usize]) {
    let holds = rustix::pipe::fcntl_getpipe_size(&pipe).unwrap_or(usize::MAX);
    for &size in sizes.iter().filter(|&&size| size > holds) {
        if rustix::pipe::fcntl_setpipe_size(&pipe, size).is_ok() {
            return;
        }
    }
}
