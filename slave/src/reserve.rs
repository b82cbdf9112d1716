//! Descriptors in reserve, so that whoever sends us some at the limit can be told that we are
//! there: the kernel would drop those for which there is no room, and with them the way to answer.

use std::os::fd::OwnedFd;

use fakessh_shim::datagram::MAX_DESCRIPTORS;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// For all descriptors of one datagram, and the memory file of a large one.
const RESERVED: usize = MAX_DESCRIPTORS + 1;

/// The descriptors.
#[derive(Debug, Default)]
pub(crate) struct Reserve {
    spares: Vec<OwnedFd>,
}

impl Reserve {
    /// Gives them up for as long as `take` runs, which opens as many at most. Says with what comes
    /// of it whether they could all be had back: where not, nothing new may be begun.
    pub(crate) fn lend<T>(&mut self, take: impl FnOnce() -> T) -> (T, bool) {
        self.spares.clear();
        let taken = take();
        (taken, self.fill().is_ok())
    }

    /// Takes what is missing.
    ///
    /// # Errors
    /// Where there are no more descriptors.
    pub(crate) fn fill(&mut self) -> Result<(), Errno> {
        while self.spares.len() < RESERVED {
            let spare = match self.spares.first() {
                Some(spare) => rustix::io::fcntl_dupfd_cloexec(spare, 3)?,
                None => {
                    let flags = OFlags::RDWR | OFlags::CLOEXEC;
                    rustix::fs::open("/dev/null", flags, Mode::empty())?
                }
            };
            self.spares.push(spare);
        }
        Ok(())
    }
}
