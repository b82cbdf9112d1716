//! One session, from the start of its program to the message that says how it ended.

use std::io;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::{SessionHandles, Stream};
use fakessh_protocol::message::ToMaster;
use fakessh_protocol::terminal::WindowSize;
use rustix::process::{Pid, Signal, kill_process_group};

use super::sink::Sink;
use super::source::Source;
use crate::child;
use crate::cleanup::{HungUp, SessionSlot};
use crate::io::Io;
use crate::poll::{Interest, Ready, SessionPart, Token, Watched};
use crate::program::{Program, ProgramStdio, Terminal};

/// A session of a program.
#[derive(Debug)]
pub(crate) struct Session {
    handles: SessionHandles,
    pid: Pid,
    life: Life,
    stdin: Sink,
    stdout: Source,
    stderr: Source,
    kind: Kind,
    /// Slot in the watchdog's list. During the grace period after a hang-up the pending kill owns
    /// it, and reaps.
    slot: Option<SessionSlot>,
}

/// Whether the program runs. It stays unreaped while the session lasts, so that its number, which
/// is that of its process group, can't become another's.
#[derive(Debug)]
enum Life {
    /// The descriptor wakes us when the program ends. Old kernels have none.
    Runs {
        _pidfd: Option<Watched>,
    },
    Ended(ExitStatus),
}

#[derive(Debug)]
enum Kind {
    Program,
    /// A helper's end does not wait for its standard error. Closing the terminal that it asks for
    /// passwords on hangs it up.
    Helper {
        terminal: Option<Terminal>,
    },
    /// A program on a terminal: its end does not wait for what it has left there. `None` after a
    /// hang-up.
    OnTerminal {
        terminal: Option<Terminal>,
    },
}

impl Session {
    /// A session of a program that has just started. Everything it needs is watched.
    ///
    /// # Errors
    /// If the kernel watches no more descriptors.
    pub(crate) fn new(
        handles: SessionHandles,
        program: Program,
        io: &mut Io,
    ) -> io::Result<Session> {
        let poll = &io.poll;
        let watched = |fd, part| Watched::new(fd, Token::Session(handles.control, part));
        let source = |fd, stream| {
            let mut pipe = watched(fd, SessionPart::Stream(stream));
            pipe.watch(poll, Interest::Read)?;
            io::Result::Ok(Source::new(handles.stream(stream), pipe))
        };
        let token = Token::Session(handles.control, SessionPart::Terminal);
        let open = |ends| Terminal::new(ends, token, poll);
        let (kind, upload) = match program.stdio {
            ProgramStdio::Pipes => (Kind::Program, None),
            ProgramStdio::Helper { terminal, upload } => {
                (Kind::Helper { terminal: terminal.map(open).transpose()? }, upload)
            }
            ProgramStdio::Terminal(ends) => {
                (Kind::OnTerminal { terminal: Some(open(ends)?) }, None)
            }
        };
        let is_on_terminal = matches!(kind, Kind::OnTerminal { .. });
        let pidfd = program.pidfd.map(|fd| {
            let mut pidfd = watched(fd, SessionPart::Exit);
            pidfd.watch(poll, Interest::Read).map(|()| pidfd)
        });
        let stdin = watched(program.stdin, SessionPart::Stream(Stream::Stdin));
        let stderr = program.stderr.map(|fd| source(fd, Stream::Stderr)).transpose()?;
        let stdin = if is_on_terminal {
            Sink::for_terminal(handles.stdin, stdin, poll)?
        } else {
            Sink::for_program(handles.stdin, stdin, upload, poll)?
        };
        let session = Session {
            handles,
            pid: program.pid,
            life: Life::Runs { _pidfd: pidfd.transpose()? },
            stdin,
            stdout: source(program.stdout, Stream::Stdout)?,
            stderr: stderr.unwrap_or_else(|| Source::closed(handles.stderr)),
            kind,
            slot: None,
        };
        if session.stderr.has_ended() {
            io.mux.finish(handles.stderr);
        }
        Ok(session)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn runs(&self) -> bool {
        matches!(self.life, Life::Runs { .. })
    }

    /// Gives the session its slot, or gives it back: from here on the session reaps its program.
    pub(crate) fn set_slot(&mut self, slot: SessionSlot) {
        self.slot = Some(slot);
    }

    /// Takes the slot of a session that is over, if that has it.
    pub(crate) fn into_slot(self) -> Option<SessionSlot> {
        self.slot
    }

    /// The program's standard input, if this is the handle that goes there.
    pub(crate) fn sink(&mut self, stream: Stream) -> Option<&mut Sink> {
        (stream == Stream::Stdin).then_some(&mut self.stdin)
    }

    /// The program's output that comes over this handle.
    pub(crate) fn source(&mut self, stream: Stream) -> Option<&mut Source> {
        match stream {
            Stream::Stdin => None,
            Stream::Stdout => Some(&mut self.stdout),
            Stream::Stderr => Some(&mut self.stderr),
        }
    }

    /// A descriptor of the session is ready. How large an output's pipe may become depends on how
    /// many `sessions` there are.
    pub(crate) fn ready(&mut self, io: &mut Io, part: SessionPart, ready: Ready, sessions: usize) {
        match part {
            SessionPart::Exit => self.note_exit(),
            SessionPart::Terminal => {
                if let Some(terminal) = self.terminal() {
                    terminal.serve(&io.poll);
                }
            }
            SessionPart::Stream(Stream::Stdin) if ready.ended => self.stdin.cut(io),
            SessionPart::Stream(Stream::Stdin) if ready.writable => self.stdin.drain(io),
            SessionPart::Stream(stream) => {
                let Some(source) = self.source(stream) else { return };
                source.offer(io, sessions);
                if ready.ended {
                    source.end();
                    io.mux.finish(source.handle());
                    // Most programs end with their output: then all goes out in one write.
                    if self.stdout.has_ended() && self.stderr.has_ended() {
                        self.note_exit();
                    }
                }
            }
        }
    }

    /// Notes how the program ended, if it has.
    pub(crate) fn note_exit(&mut self) {
        if let Life::Runs { .. } = self.life
            && let Some(exit) = child::exit_status(self.pid)
        {
            self.life = Life::Ended(exit);
        }
    }

    /// Says that the session is over, if it is: its program has ended, and the ends of its outputs
    /// are out. (Messages overtake bulk, so it must not be said before.) Returns whether it is.
    pub(crate) fn settle(&mut self, io: &mut Io, sessions: usize) -> bool {
        let Life::Ended(exit) = self.life else { return false };
        let SessionHandles { control, stdin, stdout, stderr } = self.handles;
        if let Kind::OnTerminal { terminal: Some(terminal) } = &mut self.kind {
            // When all is moved, the end of the pipe is the end of the output.
            terminal.drain(&io.poll);
        }
        if io.mux.is_sending(stdout) {
            return false;
        }
        if io.mux.is_sending(stderr) {
            self.end_helpers_stderr(io, sessions);
            return false;
        }
        // A status of two bytes is never too large.
        let _ = io.mux.message(control, &ToMaster::Exited(exit));
        io.mux.stop(stdin);
        true
    }

    /// Ends the standard error of a helper that has ended and whose stream has: programs that the
    /// helper left running may hold its terminal for ever. Text that came until now is still sent.
    fn end_helpers_stderr(&mut self, io: &mut Io, sessions: usize) {
        let Kind::Helper { terminal } = &mut self.kind else { return };
        if let Some(terminal) = terminal {
            terminal.end(&io.poll);
        }
        if self.stderr.has_ended() {
            return;
        }
        self.stderr.offer(io, sessions);
        self.stderr.end();
        if self.stderr.pause(&io.poll).is_err() {
            self.stderr.close();
        }
        io.mux.finish(self.stderr.handle());
    }

    /// Types a secret into the terminal of a helper. If there is none, nobody asked.
    pub(crate) fn type_secret(&mut self, io: &Io, secret: &str) {
        if let Kind::Helper { terminal: Some(terminal) } = &mut self.kind {
            terminal.enter(secret, &io.poll);
        }
    }

    /// The terminal that the program, or helper, is on.
    fn terminal(&mut self) -> Option<&mut Terminal> {
        match &mut self.kind {
            Kind::Program => None,
            Kind::Helper { terminal } | Kind::OnTerminal { terminal } => terminal.as_mut(),
        }
    }

    /// Gives the program's terminal another size.
    pub(crate) fn resize(&self, size: WindowSize) {
        if let Kind::OnTerminal { terminal: Some(terminal) } = &self.kind {
            terminal.resize(size);
        }
    }

    /// Signals the program's process group.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal);
    }

    /// The invoker is gone: nobody reads the program's outputs any more. Returns the program for
    /// its grace period, unless it is in that already.
    pub(crate) fn hang_up(&mut self, io: &mut Io) -> Option<HungUp> {
        let slot = self.slot.take()?;
        let pipe = self.stdin.take_pipe(&io.poll);
        let stdin = match &mut self.kind {
            Kind::Program => pipe,
            // A helper's standard input is the stream of a link. Its end is how the far slave
            // learns of the hang-up, and the far slave takes no cut stream for the whole. Closing
            // the terminal hangs up what runs as another user, which we may not signal.
            Kind::Helper { terminal } | Kind::OnTerminal { terminal } => {
                *terminal = None;
                None
            }
        };
        io.mux.stop(self.handles.stdin);
        self.stdout.cut(io);
        self.stderr.cut(io);
        Some(HungUp::new(self.pid, slot, stdin))
    }
}
