//! A descriptor that is written.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rustix::fs::OFlags;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::Descriptor;

/// A descriptor that is written.
#[derive(Debug)]
pub struct Sink(To);

#[derive(Debug)]
enum To {
    Reopened(AsyncFd<OwnedFd>),
    Socket(AsyncFd<OwnedFd>),
    Blocking(Arc<File>),
}

impl Sink {
    /// Takes a descriptor that somebody else may share; its flags stay as they are.
    ///
    /// # Errors
    /// `BrokenPipe` where its reader is gone already, and failures of the system. Must be called
    /// in a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Sink> {
        Ok(Sink(match Descriptor::new(fd, OFlags::WRONLY, Interest::WRITABLE)? {
            Descriptor::Reopened(fd) => To::Reopened(fd),
            Descriptor::Socket(fd) => To::Socket(fd),
            Descriptor::Blocking(file) => To::Blocking(Arc::new(file)),
        }))
    }

    /// Writes some of `bytes`, at least one, and takes them off its front.
    ///
    /// Cancel safe, except for files and devices that can't be waited for: they may be written
    /// after it was cancelled.
    ///
    /// # Errors
    /// As write(2); never SIGPIPE.
    pub async fn write(&mut self, bytes: &mut Bytes) -> io::Result<()> {
        let written = match &self.0 {
            To::Reopened(fd) => {
                fd.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?)).await?
            }
            To::Socket(fd) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                fd.async_io(Interest::WRITABLE, |fd| Ok(rustix::net::send(fd, bytes, flags)?))
                    .await?
            }
            To::Blocking(file) => {
                let file = file.clone();
                let piece = std::mem::take(bytes);
                let write = tokio::task::spawn_blocking(move || (&*file).write_all(&piece));
                return write.await.map_err(io::Error::other)?;
            }
        };
        bytes.advance(written);
        Ok(())
    }
}
