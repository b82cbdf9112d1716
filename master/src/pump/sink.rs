//! A descriptor that is written.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

use bytes::Buf;
use rustix::fs::OFlags;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;

use super::descriptor::Descriptor;
use super::foreign::Foreign;
use super::gathered::{Gathered, PIECES};

/// A descriptor that is written.
#[derive(Debug)]
pub struct Sink(Descriptor);

impl Sink {
    /// Takes a descriptor that somebody else may share; its flags stay as they are.
    ///
    /// # Errors
    /// `BrokenPipe` where its reader is gone already, `EBADF` where it is not open for writing,
    /// and failures of the system. Must be called in a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Sink> {
        Sink::take(&mut Some(fd.into()))
    }

    /// As [`Sink::new`]. What can't be used stays in its slot, and open.
    pub(crate) fn take(slot: &mut Option<Foreign>) -> io::Result<Sink> {
        Descriptor::new(slot, OFlags::WRONLY, Interest::WRITABLE).map(Sink)
    }

    /// Standard output and error. Where both are one file, what is written there stands in the
    /// order in which it came. What can't be used stays in its slot, and open.
    pub(crate) fn pair(
        stdout: &mut Option<Foreign>,
        stderr: &mut Option<Foreign>,
    ) -> (io::Result<Sink>, io::Result<Sink>) {
        let (stdout, mut stderr) = (Sink::take(stdout), Sink::take(stderr));
        if let (Ok(Sink(Descriptor::File(one))), Ok(Sink(Descriptor::File(other)))) =
            (&stdout, &mut stderr)
        {
            other.take_turns(one);
        }
        (stdout, stderr)
    }

    /// One that is used as it is, though it may be such as could be opened anew.
    #[cfg(test)]
    pub(super) fn shared(fd: OwnedFd) -> io::Result<Sink> {
        Descriptor::shared(fd.into(), Interest::WRITABLE).map(Sink)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As [`Sink::write`].
    pub(crate) async fn write_all(&mut self, mut bytes: Gathered) -> io::Result<()> {
        while bytes.has_remaining() {
            self.write(&mut bytes).await?;
        }
        Ok(())
    }

    /// Writes some of `bytes`, at least one, and takes them off its front.
    ///
    /// Cancel safe, except for files and devices: they may be written after it was cancelled.
    ///
    /// # Errors
    /// As write(2); never SIGPIPE.
    pub async fn write(&mut self, bytes: &mut Gathered) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let count = bytes.chunks_vectored(&mut slices);
        let slices = &slices[..count];
        let written = match &mut self.0 {
            Descriptor::Reopened(fd) => {
                fd.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::writev(fd, slices)?)).await?
            }
            Descriptor::Socket(fd) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let nothing = &mut SendAncillaryBuffer::default();
                fd.async_io(Interest::WRITABLE, |fd| Ok(sendmsg(fd, slices, nothing, flags)?))
                    .await?
            }
            Descriptor::Shared(shared) => shared.write(bytes.chunk()).await?,
            Descriptor::File(file) => {
                return match bytes.pop() {
                    Some(piece) => file.write(piece).await,
                    None => Ok(()),
                };
            }
        };
        bytes.advance(written);
        Ok(())
    }
}
