//! Copiers: processes that copy bytes between a pipe of ours and a descriptor that is not ours.
//!
//! The descriptors that a shim hands over are shared with the tool, and may not be made
//! non-blocking; and the loop can't wait for a file or a device at all. So a child of ours copies
//! with calls that block, and the loop sees nothing but its pipe. A copier is forked and executes
//! nothing, holds two descriptors, and ends with the stream, with the session, and with the slave.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::Stream;
use fakessh_protocol::wire::Handle;
use fakessh_unix::splice::splice;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt::socket_domain};
use rustix::pipe::SpliceFlags;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process};

use crate::poll::{Interest, Poll, ReversePart, Token, Watched};
use crate::{child, sys};

/// Bytes that are copied by one call: as many as a pipe holds (pipe(7)).
const PIECE: usize = 64 * 1024;

/// Exit status of a copier whose failure has no number.
const UNKNOWN: u8 = 255;

/// A copier that runs.
#[derive(Debug)]
struct Copier {
    pid: Pid,
    /// Wakes us when the copier ends. `None` if the kernel has no pidfds.
    _pidfd: Option<Watched>,
}

/// How a copier ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopierEnd {
    /// All bytes are where they belong, or the reader wanted no more.
    Whole,
    /// Bytes are missing, for this reason.
    Failed(Errno),
}

/// All copiers, by their session and stream. A copier stays here until it is reaped, also if its
/// session is gone.
#[derive(Debug, Default)]
pub(super) struct Copiers {
    running: HashMap<(Handle, Stream), Copier>,
}

impl Copiers {
    /// Starts a copier from one descriptor to the other. Both are closed here.
    ///
    /// # Errors
    /// If there can be no process, or its end can't be watched.
    pub(super) fn start(
        &mut self,
        poll: &Poll,
        (control, stream): (Handle, Stream),
        from: OwnedFd,
        to: OwnedFd,
    ) -> io::Result<()> {
        let parent = getpid();
        let Some(pid) = sys::fork()? else {
            std::process::exit(i32::from(serve(parent, from, to)));
        };
        let pidfd = child::pidfd(pid)?.map(|pidfd| {
            let token = Token::Reverse(control, ReversePart::Copier(stream));
            let mut watched = Watched::new(pidfd, token);
            let is_watched = watched.watch(poll, Interest::Read);
            is_watched.map(|()| watched).inspect_err(|_| child::destroy(pid))
        });
        let pidfd = pidfd.transpose()?;
        self.running.insert((control, stream), Copier { pid, _pidfd: pidfd });
        Ok(())
    }

    /// Whether a stream is still copied.
    pub(super) fn copies(&self, control: Handle, stream: Stream) -> bool {
        self.running.contains_key(&(control, stream))
    }

    /// Whether any stream of a session is still copied.
    pub(super) fn copies_any(&self, control: Handle) -> bool {
        Stream::ALL.into_iter().any(|stream| self.copies(control, stream))
    }

    /// Kills the copier of a stream, whatever it holds.
    pub(super) fn kill(&self, control: Handle, stream: Stream) {
        if let Some(copier) = self.running.get(&(control, stream)) {
            let _ = kill_process(copier.pid, Signal::KILL);
        }
    }

    /// Kills the copiers of a session.
    pub(super) fn kill_session(&self, control: Handle) {
        for stream in Stream::ALL {
            self.kill(control, stream);
        }
    }

    /// Kills all copiers, and forgets them: the slave ends as well.
    pub(super) fn kill_all(&mut self) {
        for (_, copier) in self.running.drain() {
            let _ = kill_process(copier.pid, Signal::KILL);
        }
    }

    /// The sessions and streams of all copiers.
    pub(super) fn running(&self) -> Vec<(Handle, Stream)> {
        self.running.keys().copied().collect()
    }

    /// Reaps a copier if it has ended, and says how it ended.
    pub(super) fn take_end(&mut self, control: Handle, stream: Stream) -> Option<CopierEnd> {
        let pid = self.running.get(&(control, stream))?.pid;
        let exit = child::exit_status(pid)?;
        child::reap(pid);
        self.running.remove(&(control, stream));
        Some(match exit {
            ExitStatus::Code(0) => CopierEnd::Whole,
            ExitStatus::Code(UNKNOWN) | ExitStatus::Signal(_) => CopierEnd::Failed(Errno::IO),
            ExitStatus::Code(number) => {
                match Errno::from_raw_os_error(i32::from(number)) {
                    // As at the end of any pipeline.
                    Errno::PIPE => CopierEnd::Whole,
                    // What was to be read is missing, and what was written is not wanted.
                    Errno::CONNRESET if stream != Stream::Stdin => CopierEnd::Whole,
                    error => CopierEnd::Failed(error),
                }
            }
        })
    }
}

/// A copier's whole life. Returns its exit status: 0, or the number of an error.
fn serve(parent: Pid, from: OwnedFd, to: OwnedFd) -> u8 {
    let settled = || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(parent) {
            return Err(Errno::SRCH.into());
        }
        let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
        let stdio = [from, to, null];
        let settled = child::take_stdio(&stdio);
        // They are closed by their numbers.
        std::mem::forget(stdio);
        settled
    };
    if settled().is_err() {
        return UNKNOWN;
    }
    match copy_all(rustix::stdio::stdin(), rustix::stdio::stdout()) {
        Ok(()) => 0,
        Err(error) => u8::try_from(error.raw_os_error()).unwrap_or(UNKNOWN),
    }
}

/// Copies everything from one descriptor to the other, with calls that block; a descriptor that
/// somebody has made non-blocking is waited for.
fn copy_all(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    // To and from a socket the kernel splices with the pipe locked, also while it waits: then the
    // loop would wait at its own end of the pipe. And only read and write move a file's position
    // without losing what others do to it.
    let is_pipe = |fd| {
        let kind = rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        matches!(kind, Ok(FileType::Fifo))
    };
    if is_pipe(from) && is_pipe(to) {
        loop {
            match splice(from, to, PIECE, SpliceFlags::empty()) {
                Ok(Some(0)) => return Ok(()),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Errno::AGAIN) => {
                    wait(from, PollFlags::IN);
                    wait(to, PollFlags::OUT);
                }
                Err(error) => return Err(error),
            }
        }
    }
    read_and_write(from, to)
}

fn read_and_write(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut piece = vec![0; PIECE];
    loop {
        let len = match rustix::io::read(from, &mut piece) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                wait(from, PollFlags::IN);
                continue;
            }
            // A terminal that hung up has no more bytes.
            Err(Errno::IO) if rustix::termios::isatty(from) => return Ok(()),
            Err(Errno::CONNRESET) if has_left(from) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut rest = &piece[..len];
        while !rest.is_empty() {
            match rustix::io::write(to, rest) {
                Ok(len) => rest = &rest[len..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait(to, PollFlags::OUT),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether a reset is no loss: a Unix socket reports one, after everything that the other side
/// wrote, if the other side left without reading all.
fn has_left(socket: BorrowedFd<'_>) -> bool {
    socket_domain(socket) == Ok(AddressFamily::UNIX)
}

fn wait(fd: BorrowedFd<'_>, events: PollFlags) {
    // If this fails, the call that it waits for fails as well, and is seen to.
    let _ = poll(&mut [PollFd::new(&fd, events)], None);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn a_file_reaches_a_pipe_and_a_pipe_a_file() {
        let mut file = tempfile::Builder::new().append(true).tempfile().unwrap();
        file.write_all(b"begin ").unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::write(&write, b"end").unwrap();
        drop(write);
        copy_all(read.as_fd(), file.as_fd()).unwrap();
        file.rewind().unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        copy_all(file.as_fd(), write.as_fd()).unwrap();
        drop(write);
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "begin end");
    }

    #[test]
    fn a_socket_that_does_not_block_is_waited_for() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let copying = std::thread::spawn(move || copy_all(theirs.as_fd(), write.as_fd()));
        // More than socket and pipe hold together: it is written while it is read.
        let writing = std::thread::spawn(move || {
            let mut ours = ours;
            ours.write_all(&[7; 300_000])
        });
        let mut bytes = Vec::new();
        std::fs::File::from(read).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, vec![7; 300_000]);
        writing.join().unwrap().unwrap();
        copying.join().unwrap().unwrap();
    }
}
