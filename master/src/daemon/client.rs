//! The client's side: finds the user's master, starts one if there is none, and makes requests.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fakessh_protocol::failure::Failure;
use fakessh_protocol::message::{Question, Secret};
pub use fakessh_shim::diagnostics::say;
use fakessh_shim::{Program, diagnostics, prompt};
use fakessh_unix::{datagram, peer, ready};
use rustix::event::PollFlags;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::Value;
use thiserror::Error;

use super::liveness;
use super::request::Request;
use crate::control::{self, Envelope, PROTOCOL, Reply};
use crate::runtime_dir::{RuntimeDir, RuntimeDirError};

/// Masters that are started for one client. One that may be idle for a short time only
/// (`FAKESSH_IDLE_EXIT`) has perhaps ended when a client on a slow machine gets to it.
const MOST_STARTS: u32 = 5;

/// Variables that a master has from its starter: where its programs, its configuration and its
/// audit log are.
const KEPT: [&[u8]; 6] =
    [b"HOME", b"PATH", b"USER", b"LOGNAME", b"XDG_CONFIG_HOME", b"XDG_STATE_HOME"];

/// What a master that was started in the background says when it listens.
pub const READY: &[u8] = b"ready\n";

/// Why a request was not served. Its text is one line that says what to do.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The directory for sockets can't be used.
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    /// There is no master, and none was to be started.
    #[error("no master is running")]
    NoMaster,
    /// None could be started.
    #[error("can't start a master: {0}")]
    Start(String),
    /// Somebody else listens where our master should.
    #[error("the master's socket {0} is served by another user's process; remove it")]
    Stranger(PathBuf),
    /// The master said no.
    #[error("{0}")]
    Refused(Failure),
    /// The master went away before it said anything, or said that it ends.
    #[error("the master has ended; try again, or see its log, {0}")]
    Ended(PathBuf),
    /// The master went away, or speaks gibberish.
    #[error("the master did not answer: {0}; see its log, {1}")]
    Lost(String, PathBuf),
}

/// A connection to the user's master.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    directory: RuntimeDir,
}

impl Client {
    /// Connects to the master of a directory.
    ///
    /// # Errors
    /// [`ClientError::NoMaster`] where there is none.
    pub fn connect(directory: &RuntimeDir) -> Result<Client, ClientError> {
        let path = directory.socket();
        let lost =
            |error: Errno| ClientError::Lost(error.to_string(), directory.path().join("log"));
        let kind = SocketType::SEQPACKET;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
                .map_err(lost)?;
        let address = SocketAddrUnix::new(&path).map_err(lost)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Err(ClientError::NoMaster),
            Err(error) => return Err(lost(error)),
        }
        if !peer::is_ours(&socket) {
            return Err(ClientError::Stranger(path));
        }
        Ok(Client { socket, directory: directory.clone() })
    }

    /// Connects to the master of a directory, and starts it in the background if there is none: this
    /// program itself, which must be `fakessh`.
    ///
    /// However many programs do so at once, one master is started.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect_or_start(directory: &RuntimeDir) -> Result<Client, ClientError> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| ClientError::Start(error.to_string()))?;
        Client::connect_or_start_with(directory, &program)
    }

    /// As [`Client::connect_or_start`], with another program to be the master.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect_or_start_with(
        directory: &RuntimeDir,
        program: &Path,
    ) -> Result<Client, ClientError> {
        match Client::connect(directory) {
            Err(ClientError::NoMaster) => {}
            connected => return connected,
        }
        let failed = |error: io::Error| ClientError::Start(error.to_string());
        // Who holds this lock starts one; the others find it when they get the lock.
        let starting = directory.open_file("start").map_err(failed)?;
        while let Err(error) = flock(&starting, FlockOperation::LockExclusive) {
            if error != Errno::INTR {
                return Err(failed(error.into()));
            }
        }
        match Client::connect(directory) {
            Err(ClientError::NoMaster) => {}
            connected => return connected,
        }
        let connect = || Client::connect(directory);
        start_until_there(|| start(directory, program), connect).unwrap_or_else(|| {
            let log = directory.path().join("log");
            let text =
                format!("each one ended at once, {MOST_STARTS} in all; see {}", log.display());
            Err(ClientError::Start(text))
        })
    }

    /// Makes a request of the master of a directory, which is started if there is none.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn call(
        directory: &RuntimeDir,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Client, Value), ClientError> {
        let mut starts = 0;
        loop {
            let client = Client::connect_or_start(directory)?;
            starts += 1;
            match client.request(request, descriptors) {
                // It was just ending, and has not done what was asked for: the next one will.
                Err(ClientError::Ended(_)) if starts < MOST_STARTS => {}
                value => return Ok((client, value?)),
            }
        }
    }

    /// Makes a request, answers questions on the terminal or by `SSH_ASKPASS`, and waits for the
    /// reply.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the master's words, [`ClientError::Ended`] where it went away
    /// without any, [`ClientError::Lost`].
    pub fn request(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Value, ClientError> {
        let variables = std::env::vars_os();
        let environment = variables.map(|(name, value)| ((*name).into(), (*value).into()));
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let request = serde_json::to_value(request).map_err(|error| self.lost(&error))?;
        let envelope = Envelope {
            protocol: PROTOCOL,
            environment: environment.collect(),
            directory: here.as_os_str().into(),
            request,
        };
        let bytes = serde_json::to_vec(&envelope).map_err(|error| self.lost(&error))?;
        match datagram::send(self.socket.as_fd(), &bytes, descriptors) {
            Err(error) if has_ended(&error) => return Err(ClientError::Ended(self.log())),
            sent => sent.map_err(|error| self.lost(&error))?,
        }
        self.reply()
    }

    fn reply(&self) -> Result<Value, ClientError> {
        let mut answered = false;
        loop {
            if !answered {
                let connect = || Some(Client::connect(&self.directory).ok()?.socket);
                liveness::wait(self.socket.as_fd(), connect);
            }
            let reply = match datagram::receive(self.socket.as_fd()) {
                Ok(Some(reply)) => reply,
                Ok(None) if answered => return Err(self.lost(&"it has ended")),
                Ok(None) => return Err(ClientError::Ended(self.log())),
                Err(error) if has_ended(&error) && !answered => {
                    return Err(ClientError::Ended(self.log()));
                }
                Err(error) => return Err(self.lost(&error)),
            };
            match serde_json::from_slice(&reply.payload).map_err(|error| self.lost(&error))? {
                Reply::Done(value) => return Ok(value),
                Reply::Failed(failure) => return Err(ClientError::Refused(failure)),
                Reply::Ending => return Err(ClientError::Ended(self.log())),
                Reply::Notice(notice) => diagnostics::tell(&notice),
                // None of them is said before the request is done.
                Reply::Lost(_) | Reply::Whole(_) => {}
                Reply::Ask { kind, text, hop } => {
                    let question = Reply::question(&kind, text, hop);
                    let answer = ask(&question, self.socket.as_fd());
                    let answer = control::encode_answer(answer.as_ref());
                    match datagram::send(self.socket.as_fd(), &answer, &[]) {
                        // The end is received next.
                        Err(error) if has_ended(&error) => {}
                        sent => sent.map_err(|error| self.lost(&error))?,
                    }
                }
            }
            answered = true;
        }
    }

    /// The connection itself, over which no request was made yet.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    fn lost(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Lost(why.to_string(), self.log())
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Makes the master end, and waits until its process is gone.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn stop(&self) -> Result<(), ClientError> {
        let peer = peer::credentials(&self.socket);
        let process = peer.map(|peer| pidfd_open(peer.pid, PidfdFlags::empty()));
        match self.request(&Request::Stop, &[]) {
            Ok(_) | Err(ClientError::Ended(_)) => {}
            Err(error) => return Err(error),
        }
        // Where it is gone already there is nothing to wait for.
        if let Some(Ok(process)) = process {
            ready::wait(process, PollFlags::IN);
        }
        Ok(())
    }
}

/// Whether an error of a socket says that the master is gone. A connection that it never accepted
/// is reset, and so is one whose request it did not read.
fn has_ended(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

pub(super) fn ask(question: &Question, asker: BorrowedFd<'_>) -> Option<Secret> {
    let environment: Vec<_> = std::env::vars_os()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    prompt::ask(question, &environment, asker)
}

/// Starts masters until one is still there when it is connected to; `None` where none was.
fn start_until_there<T>(
    mut start: impl FnMut() -> Result<(), ClientError>,
    mut connect: impl FnMut() -> Result<T, ClientError>,
) -> Option<Result<T, ClientError>> {
    (0..MOST_STARTS).find_map(|_| match start().and_then(|()| connect()) {
        Err(ClientError::NoMaster) => None,
        connected => Some(connected),
    })
}

/// Starts a master in the background and waits until it listens.
fn start(directory: &RuntimeDir, program: &Path) -> Result<(), ClientError> {
    let failed = |error: io::Error| ClientError::Start(error.to_string());
    // What else is in our environment is ours: the master serves many, and lives on.
    let kept = std::env::vars_os().filter(|(name, _)| {
        let name = name.as_bytes();
        name.starts_with(b"FAKESSH_") || KEPT.contains(&name)
    });
    let kept: Vec<_> = kept.collect();
    let mut master = Command::new(program);
    if Program::named(program.as_os_str()).is_some() {
        // A copy of the program that is named ssh would take itself for ssh.
        master.arg0("fakessh");
    }
    let mut master = master
        .args(["master", "--background"])
        .env_clear()
        .envs(kept)
        .env("FAKESSH_DIR", directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| ClientError::Start(format!("{}: {error}", program.display())))?;
    let mut said = Vec::new();
    if let Some(mut stdout) = master.stdout.take() {
        stdout.read_to_end(&mut said).map_err(failed)?;
    }
    // The master itself is a child of that process, and no child of ours.
    let _ = master.wait();
    if said == READY {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let log = directory.path().join("log");
    Err(ClientError::Start(match said.trim() {
        "" => format!("it ended at once; see {}", log.display()),
        said => said.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::listen;

    /// Connects to masters of which all that come before this one end before they are connected
    /// to, and counts how many were started.
    fn connect_to(lasting: u32) -> (Option<Result<Client, ClientError>>, u32) {
        let base = tempfile::tempdir().unwrap();
        let directory = RuntimeDir::at(base.path().join("d")).unwrap();
        let (mut started, mut master) = (0, None);
        let start = || {
            started += 1;
            let _ = std::fs::remove_file(directory.socket());
            let listener = listen(&directory.socket()).unwrap();
            // One that has ended leaves its socket behind, as one that was killed does.
            master = (started == lasting).then_some(listener);
            Ok(())
        };
        let connected = start_until_there(start, || Client::connect(&directory));
        (connected, started)
    }

    #[test]
    fn a_master_that_ends_before_it_is_connected_to_is_started_anew() {
        for lasting in [1, 3] {
            let (connected, started) = connect_to(lasting);
            assert!(matches!(connected, Some(Ok(_))), "{connected:?}");
            assert_eq!(started, lasting);
        }
    }

    #[test]
    fn masters_that_never_last_are_not_started_for_ever() {
        let (connected, started) = connect_to(0);
        assert!(connected.is_none(), "{connected:?}");
        assert_eq!(started, MOST_STARTS);
    }

    /// What a master does that ends in the moment of a request.
    #[derive(Clone, Copy, Debug)]
    enum Ending {
        /// It does not accept the connection any more.
        Unaccepted,
        /// It does not read the request any more.
        Unread,
        /// It has read the request, and goes away.
        Gone,
        /// It says so.
        Told,
    }

    /// A master that ends so, and one that takes its place.
    fn replaced(last: OwnedFd, directory: &RuntimeDir, ending: Ending) {
        let accept = |listener: &OwnedFd| {
            ready::wait(listener, PollFlags::IN);
            rustix::net::accept_with(listener, SocketFlags::CLOEXEC).unwrap()
        };
        // The next one listens before the last one lets go of whoever asks.
        let next = |last: OwnedFd, connection: Option<OwnedFd>| {
            let path = directory.path().join("next");
            let next = listen(&path).unwrap();
            std::fs::rename(path, directory.socket()).unwrap();
            drop((last, connection));
            next
        };
        let next = if let Ending::Unaccepted = ending {
            ready::wait(&last, PollFlags::IN);
            next(last, None)
        } else {
            let connection = accept(&last);
            ready::wait(&connection, PollFlags::IN);
            if let Ending::Gone | Ending::Told = ending {
                datagram::receive(connection.as_fd()).unwrap().unwrap();
            }
            if let Ending::Told = ending {
                let reply = serde_json::to_vec(&Reply::Ending).unwrap();
                datagram::send(connection.as_fd(), &reply, &[]).unwrap();
            }
            next(last, Some(connection))
        };
        let connection = accept(&next);
        datagram::receive(connection.as_fd()).unwrap().unwrap();
        let reply = serde_json::to_vec(&Reply::Done(Value::from("done"))).unwrap();
        datagram::send(connection.as_fd(), &reply, &[]).unwrap();
    }

    #[test]
    fn a_request_in_the_moment_of_a_masters_end_goes_to_the_next_one() {
        for ending in [Ending::Unaccepted, Ending::Unread, Ending::Gone, Ending::Told] {
            let base = tempfile::tempdir().unwrap();
            let directory = RuntimeDir::at(base.path().join("d")).unwrap();
            let last = listen(&directory.socket()).unwrap();
            std::thread::scope(|scope| {
                let master = scope.spawn(|| replaced(last, &directory, ending));
                let called = Client::call(&directory, &Request::List, &[]);
                assert_eq!(called.map(|(_, value)| value).unwrap(), "done", "{ending:?}");
                master.join().unwrap();
            });
        }
    }
}
