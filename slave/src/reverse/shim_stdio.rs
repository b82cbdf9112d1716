//! What a shim hands over, as the loop can serve it: no descriptor of the tool's is changed, and
//! none that may block is touched by the loop.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use fakessh_protocol::wire::Handle;
use fakessh_unix::reopen::{self, reopen};
use rustix::fs::{FileType, OFlags};
use rustix::net::{SocketType, sockopt::socket_type};

use crate::event_loop::Slave;
use crate::poll::{Interest, Part, Token, Watched};
use crate::program::launcher;
use crate::session::{Sink, Source};

/// The device number of `/dev/null`.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// Our ends of a shim's standard descriptors.
#[derive(Debug, Default)]
pub(crate) struct Stdio {
    pub(crate) source: Option<Source>,
    pub(crate) sinks: [Option<Sink>; 2],
}

impl Slave {
    /// Makes our ends of what a shim handed over. Copiers that were started before something
    /// failed still run then.
    ///
    /// # Errors
    /// Where there are no more descriptors or processes.
    pub(crate) fn take_stdio(&mut self, control: Handle, stdio: [OwnedFd; 3]) -> io::Result<Stdio> {
        let [stdin, stdout, stderr] = stdio;
        Ok(Stdio {
            source: self.make_source(control, stdin)?,
            sinks: [
                self.make_sink(control, Part::Stdout, stdout)?,
                self.make_sink(control, Part::Stderr, stderr)?,
            ],
        })
    }

    /// A source of what `fd` gives; `None` where that is nothing. A pipe of our own is in between
    /// in any case: others may read from `fd`, and what was offered must be there when its turn
    /// has come.
    fn make_source(&mut self, control: Handle, fd: OwnedFd) -> io::Result<Option<Source>> {
        let mode = rustix::fs::fcntl_getfl(&fd)? & OFlags::ACCMODE;
        // nohup(1) makes a standard input that can't be read. It has nothing to give.
        if mode == OFlags::WRONLY || kind(&fd) == Kind::Null {
            return Ok(None);
        }
        let (ours, theirs) = launcher::pipe_from_program()?;
        let mut pipe = Watched::new(ours, Token::Session(control, Part::Stdin));
        pipe.watch(&self.poll, Interest::Read)?;
        self.copiers.start((control, Part::StdinCopier), fd, theirs, &self.poll)?;
        Ok(Some(Source::new(pipe)))
    }

    /// A sink for `fd`.
    fn make_sink(&mut self, control: Handle, part: Part, fd: OwnedFd) -> io::Result<Option<Sink>> {
        let token = Token::Session(control, part);
        let kind = kind(&fd);
        if kind == Kind::Null {
            // It takes everything, always, and can't be waited for.
            return Ok(Some(Sink::new(Watched::new(fd, token))));
        }
        if kind == Kind::NamelessPipe
            && let Ok(own) = reopen(&fd, OFlags::WRONLY)
        {
            let mut pipe = Watched::new(own, token);
            pipe.watch(&self.poll, Interest::End)?;
            return Ok(Some(Sink::new(pipe)));
        }
        let (theirs, ours) = launcher::pipe_to_program()?;
        let mut pipe = Watched::new(ours, token);
        pipe.watch(&self.poll, Interest::End)?;
        self.copiers.start((control, copier_of(part)), theirs, fd, &self.poll)?;
        Ok(Some(Sink::new(pipe)))
    }
}

/// What carries this part's bytes.
fn copier_of(part: Part) -> Part {
    if part == Part::Stderr { Part::StderrCopier } else { Part::StdoutCopier }
}

/// The shim's own socket, which comes first.
pub(crate) fn take_shims_socket(descriptors: &mut Vec<OwnedFd>) -> Option<OwnedFd> {
    let is_it = descriptors.first().is_some_and(|fd| socket_type(fd) == Ok(SocketType::SEQPACKET));
    is_it.then(|| descriptors.remove(0))
}

/// What the loop makes of a descriptor.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// `/dev/null`.
    Null,
    /// A pipe that can be opened anew whoever is at its other end.
    NamelessPipe,
    /// What may block, whatever is asked of it.
    Other,
}

/// Goes by the name in `/proc`: a file system that is asked may hang, and the loop with it.
fn kind(fd: &OwnedFd) -> Kind {
    let name = std::fs::read_link(reopen::path(fd)).unwrap_or_default();
    match name.as_os_str().as_bytes() {
        b"/dev/null" if is_null(fd) => Kind::Null,
        name if name.starts_with(b"pipe:[") => Kind::NamelessPipe,
        _ => Kind::Other,
    }
}

fn is_null(fd: &OwnedFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && number == NULL_DEVICE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nothing_and_pipes_without_a_name_are_the_loops() {
        let open = |path| OwnedFd::from(std::fs::File::open(path).unwrap());
        let (read, write) = rustix::pipe::pipe().unwrap();
        assert_eq!((kind(&read), kind(&write)), (Kind::NamelessPipe, Kind::NamelessPipe));
        assert_eq!(kind(&open("/dev/null")), Kind::Null);
        assert_eq!(kind(&open("/dev/zero")), Kind::Other);
        assert_eq!(kind(&open("/")), Kind::Other);
    }
}
