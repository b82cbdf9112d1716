//! One session as the shim sees it: hand over, then wait.
//!
//! The bytes of the session never pass through here: the master has our standard input, output
//! and error. What is left is to answer questions, to pass signals on, to relay a terminal's
//! input (a terminal belongs to our job and must be read from here), and to exit as the program
//! did.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};

use fakessh_protocol::exit::TRANSPORT_FAILURE;
use fakessh_protocol::invocation::Request;
use fakessh_protocol::message::{FromShim, Handoff, Notice, RealWords, ToShim};

use crate::diagnostics::{Diagnostics, say};
use crate::parse::{Argv, CommandLine, Local, current_environment};
use crate::prompt;
use crate::real;
use crate::sys::{self, Fork};
use fakessh_unix::datagram;

mod relay;
mod started;

use relay::{Relay, Wake};
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
pub fn run(command_line: CommandLine, socket: OwnedFd) -> u8 {
    let diagnostics = match Diagnostics::open(&command_line.local) {
        Ok(diagnostics) => diagnostics,
        Err(text) => {
            say(&text);
            return TRANSPORT_FAILURE;
        }
    };
    for notice in &command_line.local.notices {
        diagnostics.notice(&Notice::ours(notice));
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
    /// The command line, for the real `ssh`.
    argv: Argv,
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

    let (state, input) = if local.null_stdin {
        (Input::HandedOver, null.try_clone().map_err(failed)?)
    } else if stdin().is_terminal()
        && invocation.unserved.is_none()
        && invocation.request != Request::Configuration
    {
        let (relay, input) = Relay::new(stdin()).map_err(failed)?;
        invocation.announce = true;
        (Input::Untouched(relay), input)
    } else {
        // What is not served may come back for the real ssh, with all that was typed meanwhile.
        (Input::HandedOver, stdin().try_clone_to_owned().map_err(failed)?)
    };

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
    let Local { background, .. } = local;
    Ok(Session { near, input: state, local_command, background, argv })
}

impl Session {
    fn wait(mut self, diagnostics: &Diagnostics) -> u8 {
        loop {
            if let Input::Relayed(relay) = &mut self.input {
                match relay.step(self.near.as_fd()) {
                    Wake::Message => {}
                    Wake::Input => continue,
                    Wake::Ended => self.input = Input::HandedOver,
                }
            }
            let (message, descriptors) =
                match datagram::receive_message::<ToShim>(self.near.as_fd()) {
                    Ok(Some(received)) => received,
                    Ok(None) => {
                        diagnostics.failed(
                            "its master has ended, and the session with it; run it again, and a \
                             tool with `fakessh run`",
                        );
                        return TRANSPORT_FAILURE;
                    }
                    Err(error) => {
                        diagnostics.failed(&format!("cannot understand the master: {error}"));
                        return TRANSPORT_FAILURE;
                    }
                };
            match message {
                ToShim::Ask(question) => {
                    let answer = prompt::ask(&question, &current_environment(), self.near.as_fd());
                    answered(self.near.as_fd(), answer);
                }
                ToShim::Notice(notice) => diagnostics.notice(&notice),
                ToShim::Started => {
                    if let Err(error) = self.started(diagnostics) {
                        diagnostics.failed(&format!("cannot go to the background: {error}"));
                        return TRANSPORT_FAILURE;
                    }
                }
                ToShim::Exited(status) => return status.shell_code(),
                ToShim::Failed(failure) => {
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
    fn started(&mut self, diagnostics: &Diagnostics) -> io::Result<()> {
        self.input = match std::mem::replace(&mut self.input, Input::HandedOver) {
            Input::Untouched(relay) => Input::Relayed(relay),
            input => input,
        };
        if let Some(command) = self.local_command.take() {
            command.run(diagnostics);
        }
        if self.background {
            self.background = false;
            match sys::fork()? {
                Fork::Parent => std::process::exit(0),
                Fork::Child => {
                    rustix::process::setsid()?;
                    if !diagnostics.needs_stderr() {
                        // A caller that reads our standard error to its end goes on.
                        dup2_stderr(stdin())?;
                    }
                }
            }
        }
        Ok(())
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

/// Sends an answer. A master that has gone is noticed at the next receive.
fn answered(socket: BorrowedFd<'_>, answer: Option<fakessh_protocol::message::Secret>) {
    datagram::send_message(socket, &FromShim::Answer(answer), &[]).unwrap_or(());
}
