//! Pseudo-terminals. A program of `ssh -t` runs on one. A helper asks for passwords on one, and its
//! data stream does not go over it.
//!
//! We move what is written on the terminal into a pipe. The session reads that pipe like any output
//! of a program: so the output has credit, and we choose when it ends.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use fakessh_protocol::message::Secret;
use fakessh_protocol::terminal::{TerminalRequest, WindowSize};
use fakessh_unix::{ready, terminal_modes};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::poll::{Interest, Poll, Token, Watched};

/// The usual size of a terminal. Helpers print only lines on it.
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// Most bytes that are moved at once. A pipe that says it has room takes so many at once (pipe(7):
/// PIPE_BUF).
const PIECE: usize = 4096;

/// Most pieces that are moved before others have their turn.
const TURN: usize = 16;

/// Most secrets that wait to be typed. A helper asks for one at a time.
const MAX_LINES: usize = 16;

/// A pseudo-terminal.
#[derive(Debug)]
pub(crate) struct Pty {
    /// Our end, non-blocking.
    pub(crate) master: OwnedFd,
    /// The end that programs have.
    pub(crate) side: OwnedFd,
}

impl Pty {
    /// Opens a pseudo-terminal that is raw and without echo.
    ///
    /// # Errors
    /// As [`Pty::open`].
    pub(crate) fn raw() -> Result<Pty, Errno> {
        Pty::open(SIZE, Termios::make_raw)
    }

    /// Opens a pseudo-terminal like the one that is asked for.
    ///
    /// # Errors
    /// As [`Pty::open`].
    pub(crate) fn like(request: &TerminalRequest) -> Result<Pty, Errno> {
        let size = terminal_modes::to_winsize(request.size);
        Pty::open(size, |modes| terminal_modes::apply(modes, &request.modes))
    }

    /// Opens a pseudo-terminal. It does not become our controlling terminal.
    ///
    /// # Errors
    /// If the target has none to give: no devpts, its limit, a sandbox.
    fn open(size: Winsize, change: impl FnOnce(&mut Termios)) -> Result<Pty, Errno> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        // By the descriptor, since the name may lead elsewhere in a container. Linux 4.13 has that.
        let side = rustix::pty::ioctl_tiocgptpeer(&master, flags).or_else(|_| {
            let name = rustix::pty::ptsname(&master, Vec::new())?;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            rustix::fs::open(name, flags, Mode::empty())
        })?;
        let mut modes = rustix::termios::tcgetattr(&side)?;
        change(&mut modes);
        rustix::termios::tcsetattr(&side, OptionalActions::Now, &modes)?;
        rustix::termios::tcsetwinsize(&side, size)?;
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        Ok(Pty { master, side })
    }
}

/// Our ends of a terminal and of the pipe for its text, while the program starts.
#[derive(Debug)]
pub(crate) struct Ends {
    master: OwnedFd,
    output: OwnedFd,
}

impl Ends {
    /// Text that is written on the terminal of `master` goes into the pipe `output`.
    ///
    /// # Errors
    /// If the pipe can't be made non-blocking.
    pub(crate) fn new(master: OwnedFd, output: OwnedFd) -> io::Result<Ends> {
        rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK)?;
        Ok(Ends { master, output })
    }
}

/// A terminal of a running program or helper.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: Watched,
    /// The pipe for text that is written on it. `None` if nobody wants it any more: then the text is
    /// thrown away, so that the program goes on.
    output: Option<Watched>,
    /// Lines that are to be typed.
    lines: VecDeque<Secret>,
    /// How much of the first line is typed.
    typed: usize,
    phase: Phase,
}

/// How far a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Programs are on it.
    Open,
    /// Its program has ended. What was written until now is still moved.
    Draining,
    /// Nothing moves any more. The terminal still stays open: closing it would hang up.
    Over,
}

impl Terminal {
    /// A terminal that is watched under this token.
    ///
    /// # Errors
    /// If the kernel watches no more descriptors.
    pub(crate) fn new(ends: Ends, token: Token, poll: &Poll) -> io::Result<Terminal> {
        let mut master = Watched::new(ends.master, token);
        master.watch(poll, Interest::Read)?;
        let output = Some(Watched::new(ends.output, token));
        Ok(Terminal { master, output, lines: VecDeque::new(), typed: 0, phase: Phase::Open })
    }

    /// Types a secret, and a line feed after it. The secret is zeroed when it has been typed.
    pub(crate) fn enter(&mut self, secret: &str, poll: &Poll) {
        if self.phase == Phase::Over || self.lines.len() >= MAX_LINES {
            return;
        }
        // In one piece: some programs read once. And without growing, which would leave a copy.
        let mut line = Secret(String::with_capacity(secret.len() + 1));
        line.0.push_str(secret);
        line.0.push('\n');
        self.lines.push_back(line);
        self.serve(poll);
    }

    /// Moves what can be moved, both ways.
    pub(crate) fn serve(&mut self, poll: &Poll) {
        if self.phase == Phase::Over {
            return;
        }
        let moved = self.type_in().and_then(|()| self.show());
        let is_full = match moved {
            Ok(Shown::All) if self.phase == Phase::Draining => return self.stop(poll),
            Ok(shown) => shown == Shown::UntilFull,
            // EIO: all processes that had the terminal open have closed it.
            Err(_) => return self.stop(poll),
        };
        let is_typing = !self.lines.is_empty();
        let interest = match (is_full, is_typing) {
            (false, false) => Interest::Read,
            (false, true) => Interest::Both,
            (true, true) => Interest::Write,
            (true, false) => Interest::Nothing,
        };
        let for_room = if is_full { Interest::Write } else { Interest::Nothing };
        let output = self.output.as_mut().map_or(Ok(()), |output| output.watch(poll, for_room));
        if output.and(self.master.watch(poll, interest)).is_err() {
            self.stop(poll);
        }
    }

    fn type_in(&mut self) -> Result<(), Errno> {
        while let Some(line) = self.lines.front() {
            match rustix::io::write(&self.master, &line.0.as_bytes()[self.typed..]) {
                Ok(len) => self.typed += len,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
            if self.typed == line.0.len() {
                self.typed = 0;
                self.lines.pop_front();
            }
        }
        Ok(())
    }

    /// Moves text that was written on the terminal into the pipe.
    fn show(&mut self) -> Result<Shown, Errno> {
        let mut piece = [0; PIECE];
        for _ in 0..TURN {
            if self.output.as_ref().is_some_and(|output| !has_room(output)) {
                return Ok(Shown::UntilFull);
            }
            let len = match rustix::io::read(&self.master, &mut piece) {
                Ok(0) => return Err(Errno::IO),
                Ok(len) => len,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(Shown::All),
                Err(error) => return Err(error),
            };
            if let Some(output) = &self.output
                && rustix::io::write(output, &piece[..len]).is_err()
            {
                self.output = None;
            }
        }
        Ok(Shown::Part)
    }

    /// Moves what was written until now, as fast as it is read, and then no more: processes that
    /// still have the terminal have outlived the program.
    pub(crate) fn drain(&mut self, poll: &Poll) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            self.serve(poll);
        }
    }

    /// Gives the terminal another size. Its programs get SIGWINCH.
    pub(crate) fn resize(&self, size: WindowSize) {
        // It fails only if the terminal is gone.
        let _ = rustix::termios::tcsetwinsize(&self.master, terminal_modes::to_winsize(size));
    }

    /// Moves as much of what was written until now as the pipe takes, and then no more: processes
    /// that still have the terminal have outlived the helper.
    pub(crate) fn end(&mut self, poll: &Poll) {
        self.serve(poll);
        self.stop(poll);
    }

    fn stop(&mut self, poll: &Poll) {
        self.phase = Phase::Over;
        self.lines.clear();
        self.output = None;
        // A descriptor that can't be taken out is not in there.
        let _ = self.master.watch(poll, Interest::Nothing);
    }
}

/// How much of what was written on a terminal was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// All of it.
    All,
    /// As much as the pipe takes.
    UntilFull,
    /// As much as a turn may take.
    Part,
}

/// Whether a pipe takes a whole piece without blocking, or nobody reads it.
fn has_room(pipe: &Watched) -> bool {
    !ready::now(pipe, PollFlags::OUT).is_empty()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use fakessh_protocol::wire::Handle;
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;
    use crate::poll::SessionPart;

    fn token() -> Token {
        Token::Session(Handle(4), SessionPart::Terminal)
    }

    /// Waits: the kernel brings text from one side of a terminal to the other by and by.
    fn until(mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done() {
            assert!(Instant::now() < deadline, "it hangs");
            std::thread::yield_now();
        }
    }

    /// Takes what is there. Returns whether nothing more will come.
    fn take(fd: &OwnedFd, taken: &mut Vec<u8>) -> bool {
        let mut piece = [0; 4096];
        let len = rustix::io::read(fd, &mut piece);
        taken.extend(&piece[..len.unwrap_or(0)]);
        len == Ok(0)
    }

    #[test]
    fn what_is_written_goes_into_the_pipe_and_is_not_echoed_or_changed() {
        let poll = Poll::new().unwrap();
        let Pty { master, side } = Pty::raw().unwrap();
        let (shown, output) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let ends = Ends::new(master, output).unwrap();
        let mut terminal = Terminal::new(ends, token(), &poll).unwrap();
        let all: Vec<u8> = (0..=255).collect();
        rustix::io::write(&side, &all).unwrap();
        let mut seen = Vec::new();
        until(|| {
            terminal.serve(&poll);
            take(&shown, &mut seen);
            seen.len() >= all.len()
        });
        assert_eq!(seen, all);

        terminal.enter("päss wörd", &poll);
        rustix::fs::fcntl_setfl(&side, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
        let mut entered = Vec::new();
        until(|| {
            take(&side, &mut entered);
            entered.ends_with(b"\n")
        });
        assert_eq!(entered, "päss wörd\n".as_bytes());
        assert!(terminal.lines.is_empty());
        drop(side);
        // Another test that is about to start a program holds a copy of everything for a moment.
        until(|| {
            terminal.serve(&poll);
            terminal.phase == Phase::Over
        });
        // Nothing more: no echo.
        until(|| take(&shown, &mut seen));
        assert_eq!(seen, all);
    }

    #[test]
    fn a_full_pipe_stops_the_terminal_and_loses_nothing() {
        let poll = Poll::new().unwrap();
        let Pty { master, side } = Pty::raw().unwrap();
        let (shown, output) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let ends = Ends::new(master, output).unwrap();
        let mut terminal = Terminal::new(ends, token(), &poll).unwrap();
        rustix::fs::fcntl_setfl(&side, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
        let mut written = 0;
        let mut write = || {
            let len = rustix::io::write(&side, &[b'x'; 1000]).unwrap_or(0);
            written += len;
            len
        };
        // The pipe is full, and then the terminal.
        until(|| {
            write();
            terminal.serve(&poll);
            !has_room(terminal.output.as_ref().unwrap())
        });
        until(|| write() == 0);
        terminal.serve(&poll);
        assert_eq!(terminal.phase, Phase::Open);
        drop(side);
        let mut seen = Vec::new();
        until(|| {
            terminal.serve(&poll);
            take(&shown, &mut seen)
        });
        assert_eq!(seen.len(), written);
    }
}
