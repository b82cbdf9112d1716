//! Bytes without end, written and read as programs do, and cheap enough to be no bottleneck.

use std::io::{self, Read, Write};
use std::process::ExitCode;

/// Bytes written or read at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Writes so many bytes.
pub(super) fn write(to: &mut impl Write, count: u64) -> io::Result<()> {
    let chunk = [b'x'; CHUNK];
    let mut left = count;
    while left > 0 {
        let now = left.min(CHUNK as u64);
        to.write_all(&chunk[..now as usize])?;
        left -= now;
    }
    Ok(())
}

/// Reads until the end, or at most so many bytes, and says how many there were.
pub(super) fn read(from: &mut impl Read, most: u64) -> io::Result<u64> {
    let mut chunk = [0; CHUNK];
    let mut count = 0;
    while count < most {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(now) => count += now as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The remote program of the measures that go downwards.
pub(super) fn produce(count: u64) -> ExitCode {
    // Not the locked and line-buffered standard output: it would search each chunk for newlines.
    let stdout = io::stdout();
    let Ok(descriptor) = rustix::io::dup(&stdout) else { return ExitCode::FAILURE };
    match write(&mut std::fs::File::from(descriptor), count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
