//! A descriptor that somebody else has made, and what it is.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, StatxFlags};
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;

use super::blocking::Aside;

/// `/dev/null`, `/dev/zero` and `/dev/full` (mem(4) of Linux): they never block.
const MEMORY_DEVICES: [(u32, u32); 3] = [(1, 3), (1, 5), (1, 7)];

/// The major numbers of pseudoterminals in Linux: `/dev/tty` and `/dev/ptmx`, and `/dev/pts`.
const TTY: u32 = 5;
const PTS: std::ops::RangeInclusive<u32> = 136..=143;

/// A descriptor that somebody else has made, and may share.
///
/// Closing one may take as long as somebody likes, whatever its flags: a TCP socket waits for its
/// peer if it has `SO_LINGER` (socket(7)), and a file of a server for the server. Dropped, it is
/// closed on the blocking pool, unless it is surely none of these.
#[derive(Debug)]
pub(crate) struct Foreign(Arc<OwnedFd>);

impl Foreign {
    /// The same descriptor, for the blocking pool. It must be dropped there.
    pub(crate) fn pooled(&self) -> Arc<OwnedFd> {
        self.0.clone()
    }

    /// Another descriptor of the same description.
    ///
    /// # Errors
    /// As dup(2).
    pub(crate) fn try_clone(&self) -> io::Result<Foreign> {
        self.0.try_clone().map(Foreign::from)
    }
}

impl From<OwnedFd> for Foreign {
    fn from(fd: OwnedFd) -> Foreign {
        Foreign(Arc::new(fd))
    }
}

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Foreign {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if !closes_at_once(&self.0) {
            drop(Aside::new(self.0.clone()));
        }
    }
}

/// Whether closing it surely waits for nobody.
fn closes_at_once(fd: &OwnedFd) -> bool {
    let Ok(Kind { file_type, device, .. }) = Kind::of(fd) else { return false };
    match file_type {
        FileType::Fifo => true,
        FileType::Socket => socket_domain(fd) == Ok(AddressFamily::UNIX),
        FileType::CharacterDevice => {
            device.0 == TTY || PTS.contains(&device.0) || MEMORY_DEVICES.contains(&device)
        }
        _ => false,
    }
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) file_type: FileType,
    /// Of a device: its major and minor number.
    pub(super) device: (u32, u32),
    /// The device that it lies on, and its inode.
    pub(super) identity: (u32, u32, u64),
}

impl Kind {
    /// Finds out, and asks no server of a file for it.
    ///
    /// # Errors
    /// As statx(2).
    pub(super) fn of(fd: impl AsFd) -> io::Result<Kind> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        if let Ok(stat) = rustix::fs::statx(&fd, c"", flags, StatxFlags::TYPE | StatxFlags::INO) {
            return Ok(Kind {
                file_type: FileType::from_raw_mode(stat.stx_mode.into()),
                device: (stat.stx_rdev_major, stat.stx_rdev_minor),
                identity: (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino),
            });
        }
        // Some sandboxes know no statx(2).
        let stat = rustix::fs::fstat(&fd)?;
        let numbers = |device| (rustix::fs::major(device), rustix::fs::minor(device));
        let (major, minor) = numbers(stat.st_dev);
        Ok(Kind {
            file_type: FileType::from_raw_mode(stat.st_mode),
            device: numbers(stat.st_rdev),
            identity: (major, minor, stat.st_ino),
        })
    }

    /// Whether it is a device that never blocks.
    pub(super) fn is_memory(&self) -> bool {
        self.file_type == FileType::CharacterDevice && MEMORY_DEVICES.contains(&self.device)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::net::sockopt::set_socket_linger;

    use super::*;

    /// A socket that has something to send to a peer that reads nothing, and waits for it when it is
    /// closed; and that peer.
    fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        set_socket_linger(&near, Some(Duration::from_secs(10_000))).unwrap();
        near.set_nonblocking(true).unwrap();
        while std::io::Write::write(&mut near, &[0; 65536]).is_ok() {}
        (near.into(), far)
    }

    #[test]
    fn a_socket_that_lingers_holds_up_nobody_when_it_is_closed() {
        let (done, waiting) = std::sync::mpsc::channel();
        let [(near, _far), (another, _other)] = [lingering(), lingering()];
        let runtime = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            runtime.block_on(async move {
                drop(Foreign::from(near));
                drop(super::super::Source::new(another).unwrap());
                tokio::task::yield_now().await;
            });
            done.send(()).unwrap();
            runtime.shutdown_background();
        });
        // A guard against hangs only.
        waiting.recv_timeout(Duration::from_secs(60)).expect("it waits for the peer");
        runtime.join().unwrap();
    }

    #[test]
    fn what_closes_at_once_is_closed_here() {
        let (reader, writer) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        for fd in [OwnedFd::from(reader), writer.into(), null.into(), one.into(), other.into()] {
            assert!(closes_at_once(&fd), "{:?}", Kind::of(&fd));
        }
        let file = std::fs::File::open("/proc/self/status").unwrap();
        let (near, far) = lingering();
        assert!(!closes_at_once(&file.into()) && !closes_at_once(&near));
        drop(far);
    }
}
