//! What belongs together: a program, our ends of its pipes, and the handles that they go to.

use std::collections::{HashMap, VecDeque};
use std::io;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::{SessionHandles, Side};
use fakessh_protocol::wire::Handle;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::cleanup::watchdog::Entry;
use crate::link::direction::enlarge;
use crate::poll::{Interest, Part, Poll, Token, Watched};
use crate::program::helper::HelperStdio;
use crate::program::launcher::Program;
use crate::program::self_upload::SelfUpload;
use crate::program::terminal::Terminal;
use crate::reverse::session::ReverseSession;

/// What a program's pipe is made to hold once it has been full. More would let fewer programs have
/// it: an unprivileged user's pipes hold 64 MiB together before the kernel makes them small.
const BULK_PIPE: usize = 256 * 1024;

/// The same for output where there are few sessions: more than the link takes in a [`REST`].
///
/// [`REST`]: crate::link::direction::REST
const WIDE_PIPE: usize = 1024 * 1024;

/// With so many, their outputs take no more than a quarter of what an unprivileged user's pipes may
/// hold.
const FEW_SESSIONS: usize = 8;

/// What a pipe holds that nobody has enlarged (pipe(7)).
const NEW_PIPE: usize = 64 * 1024;

/// A stdin buffer that grew beyond this is given back when it has drained.
const KEPT_BUFFER: usize = 16 * 1024;

/// Tables that grew beyond this many sessions are given back when the last one has ended.
const KEPT_SESSIONS: usize = 64;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) handles: SessionHandles,
    pub(crate) pid: Pid,
    /// Until the program has ended, where the kernel has pidfds.
    pub(crate) pidfd: Option<Watched>,
    /// How it ended. It stays unreaped while the session lasts, so that its number, which is that
    /// of its process group, can't become another's.
    pub(crate) exit: Option<ExitStatus>,
    pub(crate) stdin: Option<Sink>,
    stdout: Option<Source>,
    stderr: Option<Source>,
    /// Whether it is a helper: its end does not wait for its standard error.
    pub(crate) is_helper: bool,
    /// What a helper asks on. It is closed, and hung up by that, with the session.
    pub(crate) terminal: Option<Terminal>,
    /// Its place on the watchdog's list. `None` while it was hung up and what it started is in
    /// its grace: then its pending has the place, and the reaping.
    pub(crate) entry: Option<Entry>,
}

impl Session {
    /// A session of a program that has just started; everything it needs is watched.
    ///
    /// # Errors
    /// Where the kernel watches no more descriptors.
    pub(crate) fn new(
        handles: SessionHandles,
        program: Program,
        poll: &Poll,
    ) -> io::Result<Session> {
        let watched = |fd, part, interest| {
            let mut watched = Watched::new(fd, Token::Session(handles.control, part));
            watched.watch(poll, interest).map(|()| watched)
        };
        let output = |fd, part| watched(fd, part, Interest::Read).map(Source::new);
        let is_helper = program.helper_stdio.is_some();
        let HelperStdio { terminal, upload } = program.helper_stdio.unwrap_or_default();
        let interest = if upload.is_some() { Interest::Write } else { Interest::End };
        let stdin = Sink {
            pipe: watched(program.stdin, Part::Stdin, interest)?,
            upload,
            buffer: VecDeque::new(),
            ending: false,
            enlarged: false,
        };
        Ok(Session {
            handles,
            pid: program.pid,
            pidfd: program.pidfd.map(|fd| watched(fd, Part::Exit, Interest::Read)).transpose()?,
            exit: None,
            stdin: Some(stdin),
            stdout: Some(output(program.stdout, Part::Stdout)?),
            stderr: program.stderr.map(|fd| output(fd, Part::Stderr)).transpose()?,
            is_helper,
            terminal: terminal
                .map(|ends| Terminal::new(ends, handles.control, poll))
                .transpose()?,
            entry: None,
        })
    }

    /// The program's stdout or stderr, while it is open here.
    pub(crate) fn output(&mut self, part: Part) -> &mut Option<Source> {
        if part == Part::Stderr { &mut self.stderr } else { &mut self.stdout }
    }

    /// Whether nobody can write to the program's outputs any more.
    pub(crate) fn outputs_ended(&self) -> bool {
        [&self.stdout, &self.stderr].into_iter().flatten().all(|output| output.ended)
    }

    /// The handle that a part's bytes go over.
    pub(crate) fn handle(&self, part: Part) -> Handle {
        match part {
            Part::Stdin => self.handles.stdin,
            Part::Stdout => self.handles.stdout,
            Part::Stderr => self.handles.stderr,
            _ => self.handles.control,
        }
    }
}

/// What bytes of the link go to: a program's standard input, or a shim's standard output or error.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) pipe: Watched,
    /// What goes there before anything that comes. Nobody has given credit for it.
    upload: Option<SelfUpload>,
    /// What came while the pipe was full. Bounded by the credit of the handle.
    pub(crate) buffer: VecDeque<u8>,
    /// Whether the end follows what is in the buffer.
    pub(crate) ending: bool,
    enlarged: bool,
}

impl Sink {
    /// For what is written to a descriptor that is not the slave's own pipe: it stays as large as
    /// it is.
    pub(crate) fn new(pipe: Watched) -> Sink {
        Sink { pipe, upload: None, buffer: VecDeque::new(), ending: false, enlarged: true }
    }

    /// Whether all that there is for the program is in its pipe.
    pub(crate) fn is_drained(&self) -> bool {
        self.buffer.is_empty() && self.upload.is_none()
    }

    /// Gives the program what the pipe takes of `bytes`, and keeps the rest. Returns how much the
    /// pipe took.
    ///
    /// # Errors
    /// [`Errno::PIPE`] where the program reads no more, others where the pipe is of no use.
    pub(crate) fn give(&mut self, poll: &Poll, bytes: &[u8]) -> Result<usize, Errno> {
        let mut given = 0;
        if self.is_drained() {
            while given < bytes.len() {
                match rustix::io::write(&self.pipe, &bytes[given..]) {
                    Ok(len) => given += len,
                    Err(Errno::AGAIN) if !self.enlarged => {
                        self.enlarged = true;
                        enlarge(&self.pipe, &[BULK_PIPE]);
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if given < bytes.len() {
            self.buffer.extend(&bytes[given..]);
            self.watch(poll, Interest::Write)?;
        }
        Ok(given)
    }

    /// Gives the program what the pipe takes of what it carries, and then of the buffer. Returns
    /// how much of the buffer that was.
    ///
    /// # Errors
    /// As [`Sink::give`].
    pub(crate) fn drain(&mut self, poll: &Poll) -> Result<usize, Errno> {
        if let Some(upload) = &mut self.upload {
            match upload.give(&self.pipe) {
                Ok(()) => self.upload = None,
                Err(Errno::AGAIN) => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        let mut given = 0;
        while !self.buffer.is_empty() {
            match rustix::io::write(&self.pipe, self.buffer.as_slices().0) {
                Ok(len) => {
                    self.buffer.drain(..len);
                    given += len;
                }
                Err(Errno::AGAIN) => return Ok(given),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = VecDeque::new();
        }
        self.watch(poll, Interest::End)?;
        Ok(given)
    }

    fn watch(&mut self, poll: &Poll, interest: Interest) -> Result<(), Errno> {
        let watched = self.pipe.watch(poll, interest);
        watched.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

/// What bytes for the link come from: a program's standard output or error, or a shim's standard
/// input.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) pipe: Watched,
    /// Bytes in the pipe that the mux knows of.
    pub(crate) offered: usize,
    /// Whether nobody can write any more; what is offered is all.
    pub(crate) ended: bool,
    enlarged: bool,
}

impl Source {
    pub(crate) fn new(pipe: Watched) -> Source {
        Source { pipe, offered: 0, ended: false, enlarged: false }
    }

    /// How many bytes are in the pipe that were not offered. They are, from here on. How wide the
    /// pipe may become depends on how many `sessions` there are.
    pub(crate) fn discover(&mut self, sessions: usize) -> usize {
        let available = rustix::io::ioctl_fionread(&self.pipe).unwrap_or(0) as usize;
        if available >= NEW_PIPE && !self.enlarged {
            self.enlarged = true;
            let wide = if sessions <= FEW_SESSIONS { WIDE_PIPE } else { BULK_PIPE };
            enlarge(&self.pipe, &[wide, BULK_PIPE]);
        }
        let more = available.saturating_sub(self.offered);
        self.offered += more;
        more
    }

    /// What is offered is all: the end, which would be reported again and again, is listened to no
    /// more. Gives the slot up where nothing is left, or that can't be.
    pub(crate) fn end(slot: &mut Option<Source>, poll: &Poll) {
        let Some(source) = slot else { return };
        source.ended = true;
        if source.pipe.watch(poll, Interest::Nothing).is_err() || source.offered == 0 {
            *slot = None;
        }
    }
}

/// All sessions, by the number of their control handle.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) by_control: HashMap<Handle, Session>,
    /// Those that we raise.
    pub(crate) raised: HashMap<Handle, ReverseSession>,
}

impl Sessions {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_control.len() + self.raised.len()
    }

    pub(crate) fn insert(&mut self, session: Session) {
        self.by_control.insert(session.handles.control, session);
    }

    pub(crate) fn remove(&mut self, control: Handle) -> Option<Session> {
        let session = self.by_control.remove(&control)?;
        if self.by_control.is_empty() && self.by_control.capacity() > KEPT_SESSIONS {
            self.by_control = HashMap::new();
        }
        Some(session)
    }

    /// The session of a handle of data, and what of it the handle is.
    pub(crate) fn of(&mut self, handle: Handle) -> Option<(&mut Session, Part)> {
        let part = SessionHandles::stream_of(handle)?.into();
        Some((self.by_control.get_mut(&SessionHandles::of(handle).control)?, part))
    }

    /// The open stdin that a handle goes to, or what takes its place in a raised session.
    pub(crate) fn sink(&mut self, handle: Handle) -> Option<&mut Sink> {
        if Side::of(handle) == Some(Side::Slave) {
            return self.raised_sink(handle)?.as_mut();
        }
        match self.of(handle)? {
            (session, Part::Stdin) => session.stdin.as_mut(),
            _ => None,
        }
    }

    /// The open stdout or stderr that a handle comes from, or what takes its place in a raised
    /// session.
    pub(crate) fn source(&mut self, handle: Handle) -> Option<&mut Option<Source>> {
        if Side::of(handle) == Some(Side::Slave) {
            return self.raised_source(handle);
        }
        match self.of(handle)? {
            (session, part @ (Part::Stdout | Part::Stderr)) => Some(session.output(part)),
            _ => None,
        }
    }
}
