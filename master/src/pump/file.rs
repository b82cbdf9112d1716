//! A file, or a device that can't be waited for.
//!
//! What the kernel can do at once is done here (`RWF_NOWAIT`, preadv2(2): bytes that are in memory,
//! or fit there), and the rest on the blocking pool: a disk may keep a thread waiting, and a trip
//! to the pool costs more than a short command takes.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use rustix::buffer::spare_capacity;
use rustix::fs::FileType;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::Mutex;

use super::blocking::blocking;
use super::foreign::{Foreign, Kind};
use crate::link::Piece;
use crate::sys;

/// A file, or a device that can't be waited for.
#[derive(Debug)]
pub(super) struct WaitlessFile {
    file: Foreign,
    at_once: AtOnce,
    /// Held while it is written, so that what two streams write to one file stands there in the
    /// order in which it came.
    turn: Arc<Mutex<()>>,
    kind: Kind,
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
    pub(super) fn new(file: Foreign, kind: Kind) -> WaitlessFile {
        let at_once = match kind.file_type {
            _ if kind.is_memory() => AtOnce::Always,
            FileType::RegularFile => AtOnce::Asked,
            _ => AtOnce::Never,
        };
        WaitlessFile { file, at_once, turn: Arc::default(), kind }
    }

    /// Has two streams that write to the same file take turns.
    pub(super) fn take_turns(&mut self, other: &WaitlessFile) {
        if self.kind.identity == other.kind.identity {
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
        let file = self.file.pooled();
        blocking(move || read(&*file, most)).await?
    }

    /// Writes all of `bytes`. What is cancelled may be written yet.
    pub(super) async fn write(&mut self, mut bytes: Bytes) -> io::Result<()> {
        let turn = self.turn.clone().lock_owned().await;
        while !bytes.is_empty() {
            let written = match self.at_once {
                AtOnce::Always => rustix::io::write(&self.file, &bytes),
                AtOnce::Asked => {
                    let here = u64::MAX;
                    let pieces = [io::IoSlice::new(&bytes)];
                    rustix::io::pwritev2(&self.file, &pieces, here, ReadWriteFlags::NOWAIT)
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
        let file = self.file.pooled();
        blocking(move || {
            let _turn = turn;
            while !bytes.is_empty() {
                match rustix::io::retry_on_intr(|| rustix::io::write(&*file, &bytes))? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    written => bytes.advance(written),
                }
            }
            Ok(())
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
fn read(file: impl AsFd, most: usize) -> io::Result<Piece> {
    Piece::read(most, |piece| {
        rustix::io::retry_on_intr(|| rustix::io::read(&file, spare_capacity(piece)))?;
        Ok(())
    })
}
