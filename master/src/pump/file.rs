//! A file, or a device that can't be waited for.
//!
//! What the kernel can do at once is done here (`RWF_NOWAIT`, preadv2(2): bytes that are in memory,
//! or fit there), and the rest on the blocking pool: a disk may keep a thread waiting, and a trip
//! to the pool costs more than a short command takes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Stat};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::Mutex;

use super::blocking::blocking;
use crate::link::Piece;
use crate::sys;

/// `/dev/null`, `/dev/zero` and `/dev/full` (mem(4) of Linux): they never block.
const MEMORY_DEVICES: [(u32, u32); 3] = [(1, 3), (1, 5), (1, 7)];

/// A file, or a device that can't be waited for.
#[derive(Debug)]
pub(super) struct WaitlessFile {
    file: Arc<File>,
    at_once: AtOnce,
    /// Held while it is written, so that what two streams write to one file stands there in the
    /// order in which it came.
    turn: Arc<Mutex<()>>,
    /// Device and inode.
    identity: (u64, u64),
}

/// Whether it can be used without the blocking pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtOnce {
    /// It never blocks.
    Always,
    /// The kernel is asked each time.
    Asked,
    /// The kernel can't say.
    Never,
}

impl WaitlessFile {
    pub(super) fn new(fd: OwnedFd, stat: &Stat) -> WaitlessFile {
        let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let at_once = match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice if MEMORY_DEVICES.contains(&number) => AtOnce::Always,
            FileType::RegularFile => AtOnce::Asked,
            _ => AtOnce::Never,
        };
        let identity = (stat.st_dev, stat.st_ino);
        WaitlessFile { file: Arc::new(fd.into()), at_once, turn: Arc::default(), identity }
    }

    /// Has two streams that write to the same file take turns.
    pub(super) fn take_turns(&mut self, other: &WaitlessFile) {
        if self.identity == other.identity {
            self.turn = other.turn.clone();
        }
    }

    /// Reads up to `most` bytes; none is the end. What was read when it is cancelled is lost.
    pub(super) async fn read(&mut self, most: usize) -> io::Result<Piece> {
        match self.at_once {
            AtOnce::Always => return read(&self.file, most),
            AtOnce::Asked => {
                match Piece::read(most, |piece| sys::read_at_once(&self.file, piece)) {
                    Ok(piece) if piece.len() > 0 => return Ok(piece),
                    // Linux 5.9 and 5.10 say so also before the end (preadv2(2), BUGS).
                    Ok(_) => {}
                    Err(error) => self.note(Errno::from_io_error(&error)),
                }
            }
            AtOnce::Never => {}
        }
        let file = self.file.clone();
        blocking(move || read(&file, most)).await?
    }

    /// Writes all of `bytes`. What is cancelled may be written yet.
    pub(super) async fn write(&mut self, mut bytes: Bytes) -> io::Result<()> {
        let turn = self.turn.clone().lock_owned().await;
        while !bytes.is_empty() {
            let written = match self.at_once {
                AtOnce::Always => rustix::io::write(&*self.file, &bytes),
                AtOnce::Asked => {
                    let here = u64::MAX;
                    let pieces = [io::IoSlice::new(&bytes)];
                    rustix::io::pwritev2(&*self.file, &pieces, here, ReadWriteFlags::NOWAIT)
                }
                AtOnce::Never => break,
            };
            match written {
                Ok(written) => bytes.advance(written),
                Err(Errno::INTR) => {}
                Err(error) if self.at_once == AtOnce::Always => return Err(error.into()),
                Err(error) => {
                    self.note(Some(error));
                    break;
                }
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let file = self.file.clone();
        blocking(move || {
            let written = (&*file).write_all(&bytes);
            drop(turn);
            written
        })
        .await?
    }

    /// Learns from a failure: `EAGAIN` is one of this moment, and what else there is, is for the
    /// blocking pool to say.
    fn note(&mut self, error: Option<Errno>) {
        if !matches!(error, Some(Errno::AGAIN | Errno::INTR)) {
            self.at_once = AtOnce::Never;
        }
    }
}

/// Reads, and waits for it.
fn read(file: &File, most: usize) -> io::Result<Piece> {
    Piece::read(most, |piece| {
        rustix::io::retry_on_intr(|| rustix::io::read(file, spare_capacity(piece)))?;
        Ok(())
    })
}
