//! The daemon's log: a file of bounded size.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use fakessh_protocol::printable;

use crate::directory::Directory;

/// Most bytes of a log. When it is full it becomes `log.old`, so that twice as much is the most.
const LIMIT: u64 = 1024 * 1024;

/// Most characters of an event: more than the longest reason that we write.
const MAX_EVENT: usize = 16 * 1024;

/// A log file that is put aside when it is full.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    file: File,
    size: u64,
}

impl BoundedLog {
    /// Opens the log of a directory and writes behind what is there.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(directory: &Directory) -> io::Result<BoundedLog> {
        let path = directory.path().join("log");
        let file = append(&path)?;
        let size = file.metadata()?.len();
        Ok(BoundedLog { path, file, size })
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

fn append(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().append(true).create(true).mode(0o600).open(path)
}

impl Write for BoundedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size >= LIMIT {
            std::fs::rename(&self.path, self.path.with_extension("old"))?;
            self.file = append(&self.path)?;
            self.size = 0;
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
        let directory = Directory::at(base.path().join("d")).unwrap();
        let mut log = BoundedLog::open(&directory).unwrap();
        for _ in 0..40 {
            log.write_all(&[b'x'; 64 * 1024]).unwrap();
        }
        for name in ["log", "log.old"] {
            let size = std::fs::metadata(directory.path().join(name)).unwrap().len();
            assert!(size <= LIMIT + 64 * 1024, "{name}: {size}");
        }
    }
}
