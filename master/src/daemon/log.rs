//! The daemon's log: a file of bounded size.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::directory::Directory;

/// Most bytes of a log. When it is full it becomes `log.old`, so that twice as much is the most.
const LIMIT: u64 = 1024 * 1024;

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
