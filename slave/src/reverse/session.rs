//! Sessions that we raise: a tool has called `ssh` here, and we are the invoker's side.
//!
//! They are the others turned round. The shim's standard input is read and sent; what comes for
//! its standard output and error is written to them. The same code moves the bytes: towards the
//! link always out of a pipe of our own, from the link into the shim's pipe, opened anew, or into
//! one of our own that a copier empties. The shim hears of the session's end when the last byte is
//! where it belongs.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use fakessh_protocol::VERSION;
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{
    FromShim, Handoff, MAX_RAISED, PackedHandoff, Raise, ToMaster, ToShim,
};
use fakessh_protocol::wire::Handle;
use fakessh_unix::datagram;
use fakessh_unix::ready::has_hung_up;

use crate::event_loop::Slave;
use crate::poll::{Interest, Part, Poll, Ready, Token, Watched};
use crate::reverse::copier::CopierEnd;
use crate::reverse::runs::TURN;
use crate::reverse::shim_stdio::{Stdio, take_shims_socket};
use crate::session::{Sessions, Sink, Source};

/// Most messages that wait for a shim that does not take any. It is stopped, and has forgotten us.
const MAX_UNTOLD: usize = 64;

/// A session that was raised, by the number of its control handle in [`Sessions`].
#[derive(Debug)]
pub(crate) struct ReverseSession {
    /// The control handle of the tool's session.
    tool: Handle,
    handles: SessionHandles,
    shim: Watched,
    /// What the shim had no room for.
    untold: VecDeque<ToShim>,
    /// What comes from the shim's standard input.
    source: Option<Source>,
    /// What goes to its standard output and error.
    sinks: [Option<Sink>; 2],
    /// How the session ended. The shim is to hear it when all is written.
    verdict: Option<ToShim>,
    /// Why bytes are missing at our end. It is a worse end than any other.
    failure: Option<String>,
    /// Whether the shim has nothing more to hear than what is untold.
    is_over: bool,
    /// Whether its streams stay open until the shim is gone: it has to say what failed.
    waits_for_shim: bool,
}

/// The session of one of our handles, and what of it the handle is.
fn place(handle: Handle) -> Option<(Handle, Part)> {
    let stream = SessionHandles::stream_of(handle)?;
    Some((SessionHandles::of(handle).control, stream.into()))
}

impl ReverseSession {
    /// What could not be sent must not wake us again before it can.
    pub(crate) fn pause_unsent(&mut self, poll: &Poll) -> io::Result<()> {
        match &mut self.source {
            Some(source) if source.offered > 0 => source.pipe.watch(poll, Interest::Nothing),
            _ => Ok(()),
        }
    }

    /// Moves no more bytes, and closes nothing.
    fn still(&mut self, poll: &Poll) {
        let sinks = self.sinks.iter_mut().flatten().map(|sink| &mut sink.pipe);
        let pipes = self.source.iter_mut().map(|source| &mut source.pipe).chain(sinks);
        for pipe in pipes {
            // Nothing is taken out that is not in.
            let _ = pipe.watch(poll, Interest::Nothing);
        }
    }

    fn sink(&mut self, part: Part) -> &mut Option<Sink> {
        &mut self.sinks[usize::from(part == Part::Stderr)]
    }
}

impl Sessions {
    /// The slot of a raised session's sink.
    pub(crate) fn raised_sink(&mut self, handle: Handle) -> Option<&mut Option<Sink>> {
        match place(handle)? {
            (control, part @ (Part::Stdout | Part::Stderr)) => {
                Some(self.raised.get_mut(&control)?.sink(part))
            }
            _ => None,
        }
    }

    /// The slot of a raised session's source.
    pub(crate) fn raised_source(&mut self, handle: Handle) -> Option<&mut Option<Source>> {
        match place(handle)? {
            (control, Part::Stdin) => Some(&mut self.raised.get_mut(&control)?.source),
            _ => None,
        }
    }

    /// Listens to a raised session's shim, or no more. Says whether there is one.
    pub(crate) fn listen_to_shim(
        &mut self,
        control: Handle,
        interest: Interest,
        poll: &Poll,
    ) -> bool {
        let Some(raised) = self.raised.get_mut(&control) else { return false };
        let interest = match interest {
            Interest::Read if !raised.untold.is_empty() => Interest::Both,
            Interest::Nothing if !raised.untold.is_empty() => Interest::Write,
            interest => interest,
        };
        raised.shim.watch(poll, interest).is_ok()
    }

    /// Whether a tool has raised sessions that are here.
    pub(crate) fn has_raised(&self, tool: Handle) -> bool {
        self.raised.values().any(|raised| raised.tool == tool)
    }

    /// The sessions that a tool has raised.
    pub(crate) fn raised_by(&self, tool: Handle) -> Vec<Handle> {
        let raised = self.raised.iter().filter(|(_, raised)| raised.tool == tool);
        raised.map(|(control, _)| *control).collect()
    }
}

impl Slave {
    /// A shim has handed over: raises its session, or tells it why not.
    pub(crate) fn raise(
        &mut self,
        tool: Handle,
        handoff: Handoff,
        mut descriptors: Vec<OwnedFd>,
        may_begin: bool,
    ) {
        let Some(shim) = take_shims_socket(&mut descriptors) else { return };
        let refuse = |why: String| {
            // One that does not listen sees that its socket is closed.
            let _ = datagram::try_send_message(shim.as_fd(), &ToShim::Failed(why), &[]);
        };
        if handoff.version != VERSION {
            let version = handoff.version;
            return refuse(format!(
                "this ssh is of version {version}, and the one that started the tool of {VERSION}"
            ));
        }
        if !may_begin {
            return refuse(
                "the slave on this host is at its limit of open descriptors; try again when other \
                 sessions have ended"
                    .to_owned(),
            );
        }
        if self.sessions.raised.len() >= MAX_RAISED {
            return refuse(format!("{MAX_RAISED} sessions of tools on this host run already"));
        }
        let Ok(stdio) = <[OwnedFd; 3]>::try_from(descriptors) else {
            return refuse("standard input, output and error did not all arrive".to_owned());
        };
        let handles = self.pick();
        let control = handles.control;
        let begun = self.take_stdio(control, stdio).and_then(|stdio| {
            let shim = shim.try_clone()?;
            let mut shim = Watched::new(shim, Token::Session(control, Part::Shim));
            shim.watch(&self.poll, Interest::Read)?;
            Ok((stdio, shim))
        });
        let begun = begun.map_err(|error| format!("can't start a session on this host: {error}"));
        let begun = begun.and_then(|begun| {
            let why = |error: &dyn std::fmt::Display| format!("can't raise a session: {error}");
            self.announce(tool, handles, handoff).map_err(|error| why(&*error)).map(|()| begun)
        });
        match begun {
            Ok((Stdio { source, sinks }, shim)) => {
                if source.is_none() {
                    self.mux.finish(handles.stdin);
                }
                let raised = ReverseSession {
                    tool,
                    handles,
                    shim,
                    untold: VecDeque::new(),
                    source,
                    sinks,
                    verdict: None,
                    failure: None,
                    is_over: false,
                    waits_for_shim: false,
                };
                self.sessions.raised.insert(control, raised);
            }
            Err(why) => {
                self.copiers.kill_session(control);
                refuse(why);
            }
        }
    }

    /// Opens the session's handles and lets the master know. The handles are closed where that
    /// can't be.
    fn announce(
        &mut self,
        tool: Handle,
        handles: SessionHandles,
        handoff: Handoff,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let handoff = PackedHandoff::pack(&handoff)?;
        let raise = ToMaster::Raise(Box::new(Raise { tool, handles, handoff }));
        let SessionHandles { control, stdin, stdout, stderr } = handles;
        let opened = self
            .mux
            .open_sending(stdin)
            .and_then(|()| self.mux.open_receiving(stdout))
            .and_then(|()| self.mux.open_receiving(stderr));
        let told = match opened {
            Ok(()) => self.mux.message(control, &raise).map_err(Box::from),
            Err(error) => Err(Box::from(error)),
        };
        if told.is_err() {
            [stdin, stdout, stderr].into_iter().for_each(|handle| self.mux.forget(handle));
        }
        told
    }

    /// Something of a raised session is ready.
    pub(crate) fn raised_ready(&mut self, control: Handle, part: Part, ready: Ready) {
        let SessionHandles { stdout, stderr, .. } = SessionHandles::of(control);
        match part {
            Part::Shim => return self.shim_ready(control, ready),
            Part::Stdin => return self.source_ready(control, ready.ended),
            Part::Stdout | Part::Stderr => {
                let handle = if part == Part::Stdout { stdout } else { stderr };
                if ready.ended {
                    self.sink_broke(handle);
                } else if ready.writable {
                    self.drain_sink(handle);
                }
            }
            _ => return self.copier_ready(control, part),
        }
        self.settle_raised(control);
    }

    /// There is something in the pipe from a shim's standard input, or its copier has closed it.
    fn source_ready(&mut self, control: Handle, ended: bool) {
        let sessions = self.sessions.len();
        let Some(raised) = self.sessions.raised.get_mut(&control) else { return };
        let Some(output) = &mut raised.source else { return };
        let stdin = raised.handles.stdin;
        let more = output.discover(sessions);
        if more > 0 {
            self.mux.offer(stdin, more);
        }
        if ended {
            Source::end(&mut raised.source, &self.poll);
            self.end_source(control);
        }
    }

    /// The copier of a shim's standard input ends with a status, after its pipe: only then it is
    /// known whether what came was all.
    fn end_source(&mut self, control: Handle) {
        let Some(raised) = self.sessions.raised.get(&control) else { return };
        let ended = raised.source.as_ref().is_none_or(|source| source.ended);
        if ended && !self.copiers.carries(control, Part::StdinCopier) {
            self.mux.finish(raised.handles.stdin);
        }
    }

    /// A copier has ended.
    pub(crate) fn copier_ready(&mut self, control: Handle, part: Part) {
        let Some(end) = self.copiers.look(control, part) else { return };
        let Some(raised) = self.sessions.raised.get_mut(&control) else { return };
        let SessionHandles { stdin, stdout, stderr, .. } = raised.handles;
        let (handle, what) = match part {
            Part::StdinCopier => (stdin, "reading standard input"),
            Part::StdoutCopier => (stdout, "writing standard output"),
            _ => (stderr, "writing standard error"),
        };
        let is_source = handle == stdin;
        if let CopierEnd::Failed(error) = end {
            // One that was ended because nobody wants more has not failed.
            if !is_source || self.mux.is_sending(stdin) {
                raised.failure.get_or_insert_with(|| format!("{what}: {error}"));
            }
            if is_source {
                raised.source = None;
                self.mux.reset(stdin);
            }
        }
        if is_source {
            self.end_source(control);
        } else {
            if self.sessions.raised_sink(handle).is_some_and(|sink| sink.is_some()) {
                self.sink_broke(handle);
            }
            self.settle_raised(control);
        }
    }

    /// The master wants no more of a shim's standard input: whoever writes there is to notice.
    pub(crate) fn close_raised_source(&mut self, handle: Handle) {
        let Some((control, Part::Stdin)) = place(handle) else { return };
        if let Some(raised) = self.sessions.raised.get_mut(&control)
            && !raised.waits_for_shim
        {
            raised.source = None;
            self.copiers.kill(control, Part::StdinCopier);
        }
    }

    /// All that came for a sink is written, or its reader is gone.
    pub(crate) fn close_raised_sink(&mut self, handle: Handle) {
        let Some((control, part @ (Part::Stdout | Part::Stderr))) = place(handle) else { return };
        if let Some(raised) = self.sessions.raised.get_mut(&control) {
            *raised.sink(part) = None;
            self.settle_raised(control);
        }
    }

    /// The master has something for a shim.
    pub(crate) fn tell(&mut self, control: Handle, message: ToShim) {
        let Some(raised) = self.sessions.raised.get_mut(&control) else { return };
        let verdict = match message {
            _ if raised.verdict.is_some() || raised.is_over => return,
            ToShim::Exited(_) | ToShim::Failed(_) => message,
            // It is none of ours to decide, and the descriptors are in use.
            ToShim::RealSsh { why, .. } => ToShim::Failed(why),
            message => return self.say(control, message),
        };
        let SessionHandles { stdin, stdout, stderr, .. } = raised.handles;
        self.mux.reset(stdin);
        if let ToShim::Failed(_) = verdict {
            raised.verdict = Some(verdict);
            self.mux.stop(stdout);
            self.mux.stop(stderr);
            return self.settle_raised(control);
        }
        raised.verdict = Some(verdict);
        raised.source = None;
        self.copiers.kill(control, Part::StdinCopier);
        for handle in [stdout, stderr] {
            self.mux.stop(handle);
            if let Some(Some(sink)) = self.sessions.raised_sink(handle) {
                sink.ending = true;
                if sink.is_drained() {
                    self.close_raised_sink(handle);
                }
            }
        }
        self.settle_raised(control);
    }

    /// Tells a shim how its session ended, if all is written.
    fn settle_raised(&mut self, control: Handle) {
        let Some(raised) = self.sessions.raised.get_mut(&control) else { return };
        let is_written = raised.sinks.iter().all(Option::is_none)
            && !self.copiers.carries(control, Part::StdoutCopier)
            && !self.copiers.carries(control, Part::StderrCopier);
        match &raised.verdict {
            None => return,
            // What failed is not improved by waiting for a reader that may never read.
            Some(ToShim::Failed(_)) => {}
            Some(_) if !is_written => return,
            Some(_) => {}
        }
        let Some(verdict) = raised.verdict.take() else { return };
        let verdict = match raised.failure.take() {
            Some(failure) => ToShim::Failed(failure),
            None => verdict,
        };
        raised.is_over = true;
        if let ToShim::Failed(_) = verdict {
            // A tool that sees an end before its `ssh` has said why may end it.
            raised.waits_for_shim = true;
            raised.still(&self.poll);
        }
        self.say(control, verdict);
    }

    /// Says something to a shim, as soon as it has room.
    fn say(&mut self, control: Handle, message: ToShim) {
        let Some(raised) = self.sessions.raised.get_mut(&control) else { return };
        raised.untold.push_back(message);
        if raised.untold.len() > MAX_UNTOLD {
            return self.shim_gone(control);
        }
        self.say_untold(control);
    }

    fn say_untold(&mut self, control: Handle) {
        let Some(raised) = self.sessions.raised.get_mut(&control) else { return };
        while let Some(message) = raised.untold.front() {
            match datagram::try_send_message(raised.shim.as_fd(), message, &[]) {
                Ok(()) => drop(raised.untold.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let watched = raised.shim.watch(&self.poll, Interest::Both);
                    return if watched.is_err() {
                        self.shim_gone(control)
                    };
                }
                Err(_) => return self.shim_gone(control),
            }
        }
        if raised.is_over && !raised.waits_for_shim {
            self.forget_raised(control);
        } else if raised.shim.watch(&self.poll, Interest::Read).is_err() {
            self.shim_gone(control);
        }
    }

    /// A shim says something, or has gone.
    fn shim_ready(&mut self, control: Handle, ready: Ready) {
        if ready.writable {
            self.say_untold(control);
        }
        for _ in 0..TURN {
            if self.is_backlogged() {
                return self.pause(Token::Session(control, Part::Shim));
            }
            let Some(raised) = self.sessions.raised.get(&control) else { return };
            match datagram::try_receive_message::<FromShim>(raised.shim.as_fd()) {
                Ok(Some((message, _))) if raised.verdict.is_none() && !raised.is_over => {
                    // What is too large to be passed on is nothing that a shim says.
                    let _ = self.mux.message(control, &ToMaster::Said(message));
                }
                Ok(Some(_)) => {}
                Ok(None) if has_hung_up(&raised.shim) => return self.shim_gone(control),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(_) => return self.shim_gone(control),
            }
        }
    }

    /// A shim has gone: so has the session.
    fn shim_gone(&mut self, control: Handle) {
        let Some(raised) = self.sessions.raised.get(&control) else { return };
        let SessionHandles { stdin, stdout, stderr, .. } = raised.handles;
        if raised.verdict.is_none() && !raised.is_over {
            let _ = self.mux.message(control, &ToMaster::Gone);
        }
        self.mux.reset(stdin);
        self.mux.stop(stdout);
        self.mux.stop(stderr);
        self.copiers.kill_session(control);
        self.forget_raised(control);
    }

    /// Ends a raised session for a reason of ours.
    pub(crate) fn give_up(&mut self, control: Handle, reason: &str) {
        if let Some(raised) = self.sessions.raised.get(&control) {
            let verdict = ToShim::Failed(reason.to_owned());
            let _ = datagram::try_send_message(raised.shim.as_fd(), &verdict, &[]);
            self.shim_gone(control);
        }
    }

    fn forget_raised(&mut self, control: Handle) {
        if let Some(raised) = self.sessions.raised.remove(&control) {
            if self.sessions.raised.is_empty() {
                // What a burst has needed is given back.
                self.sessions.raised.shrink_to_fit();
            }
            self.end_unused_run(raised.tool);
        }
    }
}
