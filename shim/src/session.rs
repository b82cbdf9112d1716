//! One session as the shim sees it: hand over, then wait.
//!
//! The bytes of the session never pass through here: the master has our standard input, output
//! and error. What is left is to answer questions, to pass signals on, to relay a terminal's
//! input (a terminal belongs to our job and must be read from here), and to exit as the program
//! did.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use fakessh_protocol::exit::TRANSPORT_FAILURE;
use fakessh_protocol::invocation::Request;
use fakessh_protocol::message::{FromShim, Handoff, RealWords, Started, ToShim};
use fakessh_protocol::printable;
use fakessh_protocol::terminal::RequestTty;
use fakessh_unix::datagram;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};

use crate::diagnostics::{Diagnostics, say};
use crate::parse::{Argv, CommandLine, Local, current_environment};
use crate::prompt;
use crate::real;
use crate::sys::{self, Fork};

mod escapes;
mod multiplex;
mod passed_through;
mod relay;
mod sockets;
mod started;

use escapes::Escape;
use multiplex::Prepared;
use passed_through::PassedThrough;
use relay::{Relay, Wake};
use sockets::{Connecting, Woken};
use started::LocalCommand;

/// Opens `/dev/null` for each standard descriptor that is closed, so that none of the descriptors
/// that are opened later takes its number. To be called before anything else is opened.
///
/// # Errors
/// Where `/dev/null` can't be opened.
pub fn hold_standard_descriptors() -> io::Result<()> {
    for descriptor in [stdin(), stdout(), stderr()] {
        if rustix::io::fcntl_getfd(descriptor) == Err(rustix::io::Errno::BADF) {
            // The lowest free number is the one that was found closed.
            std::mem::forget(rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty())?);
        }
    }
    Ok(())
}

/// Hands a command line over to the master at the other end of `socket` and waits for its end;
/// returns the status to exit with.
///
/// To be called from the only thread of a process that exits afterwards: it replaces standard
/// input and output by `/dev/null`, handles signals, may go to the background (`-f`) and may
/// become the real `ssh`.
pub fn run(mut command_line: CommandLine, socket: OwnedFd) -> u8 {
    let diagnostics = match Diagnostics::open(&command_line.local) {
        Ok(diagnostics) => diagnostics,
        Err(text) => {
            say(&text);
            return TRANSPORT_FAILURE;
        }
    };
    diagnostics.debug(&format!("version {}, to the master", fakessh_protocol::VERSION));
    if command_line.local.is_master
        && let Prepared::Over(status) = multiplex::prepare(&mut command_line, &socket, &diagnostics)
    {
        return status;
    }
    match hand_over(command_line, socket) {
        Ok(session) => session.wait(&diagnostics),
        Err(text) => {
            diagnostics.failed(&text);
            TRANSPORT_FAILURE
        }
    }
}

/// What becomes of standard input.
enum Input {
    /// The program reads it. Also the input of a terminal that has come to its end.
    HandedOver,
    /// It is a terminal of which nothing was read yet: until the session runs, a question may be
    /// on it, perhaps of another process, and what is typed is the answer.
    Untouched(Relay),
    /// It is a terminal whose input is relayed.
    Relayed(Relay),
}

/// A session that the master knows of.
struct Session {
    /// Our end of the pair over which the master speaks.
    near: OwnedFd,
    input: Input,
    /// What to run once the session runs.
    local_command: Option<LocalCommand>,
    /// Whether to go to the background then.
    background: bool,
    /// Standard input, if it is a terminal that the program reads.
    through: Option<PassedThrough>,
    /// Tells that a terminal may have another size, if this is a master for others.
    windows: Option<OwnedFd>,
    /// Whether the program is on a terminal of its own.
    on_terminal: bool,
    /// The escape character, if the command line says which.
    escape: Option<Option<u8>>,
    /// The destination as it was given, if this is an `ssh`, which says so at its end.
    host: Option<String>,
    /// The command line, for the real `ssh`.
    argv: Argv,
    /// What connects for the forwards of this session.
    connecting: Connecting,
}

/// Sends the handoff and lets go of standard input and output.
fn hand_over(command_line: CommandLine, socket: OwnedFd) -> Result<Session, String> {
    let CommandLine { mut invocation, local, argv } = command_line;
    let failed = |error: io::Error| format!("cannot start a session: {error}");

    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (near, far) = pair.map_err(|error| failed(error.into()))?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.map_err(|error| failed(error.into()))?;
    let local_command = LocalCommand::keep(&local).map_err(failed)?;

    let host = (!invocation.request.is_none_of_ssh()).then(|| invocation.destination.host.clone());
    let mut through = None;
    let (state, input) = if local.null_stdin {
        (Input::HandedOver, null.try_clone().map_err(failed)?)
    } else if stdin().is_terminal()
        && invocation.unserved.is_none()
        && invocation.request != Request::Configuration
    {
        let (relay, input) = Relay::new(stdin()).map_err(failed)?;
        invocation.announce = true;
        let (passed_through, like) = PassedThrough::new(stdin()).map_err(failed)?;
        invocation.terminal = Some(like);
        through = Some(passed_through);
        (Input::Untouched(relay), input)
    } else {
        // What is not served may come back for the real ssh, with all that was typed meanwhile.
        (Input::HandedOver, stdin().try_clone_to_owned().map_err(failed)?)
    };

    // A session on a terminal says its end, also if there is none here.
    invocation.announce |= invocation.request_tty == Some(RequestTty::Force);
    let windows = invocation.multiplex.as_ref().map(|_| sys::report_window_changes());
    let windows = windows.transpose().map_err(failed)?;
    let keeps_only = invocation.request == Request::Nothing;
    sys::report_deaths(
        near.as_fd(),
        |signal| {
            let number = signal.number() as u8;
            datagram::inline_bytes(&FromShim::Signal(number)).unwrap_or_default()
        },
        keeps_only,
    );

    let handoff = Handoff { version: fakessh_protocol::VERSION.to_owned(), invocation };
    let descriptors = [far.as_fd(), input.as_fd(), stdout(), stderr()];
    datagram::send_message(socket.as_fd(), &handoff, &descriptors).map_err(|error| {
        if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            "its master has ended, or the run is over; start it again with `fakessh run`".into()
        } else {
            format!("cannot hand this command over to the master: {error}")
        }
    })?;

    // Only the master holds them now, so that the end of input and a broken pipe reach our
    // neighbours as soon as the program closes its side.
    dup2_stdin(&null).map_err(|error| failed(error.into()))?;
    dup2_stdout(&null).map_err(|error| failed(error.into()))?;
    let Local { background, escape, .. } = local;
    Ok(Session {
        near,
        input: state,
        local_command,
        background,
        through,
        windows,
        on_terminal: false,
        escape,
        host,
        argv,
        connecting: Connecting::default(),
    })
}

impl Session {
    fn wait(mut self, diagnostics: &Diagnostics) -> u8 {
        loop {
            self.connecting.reap();
            if let Input::Relayed(relay) = &mut self.input {
                match relay.step(self.near.as_fd()) {
                    Wake::Message => {}
                    Wake::Input => continue,
                    Wake::Window => {
                        if let Some(through) = &mut self.through {
                            through.tell_size(self.near.as_fd());
                        }
                        self.tell_window_changed();
                        continue;
                    }
                    Wake::Escape(escape) => {
                        if self.obey(escape).is_break() {
                            self.say_closed(diagnostics);
                            return TRANSPORT_FAILURE;
                        }
                        continue;
                    }
                    Wake::Ended => self.input = Input::HandedOver,
                }
            }
            self.wait_for_message();
            let (message, descriptors) =
                match datagram::receive_message::<ToShim>(self.near.as_fd()) {
                    Ok(Some(received)) => received,
                    Ok(None) => {
                        self.end_terminal();
                        diagnostics.failed(
                            "its master has ended, and the session with it; run it again, and a \
                             tool with `fakessh run`",
                        );
                        return TRANSPORT_FAILURE;
                    }
                    Err(error) => {
                        self.end_terminal();
                        diagnostics.failed(&format!("cannot understand the master: {error}"));
                        return TRANSPORT_FAILURE;
                    }
                };
            match message {
                ToShim::Ask(question) => {
                    let socket = self.near.as_fd();
                    let ask = || prompt::ask(&question, &current_environment(), socket);
                    let answer = aside(&mut self.through, ask);
                    answered(socket, answer);
                }
                ToShim::Notice(notice) => {
                    aside(&mut self.through, || diagnostics.notice(&notice));
                }
                ToShim::Listen(listen) => sockets::listen(self.near.as_fd(), &listen),
                ToShim::Connect(number, peer) => {
                    self.connecting.connect(self.near.as_fd(), number, &peer);
                }
                ToShim::Started(started) => {
                    if let Err(error) = self.started(started, diagnostics) {
                        diagnostics.failed(&format!("cannot go on with the session: {error}"));
                        return TRANSPORT_FAILURE;
                    }
                }
                ToShim::Exited(status) => {
                    self.say_closed(diagnostics);
                    let code = status.shell_code();
                    diagnostics.debug(&format!("exit status {code}"));
                    return code;
                }
                ToShim::Failed(failure) => {
                    self.end_terminal();
                    diagnostics.failed(&failure.message);
                    return TRANSPORT_FAILURE;
                }
                ToShim::RealSsh { why, words } => {
                    diagnostics.debug(&format!("running the real ssh: {why}"));
                    return self.become_real(words, descriptors, diagnostics);
                }
            }
        }
    }

    /// The session runs.
    fn started(&mut self, started: Started, diagnostics: &Diagnostics) -> io::Result<()> {
        self.on_terminal = started.on_terminal;
        self.input = match std::mem::replace(&mut self.input, Input::HandedOver) {
            Input::Untouched(mut relay) => {
                if let Some(through) = self.through.as_mut().filter(|_| started.on_terminal) {
                    let window = through.begin()?;
                    relay.pass_through(self.escape.unwrap_or(started.escape), window);
                    through.tell_size(self.near.as_fd());
                }
                Input::Relayed(relay)
            }
            input => input,
        };
        if started.on_terminal {
            self.tell_showing(true);
        }
        if let Some(command) = self.local_command.take() {
            command.run(diagnostics);
        }
        if self.background {
            self.background = false;
            go_to_background()?;
            if self.windows.is_some() {
                let pid = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
                datagram::send_message(self.near.as_fd(), &FromShim::Background(pid), &[])?;
            }
            if !diagnostics.needs_stderr() {
                // A caller that reads our standard error to its end goes on.
                dup2_stderr(stdin())?;
            }
        }
        Ok(())
    }

    /// Waits for a message, and tells meanwhile that terminals may have other sizes.
    fn wait_for_message(&mut self) {
        while let Woken::Window = self.connecting.wait(self.near.as_fd(), self.windows.as_ref()) {
            self.tell_window_changed();
        }
    }

    /// Tells the master whether output may go to our terminal.
    fn tell_showing(&self, shows: bool) {
        let _ = datagram::send_message(self.near.as_fd(), &FromShim::Showing(shows), &[]);
    }

    /// Tells the master that a terminal may have another size, if others use this session.
    fn tell_window_changed(&self) {
        if self.windows.is_some() {
            let _ = datagram::send_message(self.near.as_fd(), &FromShim::WindowChanged, &[]);
        }
    }

    /// Does what the person asks for, or breaks off if that is to end the session.
    fn obey(&mut self, escape: Escape) -> ControlFlow<()> {
        let Input::Relayed(relay) = &mut self.input else { return ControlFlow::Continue(()) };
        let character = relay.escape_character().map(escapes::shown).unwrap_or_default();
        // The terminal is raw.
        let show = |text: String| {
            let _ = io::stderr().write_all(text.as_bytes());
        };
        match escape {
            Escape::Disconnect => {
                show(format!("{character}.\r\n"));
                return ControlFlow::Break(());
            }
            Escape::Suspend => {
                show(format!("{character}^Z [suspend fakessh]\r\n"));
                self.tell_showing(false);
                sys::suspend();
                self.tell_showing(true);
            }
            Escape::Background => {
                show(format!("{character}& [backgrounded]\r\n"));
                relay.end();
                self.end_terminal();
                // If there is no process left for it, the program is waited for here.
                let _ = go_to_background();
                self.input = Input::HandedOver;
            }
            Escape::Forwards => {
                show(format!("{character}#\r\n`fakessh forward` lists what is forwarded.\r\n"));
            }
            // A pseudo-terminal has no line that could be broken.
            Escape::Break => show(format!("{character}B [sent break]\r\n")),
            Escape::Help => show(format!("{character}?\r\n{}", escapes::help(&character))),
        }
        ControlFlow::Continue(())
    }

    /// The terminal is as it was before the session.
    fn end_terminal(&mut self) {
        if let Some(through) = &mut self.through {
            through.end();
        }
    }

    /// Says that a session on a terminal is over, as ssh does.
    fn say_closed(&mut self, diagnostics: &Diagnostics) {
        self.end_terminal();
        if let Some(host) = self.host.as_ref().filter(|_| self.on_terminal) {
            let host = printable::word(host, printable::MAX_LINE);
            diagnostics.plain(&format!("Connection to {host} closed.\r\n"));
        }
    }

    /// Takes the descriptors back and runs the real `ssh` in our place.
    fn become_real(
        self,
        words: RealWords,
        descriptors: Vec<OwnedFd>,
        diagnostics: &Diagnostics,
    ) -> u8 {
        let Ok([input, output, error]) = <[OwnedFd; 3]>::try_from(descriptors) else {
            diagnostics.failed("the master did not give our descriptors back");
            return TRANSPORT_FAILURE;
        };
        // Of a terminal all is there still: the pipe beside it is empty.
        let stdin = match &self.input {
            Input::Untouched(relay) => relay.terminal(),
            Input::Relayed(_) | Input::HandedOver => input.as_fd(),
        };
        let back = dup2_stdin(stdin)
            .and_then(|()| dup2_stdout(&output))
            .and_then(|()| dup2_stderr(&error));
        if let Err(error) = back {
            diagnostics.failed(&format!("cannot take our descriptors back: {error}"));
            return TRANSPORT_FAILURE;
        }
        drop((self.near, self.input, input, output, error));
        let text = |words: Vec<Vec<u8>>| words.into_iter().map(OsString::from_vec);
        real::ssh(&match words {
            RealWords::With(options) => self.argv.with_options(text(options).collect()),
            RealWords::These(words) => {
                self.argv.words().iter().take(1).cloned().chain(text(words)).collect()
            }
        })
    }
}

/// Does something with the terminal as it was before the session.
fn aside<T>(through: &mut Option<PassedThrough>, work: impl FnOnce() -> T) -> T {
    match through {
        Some(through) => through.aside(work),
        None => work(),
    }
}

/// Goes on as a process in the background. The one that the caller waits for exits with 0.
fn go_to_background() -> io::Result<()> {
    match sys::fork()? {
        Fork::Parent(_) => std::process::exit(0),
        Fork::Child => rustix::process::setsid().map(|_| ()).map_err(io::Error::from),
    }
}

/// Sends an answer. A master that has gone is noticed at the next receive.
fn answered(socket: BorrowedFd<'_>, answer: Option<fakessh_protocol::message::Secret>) {
    datagram::send_message(socket, &FromShim::Answer(answer), &[]).unwrap_or(());
}
