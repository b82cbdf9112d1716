//! Descriptors in reserve. At its limit a process still has to receive what it is sent: the kernel
//! drops descriptors that find no room, and with them the way to answer.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Spare descriptors, all of them `/dev/null`.
#[derive(Debug)]
pub struct Reserve {
    size: usize,
    /// The first one is kept: at the limit, `/dev/null` can't be opened anew, but it can be
    /// duplicated.
    origin: Option<OwnedFd>,
    spares: Vec<OwnedFd>,
}

impl Reserve {
    /// A reserve of `size` descriptors, empty as yet.
    pub const fn new(size: usize) -> Reserve {
        Reserve { size, origin: None, spares: Vec::new() }
    }

    /// Gives up `count` descriptors while `take` runs, which opens as many at most. Says, beside
    /// the result of `take`, whether the reserve is whole again. If it is not, nothing new may be
    /// begun.
    pub fn lend<T>(&mut self, count: usize, take: impl FnOnce() -> T) -> (T, bool) {
        self.spares.truncate(self.spares.len().saturating_sub(count));
        let taken = take();
        (taken, self.fill().is_ok())
    }

    /// Takes the descriptors that are missing.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` if there are no more, and failures to open `/dev/null`.
    pub fn fill(&mut self) -> Result<(), Errno> {
        let origin = match self.origin.take() {
            Some(origin) => origin,
            None => rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?,
        };
        let origin = self.origin.insert(origin);
        while self.spares.len() < self.size {
            // Not in the place of a closed standard descriptor.
            self.spares.push(rustix::io::fcntl_dupfd_cloexec(&*origin, 3)?);
        }
        Ok(())
    }

    /// Whether at least `count` descriptors are in reserve, after an attempt to fill it.
    pub fn holds(&mut self, count: usize) -> bool {
        self.fill().is_ok() || self.spares.len() >= count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_is_taken_back() {
        let mut reserve = Reserve::new(3);
        assert!(reserve.holds(3));
        let (left, whole) = reserve.lend(2, || 7);
        assert_eq!((left, whole, reserve.spares.len()), (7, true, 3));
        // More than there is.
        assert!(reserve.lend(9, || ()).1);
    }
}
