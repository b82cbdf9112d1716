//! A reverse session: a tool has called `ssh` here, and the master starts the program elsewhere. Or
//! a connection has come in, and the master connects elsewhere.
//!
//! It is a session turned round. The shim's standard input is read and sent; bytes that come for
//! its standard output and error are written. Towards the link the bytes always go through a pipe
//! of our own. From the link they go into the shim's pipe, opened anew, or into a pipe of our own
//! that a copier empties. The shim hears of the session's end when the last byte is where it
//! belongs.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::failure::Failure;
use fakessh_protocol::handles::{SessionHandles, Stream};
use fakessh_protocol::message::{FromShim, ToMaster, ToShim};
use fakessh_protocol::mux::Mux;
use fakessh_protocol::wire::Handle;
use fakessh_unix::datagram;
use fakessh_unix::ready::has_hung_up;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{Shutdown, shutdown};

use super::copier::{CopierEnd, Copiers};
use super::shim_stdio::ShimStdio;
use crate::io::Io;
use crate::poll::{Interest, Poll, Ready, ReversePart, Watched};
use crate::session::{Sink, Source};

/// Handoffs, or messages of one shim, that are taken before others have their turn.
pub(super) const TURN: usize = 16;

/// Most bytes of messages that may wait for the link. With more, nothing is received that would
/// add messages; the link's own traffic is far below that.
const BACKLOG: usize = 256 * 1024;

/// Most messages that wait for a shim that takes none. Such a shim is stopped, and the session is
/// given up.
const MAX_UNSENT: usize = 64;

/// A reverse session.
#[derive(Debug)]
pub(super) struct ReverseSession {
    /// The control handle of the tool's session, or of what is listened on.
    tool: Handle,
    handles: SessionHandles,
    invoker: Invoker,
    /// Messages that the shim had no room for.
    unsent: VecDeque<ToShim>,
    stdio: ShimStdio,
    phase: Phase,
    /// Why bytes are missing at our end. This outcome takes the place of any other.
    failure: Option<String>,
}

/// Who the session is for.
#[derive(Debug)]
pub(super) enum Invoker {
    /// A shim, by its socket.
    Shim(Watched),
    /// A connection that came in. Its socket stands for standard input and output.
    Peer(OwnedFd),
}

impl Invoker {
    /// A connection that came in. Until its session has come to a good end, closing the socket is a
    /// reset, whoever closes it: the peer must not take what it got for the whole, also if we are
    /// killed.
    pub(super) fn peer(socket: OwnedFd) -> io::Result<Invoker> {
        set_socket_linger(&socket, Some(Duration::ZERO))?;
        Ok(Invoker::Peer(socket))
    }
}

/// How far a session has come.
#[derive(Debug)]
enum Phase {
    /// The master has not said how the program ended.
    Running,
    /// The program has ended. The shim hears of it when all output is written.
    Ending(ExitStatus),
    /// The last message for the shim says how the program ended. The session is over when the shim
    /// has taken it.
    Ended,
    /// The last message for the shim says why the session failed. Its streams stay open until the
    /// shim is gone: a tool that sees an end before its `ssh` has said why may kill it.
    Failed,
}

/// What becomes of a session.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Fate {
    GoesOn,
    /// Its shim may have more messages, and is not to be listened to while too much waits for the
    /// link.
    Pauses,
    /// The session is to be removed.
    Over,
}

/// Whether so many messages wait for the link that none may be added.
pub(super) fn is_backlogged(mux: &Mux) -> bool {
    mux.queued() >= BACKLOG
}

impl ReverseSession {
    pub(super) fn new(
        tool: Handle,
        handles: SessionHandles,
        invoker: Invoker,
        stdio: ShimStdio,
    ) -> ReverseSession {
        let unsent = VecDeque::new();
        let phase = Phase::Running;
        ReverseSession { tool, handles, invoker, unsent, stdio, phase, failure: None }
    }

    /// The master knows of the session. A shim without input is at its end already.
    pub(super) fn begin(&mut self, io: &mut Io) {
        if self.stdio.stdin.has_ended() {
            io.mux.finish(self.handles.stdin);
        }
    }

    /// The control handle of the tool's session.
    pub(super) fn tool(&self) -> Handle {
        self.tool
    }

    pub(super) fn sink(&mut self, stream: Stream) -> Option<&mut Sink> {
        match stream {
            Stream::Stdin => None,
            Stream::Stdout => Some(&mut self.stdio.stdout),
            Stream::Stderr => Some(&mut self.stdio.stderr),
        }
    }

    pub(super) fn source(&mut self, stream: Stream) -> Option<&mut Source> {
        (stream == Stream::Stdin).then_some(&mut self.stdio.stdin)
    }

    /// Listens to the shim, or no more. Returns whether that is possible.
    pub(super) fn listen(&mut self, poll: &Poll, interest: Interest) -> bool {
        let interest = match interest {
            Interest::Read if !self.unsent.is_empty() => Interest::Both,
            Interest::Nothing if !self.unsent.is_empty() => Interest::Write,
            interest => interest,
        };
        match &mut self.invoker {
            Invoker::Shim(shim) => shim.watch(poll, interest).is_ok(),
            Invoker::Peer(_) => false,
        }
    }

    /// A descriptor of the session is ready. How large a pipe may become depends on how many
    /// `sessions` there are.
    pub(super) fn ready(
        &mut self,
        io: &mut Io,
        copiers: &Copiers,
        part: ReversePart,
        ready: Ready,
        sessions: usize,
    ) -> Fate {
        match part {
            ReversePart::Shim => self.shim_ready(io, copiers, ready),
            ReversePart::Stream(stream) => {
                if let Some(source) = self.source(stream) {
                    source.offer(io, sessions);
                    if ready.ended {
                        source.end();
                        self.finish_stdin(io, copiers);
                    }
                    return Fate::GoesOn;
                }
                if let Some(sink) = self.sink(stream) {
                    if ready.ended {
                        sink.cut(io);
                    } else if ready.writable {
                        sink.drain(io);
                    }
                }
                self.settle(io, copiers)
            }
            // A copier is reaped before its session hears of it.
            ReversePart::Copier(_) => Fate::GoesOn,
        }
    }

    /// Ends the stream from the shim's standard input, if all of it came. The copier ends with a
    /// status, after its pipe: only then it is known whether all bytes came.
    fn finish_stdin(&mut self, io: &mut Io, copiers: &Copiers) {
        if self.stdio.stdin.has_ended() && !copiers.copies(self.handles.control, Stream::Stdin) {
            io.mux.finish(self.handles.stdin);
        }
    }

    /// The copier of a stream has ended.
    pub(super) fn copier_ended(
        &mut self,
        io: &mut Io,
        copiers: &Copiers,
        stream: Stream,
        end: CopierEnd,
    ) -> Fate {
        if let CopierEnd::Failed(error) = end {
            // We kill the copier of a standard input that the master has stopped: no failure.
            if stream != Stream::Stdin || io.mux.is_sending(self.handles.stdin) {
                let what = match stream {
                    Stream::Stdin => "reading standard input",
                    Stream::Stdout => "writing standard output",
                    Stream::Stderr => "writing standard error",
                };
                self.failure.get_or_insert_with(|| format!("{what}: {error}"));
            }
            if let Some(source) = self.source(stream) {
                source.cut(io);
            }
        }
        if let (Invoker::Peer(socket), Stream::Stdout, CopierEnd::Whole) =
            (&self.invoker, stream, end)
        {
            // The peer reads the end, and may go on sending.
            let _ = shutdown(socket, Shutdown::Write);
        }
        match self.sink(stream) {
            None => {
                self.finish_stdin(io, copiers);
                Fate::GoesOn
            }
            Some(sink) => {
                if !sink.is_closed() {
                    sink.cut(io);
                }
                self.settle(io, copiers)
            }
        }
    }

    /// The master wants no more of the shim's standard input: who writes there notices it.
    pub(super) fn stdin_unwanted(&mut self, copiers: &Copiers) {
        if !matches!(self.phase, Phase::Failed) {
            self.close_stdin(copiers);
        }
    }

    fn close_stdin(&mut self, copiers: &Copiers) {
        self.stdio.stdin.close();
        copiers.kill(self.handles.control, Stream::Stdin);
    }

    /// The master has a message for the shim.
    pub(super) fn tell(&mut self, io: &mut Io, copiers: &Copiers, message: ToShim) -> Fate {
        if !matches!(self.phase, Phase::Running) {
            return Fate::GoesOn;
        }
        let SessionHandles { stdin, stdout, stderr, .. } = self.handles;
        match message {
            ToShim::Exited(status) => {
                io.mux.reset(stdin);
                self.close_stdin(copiers);
                for sink in [&mut self.stdio.stdout, &mut self.stdio.stderr] {
                    sink.end();
                }
                io.mux.stop(stdout);
                io.mux.stop(stderr);
                self.phase = Phase::Ending(status);
                self.settle(io, copiers)
            }
            ToShim::Failed(failure) => self.end_early(io, copiers, failure),
            // We can't decide for the real ssh here: the descriptors are in use.
            ToShim::RealSsh { why, .. } => self.end_early(io, copiers, Failure::other(why)),
            message => self.send(io, copiers, message),
        }
    }

    /// Tells the shim how the program ended, if it has and all output is written.
    pub(super) fn settle(&mut self, io: &mut Io, copiers: &Copiers) -> Fate {
        let Phase::Ending(status) = self.phase else { return Fate::GoesOn };
        let control = self.handles.control;
        let is_written = self.stdio.stdout.is_closed()
            && self.stdio.stderr.is_closed()
            && !copiers.copies(control, Stream::Stdout)
            && !copiers.copies(control, Stream::Stderr);
        if !is_written {
            return Fate::GoesOn;
        }
        match self.failure.take() {
            Some(failure) => self.fail(io, copiers, Failure::other(failure)),
            None => {
                self.phase = Phase::Ended;
                self.send(io, copiers, ToShim::Exited(status))
            }
        }
    }

    /// The session failed on the master's side: nothing more is read or written.
    fn end_early(&mut self, io: &mut Io, copiers: &Copiers, failure: Failure) -> Fate {
        let SessionHandles { stdin, stdout, stderr, .. } = self.handles;
        io.mux.reset(stdin);
        io.mux.stop(stdout);
        io.mux.stop(stderr);
        self.fail(io, copiers, failure)
    }

    /// Tells the shim why the session failed. This does not wait for output to be written: its
    /// reader may never read.
    fn fail(&mut self, io: &mut Io, copiers: &Copiers, why: Failure) -> Fate {
        self.phase = Phase::Failed;
        self.stdio.stdin.freeze(&io.poll);
        self.stdio.stdout.freeze(&io.poll);
        self.stdio.stderr.freeze(&io.poll);
        if let Invoker::Peer(_) = &self.invoker {
            return self.leave(io, copiers);
        }
        let why = self.failure.take().map_or(why, Failure::other);
        self.send(io, copiers, ToShim::Failed(why))
    }

    /// Sends a message to the shim, as soon as it has room.
    fn send(&mut self, io: &mut Io, copiers: &Copiers, message: ToShim) -> Fate {
        self.unsent.push_back(message);
        if self.unsent.len() > MAX_UNSENT {
            return self.leave(io, copiers);
        }
        self.send_unsent(io, copiers)
    }

    fn send_unsent(&mut self, io: &mut Io, copiers: &Copiers) -> Fate {
        let shim = match &mut self.invoker {
            Invoker::Shim(shim) => shim,
            Invoker::Peer(socket) => {
                self.unsent.clear();
                if !matches!(self.phase, Phase::Ended) {
                    return Fate::GoesOn;
                }
                let _ = set_socket_linger(socket, None);
                return Fate::Over;
            }
        };
        while let Some(message) = self.unsent.front() {
            match datagram::try_send_message(shim.as_fd(), message, &[]) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let watched = shim.watch(&io.poll, Interest::Both);
                    return if watched.is_ok() { Fate::GoesOn } else { self.leave(io, copiers) };
                }
                Err(_) => return self.leave(io, copiers),
            }
        }
        if matches!(self.phase, Phase::Ended) {
            Fate::Over
        } else if shim.watch(&io.poll, Interest::Read).is_err() {
            self.leave(io, copiers)
        } else {
            Fate::GoesOn
        }
    }

    /// The shim has sent something, or is gone.
    fn shim_ready(&mut self, io: &mut Io, copiers: &Copiers, ready: Ready) -> Fate {
        if ready.writable && self.send_unsent(io, copiers) == Fate::Over {
            return Fate::Over;
        }
        let Invoker::Shim(shim) = &self.invoker else { return Fate::GoesOn };
        for _ in 0..TURN {
            if is_backlogged(&io.mux) {
                return Fate::Pauses;
            }
            match datagram::try_receive_message::<FromShim>(shim.as_fd()) {
                Ok(Some((message, _))) => {
                    if let Phase::Running = self.phase {
                        // No shim has a message that is too large to be passed on.
                        let message = ToMaster::FromShim(message);
                        let _ = io.mux.message(self.handles.control, &message);
                    }
                }
                Ok(None) if has_hung_up(shim) => return self.leave(io, copiers),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(_) => return self.leave(io, copiers),
            }
        }
        Fate::GoesOn
    }

    /// Ends the session for a reason of ours. It is to be removed.
    pub(super) fn give_up(&mut self, io: &mut Io, copiers: &Copiers, reason: &str) -> Fate {
        let message = ToShim::Failed(Failure::other(reason));
        if let Invoker::Shim(shim) = &self.invoker {
            let _ = datagram::try_send_message(shim.as_fd(), &message, &[]);
        }
        self.leave(io, copiers)
    }

    /// The shim is gone, and the session with it.
    fn leave(&mut self, io: &mut Io, copiers: &Copiers) -> Fate {
        let SessionHandles { control, stdin, stdout, stderr } = self.handles;
        if let Phase::Running = self.phase {
            let _ = io.mux.message(control, &ToMaster::Gone);
        }
        io.mux.reset(stdin);
        io.mux.stop(stdout);
        io.mux.stop(stderr);
        copiers.kill_session(control);
        Fate::Over
    }
}
