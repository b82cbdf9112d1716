//! Logs of bounded size.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fakessh_protocol::printable;
use rustix::fs::OFlags;

use crate::runtime_dir::RuntimeDir;

/// Most bytes of a master's log. When it is full it becomes `log.old`, so that twice as much is the
/// most.
const LIMIT: u64 = 1024 * 1024;

/// Most characters of an event: more than the longest reason that we write.
const MAX_EVENT: usize = 16 * 1024;

/// A log file that is put aside when it is full.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl BoundedLog {
    /// Opens the log of a directory and writes behind what is there.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(directory: &RuntimeDir) -> io::Result<BoundedLog> {
        BoundedLog::at(directory.path().join("log"), LIMIT)
    }

    /// Opens a log and writes behind what is there. With more bytes than `limit` it is put aside,
    /// under its name with `.old` behind it.
    ///
    /// # Errors
    /// As open(2), and where it is not a file of this user.
    pub(crate) fn at(path: PathBuf, limit: u64) -> io::Result<BoundedLog> {
        let (file, size) = append(&path)?;
        Ok(BoundedLog { path, file, size, limit })
    }
}

/// A writer of events, one line each: an event may quote a host.
#[derive(Debug)]
pub struct EventLines<W>(pub W);

impl<W: Write> Write for EventLines<W> {
    /// Takes an event whole, as its writer gives it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = printable::word(String::from_utf8_lossy(event).trim_end(), MAX_EVENT) + "\n";
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Opens a file of this user's, which nobody else may read from here on, and says its size.
fn append(path: &Path) -> io::Result<(File, u64)> {
    // Of a pipe that somebody has put there nobody waits for the reader.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = File::options();
    options.append(true).create(true).mode(0o600).custom_flags(flags.bits() as i32);
    let file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it is not a file of this user"));
    }
    if found.mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok((file, found.len()))
}

impl Write for BoundedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size >= self.limit {
            let mut old = OsString::from(&self.path);
            old.push(".old");
            std::fs::rename(&self.path, old)?;
            (self.file, self.size) = append(&self.path)?;
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_no_terminal_obeys() {
        let mut log = EventLines(Vec::new());
        log.write_all(b"web1: \x1b[2J\x9b\nINFO forged\n").unwrap();
        let expected = "web1: \u{fffd}[2J\u{fffd}\u{fffd}INFO forged\n";
        assert_eq!(String::from_utf8(log.0).unwrap(), expected);
    }

    #[test]
    fn a_full_log_is_put_aside() {
        let base = tempfile::tempdir().unwrap();
        let directory = RuntimeDir::at(base.path().join("d")).unwrap();
        let mut log = BoundedLog::open(&directory).unwrap();
        for _ in 0..40 {
            log.write_all(&[b'x'; 64 * 1024]).unwrap();
        }
        for name in ["log", "log.old"] {
            let size = std::fs::metadata(directory.path().join(name)).unwrap().len();
            assert!(size <= LIMIT + 64 * 1024, "{name}: {size}");
        }
    }

    #[test]
    fn a_log_is_a_file_of_ours_that_nobody_else_reads() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("audit.jsonl");
        std::fs::write(&path, "before\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        BoundedLog::at(path.clone(), 100).unwrap().write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"before\nafter\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(BoundedLog::at(link, 100).is_err());
        assert!(BoundedLog::at(base.path().to_owned(), 100).is_err());
        let pipe = base.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert!(BoundedLog::at(pipe, 100).is_err());
    }
}
