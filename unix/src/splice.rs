//! Bytes that the kernel moves between a pipe and something else (splice(2)).

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

/// Moves up to `len` bytes; `Ok(0)` is the end, and `Ok(None)` means that splice does not work for
/// these two, now or later. The caller then reads and writes.
///
/// # Errors
/// `EAGAIN` with `SpliceFlags::NONBLOCK` if the source is empty *or* the destination is full,
/// `EPIPE` if nobody reads the destination, and others of splice(2). `EINTR` is tried again.
pub fn splice(
    from: impl AsFd,
    to: impl AsFd,
    len: usize,
    flags: SpliceFlags,
) -> Result<Option<usize>, Errno> {
    match rustix::io::retry_on_intr(|| rustix::pipe::splice(&from, None, &to, None, len, flags)) {
        // Sandboxes without splice answer so.
        Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => Ok(None),
        moved => moved.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_spliced_and_files_without_a_pipe_are_not() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (far_reader, far_writer) = rustix::pipe::pipe().unwrap();
        let flags = SpliceFlags::NONBLOCK;
        assert_eq!(splice(&reader, &far_writer, 8, flags), Err(Errno::AGAIN));
        rustix::io::write(&writer, b"abc").unwrap();
        assert_eq!(splice(&reader, &far_writer, 8, flags), Ok(Some(3)));
        drop(writer);
        assert_eq!(splice(&reader, &far_writer, 8, flags), Ok(Some(0)));
        let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        assert_eq!(splice(&null, &null, 8, flags), Ok(None));
        drop(far_reader);
    }
}
