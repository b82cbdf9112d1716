//! Whether a descriptor is ready (poll(2)).

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What holds of a descriptor now, of `events`, its ends (`HUP`) and its errors (`ERR`). Nothing
/// is waited for. Empty if the kernel can't say.
pub fn now(fd: impl AsFd, events: PollFlags) -> PollFlags {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut asked = [PollFd::new(&fd, events)];
    loop {
        match poll(&mut asked, Some(&now)) {
            Err(Errno::INTR) => {}
            Err(_) => return PollFlags::empty(),
            Ok(_) => return asked[0].revents(),
        }
    }
}

/// Whether nobody is at the other end of a socket or pipe any more.
pub fn has_hung_up(fd: impl AsFd) -> bool {
    now(fd, PollFlags::empty()).intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Waits until one of `events`, an end or an error holds of a descriptor. A failure of poll(2)
/// counts: the next call on the descriptor says what it is.
pub fn wait(fd: impl AsFd, events: PollFlags) {
    while poll(&mut [PollFd::new(&fd, events)], None) == Err(Errno::INTR) {}
}

/// As [`wait`], for `limit` at the most; says whether anything holds. A signal starts the time
/// anew.
pub fn wait_for(fd: impl AsFd, events: PollFlags, limit: Duration) -> bool {
    let Ok(limit) = Timespec::try_from(limit) else { return true };
    loop {
        match poll(&mut [PollFd::new(&fd, events)], Some(&limit)) {
            Ok(0) => return false,
            Err(Errno::INTR) => {}
            _ => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_readable_with_bytes_and_hung_up_without_a_writer() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        assert!(now(&reader, PollFlags::IN).is_empty());
        assert!(!wait_for(&reader, PollFlags::IN, Duration::ZERO));
        rustix::io::write(&writer, b"x").unwrap();
        wait(&reader, PollFlags::IN);
        assert!(!has_hung_up(&reader));
        drop(writer);
        assert!(has_hung_up(&reader));
    }
}
