//! A shim's standard descriptors, as the loop can serve them: no descriptor of the tool's is
//! changed, and the loop touches none that may block.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use fakessh_protocol::handles::{SessionHandles, Stream};
use fakessh_unix::reopen::{self, reopen};
use rustix::fs::{FileType, OFlags};

use super::copier::Copiers;
use crate::pipe;
use crate::poll::{Interest, Poll, ReversePart, Token, Watched};
use crate::session::{Sink, Source};

/// The device number of `/dev/null`.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// What stands for a shim's standard descriptors here.
#[derive(Debug)]
pub(super) struct ShimStdio {
    pub(super) stdin: Source,
    pub(super) stdout: Sink,
    pub(super) stderr: Sink,
}

impl ShimStdio {
    /// Takes over what a shim handed over. Copiers that were started before something failed still
    /// run then.
    ///
    /// # Errors
    /// If there are no more descriptors or processes.
    pub(super) fn take(
        poll: &Poll,
        copiers: &mut Copiers,
        handles: SessionHandles,
        [stdin, stdout, stderr]: [OwnedFd; 3],
    ) -> io::Result<ShimStdio> {
        Ok(ShimStdio {
            stdin: source(poll, copiers, handles, stdin)?,
            stdout: sink(poll, copiers, handles, Stream::Stdout, stdout)?,
            stderr: sink(poll, copiers, handles, Stream::Stderr, stderr)?,
        })
    }
}

/// A source of the bytes that `fd` gives; a closed one if it gives none. There is always a pipe of
/// our own in between: others may read from `fd`, and bytes that were offered must be there when
/// their turn has come.
fn source(
    poll: &Poll,
    copiers: &mut Copiers,
    handles: SessionHandles,
    fd: OwnedFd,
) -> io::Result<Source> {
    let mode = rustix::fs::fcntl_getfl(&fd)? & OFlags::ACCMODE;
    // nohup(1) makes a standard input that can't be read.
    if mode == OFlags::WRONLY || kind(&fd) == Kind::Null {
        return Ok(Source::closed(handles.stdin));
    }
    let (ours, theirs) = pipe::from_child()?;
    let mut pipe = Watched::new(ours, token(handles, Stream::Stdin));
    pipe.watch(poll, Interest::Read)?;
    copiers.start(poll, (handles.control, Stream::Stdin), fd, theirs)?;
    Ok(Source::new(handles.stdin, pipe))
}

/// A sink for `fd`.
fn sink(
    poll: &Poll,
    copiers: &mut Copiers,
    handles: SessionHandles,
    stream: Stream,
    fd: OwnedFd,
) -> io::Result<Sink> {
    let (handle, token) = (handles.stream(stream), token(handles, stream));
    let kind = kind(&fd);
    if kind == Kind::Null {
        // It takes everything, always, and can't be waited for.
        return Ok(Sink::for_shim(handle, Watched::new(fd, token)));
    }
    if kind == Kind::NamelessPipe
        && let Ok(own) = reopen(&fd, OFlags::WRONLY)
    {
        let mut pipe = Watched::new(own, token);
        pipe.watch(poll, Interest::End)?;
        return Ok(Sink::for_shim(handle, pipe));
    }
    let (theirs, ours) = pipe::to_child()?;
    let mut pipe = Watched::new(ours, token);
    pipe.watch(poll, Interest::End)?;
    copiers.start(poll, (handles.control, stream), theirs, fd)?;
    Ok(Sink::for_shim(handle, pipe))
}

fn token(handles: SessionHandles, stream: Stream) -> Token {
    Token::Reverse(handles.control, ReversePart::Stream(stream))
}

/// How the loop treats a descriptor.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// `/dev/null`.
    Null,
    /// A pipe without a name, which can be opened anew whoever is at its other end.
    NamelessPipe,
    /// Anything that may block, whatever is asked of it.
    Other,
}

/// Decides by the name in `/proc`: if a file system were asked, it might hang, and the loop with it.
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
