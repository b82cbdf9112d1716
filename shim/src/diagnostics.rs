//! What we say to the person, on standard error or in the file of `-E`: lines that begin with
//! `fakessh:`, and those that say whose words they are. Standard output belongs to the program.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use rustix::fs::FileType;

use fakessh_protocol::message::Notice;
use fakessh_protocol::printable;

use crate::parse::{Level, Local};

/// Time between two looks whether somebody has read what we said. The kernel tells nobody.
const LOOK: Duration = Duration::from_millis(2);

/// Most such looks: a second, for a reader that never reads.
const LOOKS: u32 = 500;

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

    /// Says something that does not end the session. Words of others, such as a server's banner, never
    /// go to the file of `-E`, as with ssh.
    pub(crate) fn notice(&self, notice: &Notice) {
        if self.level >= Level::Info {
            match &self.log_file {
                Some(_) if notice.from.is_none() => self.write(&format!("{notice}\n")),
                _ => tell(notice),
            }
        }
    }

    /// Says something in ssh's own words.
    pub(crate) fn plain(&self, text: &str) {
        if self.level >= Level::Info {
            self.write(text);
        }
    }

    /// Says why there was no session. `-q` is silent of that, too, as with ssh.
    ///
    /// To be called before the process ends with that: it waits until the line was read, where
    /// standard error is a pipe. Some callers (restic) close their end as soon as their `ssh` has
    /// ended, and never see what they have not read by then.
    pub(crate) fn failed(&self, text: &str) {
        if self.level == Level::Quiet {
            return;
        }
        self.write(&printable::ours(text));
        if self.log_file.is_none() {
            until_read(io::stderr());
        }
    }

    /// Says something that only `-v` asks for.
    pub(crate) fn debug(&self, text: &str) {
        if self.level >= Level::Debug {
            self.write(&printable::ours(text));
        }
    }

    /// Whether a session in the background may still have something to say on standard error.
    pub(crate) fn needs_stderr(&self) -> bool {
        self.level >= Level::Debug && self.log_file.is_none()
    }

    /// Writes lines in one piece, since others write to standard error as well.
    fn write(&self, lines: &str) {
        let written = match &self.log_file {
            Some(file) => {
                let mut file: &File = file;
                file.write_all(lines.as_bytes())
            }
            None => io::stderr().write_all(for_stderr(lines).as_bytes()),
        };
        // Nobody is left to be told of a failure.
        written.unwrap_or(());
    }
}

/// Waits until a pipe is empty, and once more: its reader has to do something with the last bytes.
/// Does nothing for anything else.
fn until_read(pipe: impl AsFd) {
    let is_pipe = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
    if !rustix::fs::fstat(&pipe).is_ok_and(is_pipe) {
        return;
    }
    for _ in 0..LOOKS {
        let is_read = rustix::io::ioctl_fionread(&pipe).is_ok_and(|unread| unread == 0);
        std::thread::sleep(LOOK);
        if is_read {
            return;
        }
    }
}

/// Tells the person something on standard error.
pub fn tell(notice: &Notice) {
    let lines = for_stderr(&format!("{notice}\n"));
    io::stderr().write_all(lines.as_bytes()).unwrap_or(());
}

/// Says something of ours on standard error. If nobody listens there, that is no reason to stop.
pub fn say(text: &str) {
    let lines = for_stderr(&printable::ours(text));
    io::stderr().write_all(lines.as_bytes()).unwrap_or(());
}

/// Lines as they are for standard error: folded if it is a terminal. A host that is quoted must not
/// choose what stands at the beginning of a row.
fn for_stderr(lines: &str) -> String {
    match rustix::termios::tcgetwinsize(rustix::stdio::stderr()) {
        Ok(size) => printable::folded(lines, size.ws_col.into()),
        Err(_) => lines.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_waited_for_until_it_is_read() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"line").unwrap();
        let waiting = std::thread::spawn(move || until_read(&writer));
        io::Read::read_exact(&mut reader, &mut [0; 4]).unwrap();
        waiting.join().unwrap();
        until_read(std::fs::File::open("/dev/null").unwrap());
    }
}
