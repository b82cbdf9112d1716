//! Copiers: processes that carry bytes between a pipe of ours and a descriptor that is not ours.
//!
//! What a shim hands over is shared with the tool, and may not be made non-blocking; a file or a
//! device can't be waited for at all. So a child of ours does that with calls that block, and the
//! loop sees nothing but its pipe. A copier is forked and not executed anew, holds two
//! descriptors, and ends with the stream, with the session, and with the slave.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::wire::Handle;
use fakessh_unix::splice::splice;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt::socket_domain};
use rustix::pipe::SpliceFlags;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process};

use crate::poll::{Interest, Part, Poll, Token, Watched};
use crate::program::launcher;
use crate::program::tcp::connection;
use crate::sys;

/// Bytes that are carried by one call: what a pipe holds (pipe(7)).
const PIECE: usize = 64 * 1024;

/// Status of a copier whose failure has no number, or that was killed.
const UNKNOWN: u8 = 255;

/// A copier that runs.
#[derive(Debug)]
struct Copier {
    pid: Pid,
    /// `None` where the kernel has no such thing.
    _pidfd: Option<Watched>,
}

/// How a copier ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopierEnd {
    /// All bytes are where they belong, or the reader wanted no more.
    Whole,
    /// Bytes are missing, for this reason.
    Failed(Errno),
}

/// All copiers, by their session and what of it they carry. One stays here until it is reaped,
/// also where its session is gone.
#[derive(Debug, Default)]
pub(crate) struct Copiers {
    running: HashMap<(Handle, Part), Copier>,
}

impl Copiers {
    /// Starts one that carries from one descriptor to the other. Both are closed here.
    ///
    /// # Errors
    /// Where there can be no process, or its end can't be watched.
    pub(crate) fn start(
        &mut self,
        (control, part): (Handle, Part),
        from: OwnedFd,
        to: OwnedFd,
        poll: &Poll,
    ) -> io::Result<()> {
        let parent = getpid();
        let Some(pid) = sys::fork()? else {
            std::process::exit(i32::from(serve(parent, from, to)));
        };
        let pidfd = launcher::watch_for_end(pid)?.map(|pidfd| {
            let mut watched = Watched::new(pidfd, Token::Session(control, part));
            let is_watched = watched.watch(poll, Interest::Read);
            is_watched.map(|()| watched).inspect_err(|_| launcher::destroy(pid))
        });
        let pidfd = pidfd.transpose()?;
        self.running.insert((control, part), Copier { pid, _pidfd: pidfd });
        Ok(())
    }

    /// Whether this is still carried.
    pub(crate) fn carries(&self, control: Handle, part: Part) -> bool {
        self.running.contains_key(&(control, part))
    }

    /// Ends one, whatever it holds.
    pub(crate) fn kill(&self, control: Handle, part: Part) {
        if let Some(copier) = self.running.get(&(control, part)) {
            let _ = kill_process(copier.pid, Signal::KILL);
        }
    }

    /// Ends all of a session.
    pub(crate) fn kill_session(&self, control: Handle) {
        for part in [Part::StdinCopier, Part::StdoutCopier, Part::StderrCopier] {
            self.kill(control, part);
        }
    }

    /// Ends all that there are, and forgets them: so do we.
    pub(crate) fn abandon(&mut self) {
        for (_, copier) in self.running.drain() {
            let _ = kill_process(copier.pid, Signal::KILL);
        }
    }

    /// Whether any is left of a session.
    pub(crate) fn serve(&self, control: Handle) -> bool {
        let parts = [Part::StdinCopier, Part::StdoutCopier, Part::StderrCopier];
        parts.into_iter().any(|part| self.carries(control, part))
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<(Handle, Part)> {
        self.running.keys().copied().collect()
    }

    /// Looks whether one has ended, and how. It is gone then.
    pub(crate) fn look(&mut self, control: Handle, part: Part) -> Option<CopierEnd> {
        let pid = self.running.get(&(control, part))?.pid;
        let exit = launcher::look_for_end(pid)?;
        launcher::reap(pid);
        self.running.remove(&(control, part));
        Some(match exit {
            ExitStatus::Code(0) => CopierEnd::Whole,
            ExitStatus::Code(UNKNOWN) | ExitStatus::Signal(_) => CopierEnd::Failed(Errno::IO),
            ExitStatus::Code(number) => {
                match Errno::from_raw_os_error(i32::from(number)) {
                    // As at the end of any pipeline.
                    Errno::PIPE | Errno::CONNRESET => CopierEnd::Whole,
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
        let settled = connection::settle(&stdio);
        // All closed by their numbers.
        std::mem::forget(stdio);
        settled
    };
    if settled().is_err() {
        return UNKNOWN;
    }
    match carry(rustix::stdio::stdin(), rustix::stdio::stdout()) {
        Ok(()) => 0,
        Err(error) => u8::try_from(error.raw_os_error()).unwrap_or(UNKNOWN),
    }
}

/// Carries everything from one descriptor to the other, with calls that block; where somebody has
/// made one non-blocking, it is waited for.
fn carry(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    // From a socket or to one the kernel splices with the pipe locked, also while it waits: then
    // the loop would wait at its own end of the pipe. And a file's position is moved by read and
    // write alone without losing what others do to it.
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
    copy(from, to)
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
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
            // A terminal that hung up has no more to give.
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

/// Whether a reset is no loss: a Unix socket says so where the other side left without reading
/// all, after everything that it had written.
fn has_left(socket: BorrowedFd<'_>) -> bool {
    socket_domain(socket) == Ok(AddressFamily::UNIX)
}

fn wait(fd: BorrowedFd<'_>, events: PollFlags) {
    // What fails here fails again, and is seen, in the call that is waited for.
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
        carry(read.as_fd(), file.as_fd()).unwrap();
        file.rewind().unwrap();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        carry(file.as_fd(), write.as_fd()).unwrap();
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
        let carrying = std::thread::spawn(move || carry(theirs.as_fd(), write.as_fd()));
        // More than socket and pipe hold together: it is written while it is read.
        let writing = std::thread::spawn(move || {
            let mut ours = ours;
            ours.write_all(&[7; 300_000])
        });
        let mut bytes = Vec::new();
        std::fs::File::from(read).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, vec![7; 300_000]);
        writing.join().unwrap().unwrap();
        carrying.join().unwrap().unwrap();
    }
}
