//! A payload that is too large for a socket's buffer: a memory file that nobody can change any
//! more.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::{MAX_PAYLOAD, malformed};

/// The seals without which a file could shrink or change while it is read.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// Puts a payload into a memory file and seals it.
pub(super) fn seal(payload: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(c"fakessh", flags)?;
    let mut rest = payload;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    rustix::fs::fcntl_add_seals(&file, SEALS | SealFlags::SEAL)?;
    Ok(file)
}

/// Reads what [`seal`] made, after making sure that it is that.
pub(super) fn open(file: impl AsFd) -> io::Result<Vec<u8>> {
    // Only a memory file has seals at all.
    match rustix::fs::fcntl_get_seals(&file) {
        Ok(seals) if seals.contains(SEALS) => {}
        _ => return Err(malformed("its memory file is not sealed")),
    }
    let size = usize::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(usize::MAX);
    if size > MAX_PAYLOAD {
        return Err(malformed("its memory file is too large"));
    }
    let mut payload = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match rustix::io::pread(&file, &mut payload[filled..], filled as u64) {
            Ok(0) => return Err(malformed("its memory file ends early")),
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(payload)
}
