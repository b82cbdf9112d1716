//! Uploads this program to a helper, for a slave at the far end. Nothing crosses the network again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

/// Bytes that are read and written at once: as many as an empty pipe takes.
const PIECE: usize = 64 * 1024;

/// Our own program on its way into a pipe. Only a piece of it is ever in memory.
#[derive(Debug)]
pub(crate) struct SelfUpload {
    file: File,
    given: u64,
}

impl SelfUpload {
    /// An upload of this program, from its first byte.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub(crate) fn new(program: &File) -> io::Result<SelfUpload> {
        Ok(SelfUpload { file: program.try_clone()?, given: 0 })
    }

    /// Writes what a non-blocking pipe takes. The whole program is written when this succeeds.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] if the pipe is full before that, others if it is of no use.
    pub(crate) fn give(&mut self, pipe: impl AsFd) -> Result<(), Errno> {
        let mut piece = vec![0; PIECE];
        loop {
            let len = match self.file.read_at(&mut piece, self.given) {
                Ok(0) => return Ok(()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            };
            match rustix::io::write(&pipe, &piece[..len]) {
                Ok(written) => self.given += written as u64,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
