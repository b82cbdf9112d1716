//! A descriptor that is read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::Descriptor;

/// A descriptor that is read.
#[derive(Debug)]
pub struct Source(From);

#[derive(Debug)]
enum From {
    Reopened(AsyncFd<OwnedFd>),
    Socket(AsyncFd<OwnedFd>),
    Blocking(Arc<File>),
}

impl Source {
    /// Takes a descriptor that somebody else may share; its flags stay as they are.
    ///
    /// # Errors
    /// Failures of the system. Must be called in a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Source> {
        Ok(Source(match Descriptor::new(fd, OFlags::RDONLY, Interest::READABLE)? {
            Descriptor::Reopened(fd) => From::Reopened(fd),
            Descriptor::Socket(fd) => From::Socket(fd),
            Descriptor::Blocking(file) => From::Blocking(Arc::new(file)),
        }))
    }

    /// Reads up to `most` bytes; none is the end.
    ///
    /// Cancel safe, except for files and devices that can't be waited for: what was read of one
    /// when it is cancelled is lost.
    ///
    /// # Errors
    /// As read(2).
    pub async fn read(&mut self, most: usize) -> io::Result<Bytes> {
        match &self.0 {
            From::Reopened(fd) => {
                let read = fd.async_io(Interest::READABLE, |fd| {
                    let mut piece = Vec::with_capacity(most);
                    rustix::io::read(fd, spare_capacity(&mut piece))?;
                    Ok(piece.into())
                });
                match read.await {
                    // A terminal that hung up has no more to give.
                    Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                        Ok(Bytes::new())
                    }
                    read => read,
                }
            }
            From::Socket(fd) => {
                let read = fd.async_io(Interest::READABLE, |fd| {
                    let mut piece = Vec::with_capacity(most);
                    rustix::net::recv(fd, spare_capacity(&mut piece), RecvFlags::DONTWAIT)?;
                    Ok(piece.into())
                });
                read.await
            }
            From::Blocking(file) => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; most];
                    let len = (&*file).read(&mut piece)?;
                    piece.truncate(len);
                    Ok::<_, io::Error>(Bytes::from(piece))
                });
                read.await.map_err(io::Error::other)?
            }
        }
    }
}
