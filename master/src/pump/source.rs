//! A descriptor that is read.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, sockopt::socket_domain};
use tokio::io::Interest;

use super::descriptor::Descriptor;
use super::foreign::{Foreign, Kind};
use crate::link::Piece;

/// A descriptor that is read.
#[derive(Debug)]
pub struct Source {
    /// `None` where it is not open for reading.
    descriptor: Option<Descriptor>,
    /// Whether it is a pipe that was never found empty with a writer. It is read before it is waited
    /// for: one with a name that has no writer when it is opened anew never reports its end
    /// (poll(2)).
    untried: bool,
}

impl Source {
    /// Takes a descriptor that somebody else may share; its flags stay as they are.
    ///
    /// One that is not open for reading has nothing to give: nohup(1) makes standard input so.
    ///
    /// # Errors
    /// Failures of the system. Must be called in a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Source> {
        Source::take(&mut Some(fd.into()))
    }

    /// As [`Source::new`]. What can't be used stays in its slot, and open.
    pub(crate) fn take(slot: &mut Option<Foreign>) -> io::Result<Source> {
        let Some(fd) = &slot else { return Err(Errno::BADF.into()) };
        let untried = Kind::of(fd)?.file_type == FileType::Fifo;
        match Descriptor::new(slot, OFlags::RDONLY, Interest::READABLE) {
            Ok(descriptor) => Ok(Source { descriptor: Some(descriptor), untried }),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BADF) => {
                Ok(Source { descriptor: None, untried: false })
            }
            Err(error) => Err(error),
        }
    }

    /// One that is used as it is, though it may be such as could be opened anew.
    #[cfg(test)]
    pub(super) fn shared(fd: OwnedFd) -> io::Result<Source> {
        let descriptor = Descriptor::shared(fd.into(), Interest::READABLE)?;
        Ok(Source { descriptor: Some(descriptor), untried: false })
    }

    /// Reads up to `most` bytes; none is the end.
    ///
    /// Cancel safe, except for files and devices: what was read of one when it is cancelled is
    /// lost.
    ///
    /// # Errors
    /// As read(2). The end of a terminal that hung up, and of a Unix socket whose other side left
    /// without reading all, is none: all that was written was read.
    pub async fn read(&mut self, most: usize) -> io::Result<Bytes> {
        self.read_piece(most).await.map(Piece::into_bytes)
    }

    /// As [`Source::read`].
    pub(super) async fn read_piece(&mut self, most: usize) -> io::Result<Piece> {
        let nothing = || Piece::Plain(Bytes::new());
        let Some(descriptor) = &mut self.descriptor else { return Ok(nothing()) };
        match descriptor {
            Descriptor::Reopened(fd) => {
                let read = |fd: &OwnedFd| -> io::Result<Piece> {
                    Piece::read(most, |piece| {
                        rustix::io::read(fd, spare_capacity(piece))?;
                        Ok(())
                    })
                };
                if self.untried {
                    match read(fd.get_ref()) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            self.untried = false;
                        }
                        read => return read,
                    }
                }
                match fd.async_io(Interest::READABLE, read).await {
                    // A terminal that hung up has no more to give.
                    Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => Ok(nothing()),
                    read => read,
                }
            }
            Descriptor::Socket(fd) => {
                let read = fd.async_io(Interest::READABLE, |fd| {
                    Piece::read(most, |piece| {
                        rustix::net::recv(fd, spare_capacity(piece), RecvFlags::DONTWAIT)?;
                        Ok(())
                    })
                });
                match read.await {
                    Err(error)
                        if error.kind() == io::ErrorKind::ConnectionReset
                            && socket_domain(fd.get_ref()) == Ok(AddressFamily::UNIX) =>
                    {
                        Ok(nothing())
                    }
                    read => read,
                }
            }
            Descriptor::Shared(shared) => shared.read(most).await.map(Piece::Plain),
            Descriptor::File(file) => file.read(most).await,
        }
    }
}
