//! What a helper carries: this program itself, for a slave at the far end. Nothing crosses the
//! network again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

/// Bytes that are read and written at once: what an empty pipe takes.
const PIECE: usize = 64 * 1024;

/// Our own program on its way into a pipe. No more than a piece of it is ever in memory.
#[derive(Debug)]
pub(crate) struct SelfUpload {
    file: File,
    given: u64,
}

impl SelfUpload {
    /// From the first byte of this program.
    ///
    /// # Errors
    /// Where there are no more descriptors.
    pub(crate) fn new(program: &File) -> io::Result<SelfUpload> {
        Ok(SelfUpload { file: program.try_clone()?, given: 0 })
    }

    /// Gives a non-blocking pipe what it takes. All of it is there when this returns.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] where the pipe is full before that, others where it is of no use.
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
