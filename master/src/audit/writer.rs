//! Writes the audit log's file.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use crate::bounded_log::BoundedLog;

/// Most bytes of the file. When it is full it becomes `audit.jsonl.old`, so that twice as much is
/// the most: some fifty thousand sessions.
const LIMIT: u64 = 8 * 1024 * 1024;

/// Writes to the log's file, which is opened when there is something to write.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    file: Option<BoundedLog>,
    /// Whether it was said that it can't be written.
    has_failed: bool,
}

impl Writer {
    pub(super) fn new(path: PathBuf) -> Writer {
        Writer { path, file: None, has_failed: false }
    }

    /// Writes lines. A failure is said once, and tried again with the next ones: that nothing can
    /// be noted is no reason to stop the user's work.
    pub(super) fn write(&mut self, lines: &str) {
        if lines.is_empty() {
            return;
        }
        match self.try_write(lines) {
            Ok(()) => self.has_failed = false,
            Err(error) => {
                self.file = None;
                if !std::mem::replace(&mut self.has_failed, true) {
                    let path = self.path.display();
                    tracing::warn!(%error, "can't write the audit log {path}");
                }
            }
        }
    }

    fn try_write(&mut self, lines: &str) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if let Some(directory) = self.path.parent() {
                    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                }
                self.file.insert(BoundedLog::at(self.path.clone(), LIMIT)?)
            }
        };
        file.write_all(lines.as_bytes())
    }
}
