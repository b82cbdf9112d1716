//! What we say to the person: lines that begin with `fakessh:`, on standard error or in the file
//! of `-E`. Standard output belongs to the program.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use crate::parse::{Level, Local};

/// Where lines go, and which.
pub(crate) struct Diagnostics {
    level: Level,
    log_file: Option<File>,
}

impl Diagnostics {
    /// Opens the file of `-E`, to append to it.
    ///
    /// # Errors
    /// A line that says why it can't be opened.
    pub(crate) fn open(local: &Local) -> Result<Diagnostics, String> {
        let mut log_file = None;
        if let Some(path) = &local.log_file {
            let mut options = OpenOptions::new();
            let opened = options.append(true).create(true).mode(0o600).open(path);
            log_file = Some(opened.map_err(|error| {
                format!("cannot open the log file {}: {error}", path.display())
            })?);
        }
        Ok(Diagnostics { level: local.level, log_file })
    }

    /// Says something that does not end the session.
    pub(crate) fn notice(&self, text: &str) {
        if self.level >= Level::Info {
            self.write(text);
        }
    }

    /// Says why there was no session. Said with `-q`, too: the status alone explains nothing.
    pub(crate) fn failed(&self, text: &str) {
        self.write(text);
    }

    /// Says something that only `-v` asks for.
    pub(crate) fn debug(&self, text: &str) {
        if self.level >= Level::Debug {
            self.write(text);
        }
    }

    /// Whether a session in the background may still have something to say on standard error.
    pub(crate) fn needs_stderr(&self) -> bool {
        self.level >= Level::Debug && self.log_file.is_none()
    }

    fn write(&self, text: &str) {
        match &self.log_file {
            Some(file) => {
                let mut file: &File = file;
                file.write_all(line(text).as_bytes()).unwrap_or(());
            }
            None => say(text),
        }
    }
}

/// Writes a line to standard error.
pub(crate) fn say(text: &str) {
    // Nobody is left to tell where this fails.
    io::stderr().write_all(line(text).as_bytes()).unwrap_or(());
}

/// The line as it is written: in one piece, since others write to standard error as well, and
/// without what would move a terminal's cursor, since the text may quote a server.
fn line(text: &str) -> String {
    let mut line = String::from("fakessh: ");
    for character in text.trim_end().chars() {
        let harmless = !character.is_control() || matches!(character, '\n' | '\t');
        line.push(if harmless { character } else { '?' });
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_moves_no_cursor() {
        assert_eq!(line("a\x1b[2Jb\r\n"), "fakessh: a?[2Jb\n");
    }
}
