//! The client's side: finds the user's master, starts one if there is none, and makes requests.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use fakessh_protocol::message::Secret;
use fakessh_shim::{datagram, prompt};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::Value;
use thiserror::Error;
use zeroize::Zeroizing;

use super::control::{Answer, Envelope, Reply, Request};
use crate::directory::{Directory, DirectoryError};
use crate::socket::peer_is_ours;

/// What a master that was started in the background says when it listens.
pub const READY: &[u8] = b"ready\n";

/// Why a request was not served. Its text is one line that says what to do.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The directory for sockets can't be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
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
    Refused(String),
    /// The master went away, or speaks gibberish.
    #[error("the master did not answer: {0}; see its log, {1}")]
    Lost(String, PathBuf),
}

/// A connection to the user's master.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    directory: Directory,
}

impl Client {
    /// Connects to the master of a directory.
    ///
    /// # Errors
    /// [`ClientError::NoMaster`] where there is none.
    pub fn connect(directory: &Directory) -> Result<Client, ClientError> {
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
        if !peer_is_ours(socket.as_fd()) {
            return Err(ClientError::Stranger(path));
        }
        Ok(Client { socket, directory: directory.clone() })
    }

    /// Connects to the master of a directory, and starts it in the background if there is none.
    ///
    /// However many programs do so at once, one master is started.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect_or_start(directory: &Directory) -> Result<Client, ClientError> {
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
        start(directory)?;
        Client::connect(directory)
    }

    /// Makes a request, answers questions on the terminal or by `SSH_ASKPASS`, and waits for the
    /// reply.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the master's words, [`ClientError::Lost`].
    pub fn request(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Value, ClientError> {
        let lost = |why: String| ClientError::Lost(why, self.directory.path().join("log"));
        let malformed = |error: serde_json::Error| lost(error.to_string());
        let variables = std::env::vars_os();
        let environment = variables.map(|(name, value)| ((*name).into(), (*value).into()));
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let envelope = Envelope {
            version: crate::VERSION.to_owned(),
            environment: environment.collect(),
            directory: here.as_os_str().into(),
            request: serde_json::to_value(request).map_err(malformed)?,
        };
        let bytes = serde_json::to_vec(&envelope).map_err(malformed)?;
        datagram::send(self.socket.as_fd(), &bytes, descriptors)
            .map_err(|error| lost(error.to_string()))?;
        loop {
            let received = datagram::receive(self.socket.as_fd());
            let reply = match received.map_err(|error| lost(error.to_string()))? {
                Some(reply) => reply,
                None => return Err(lost("it has ended".to_owned())),
            };
            match serde_json::from_slice(&reply.payload).map_err(malformed)? {
                Reply::Done(value) => return Ok(value),
                Reply::Failed(why) => return Err(ClientError::Refused(why)),
                Reply::Notice(text) => eprintln!("fakessh: {text}"),
                Reply::Ask { kind, text } => {
                    let answer = ask(&kind, text);
                    let answer = Answer { answer: answer.map(|secret| secret.0.clone()) };
                    let bytes = Zeroizing::new(serde_json::to_vec(&answer).map_err(malformed)?);
                    datagram::send(self.socket.as_fd(), &bytes, &[])
                        .map_err(|error| lost(error.to_string()))?;
                }
            }
        }
    }

    /// Waits until the master closes the connection.
    pub fn wait_for_end(&self) {
        while let Ok(Some(_)) = datagram::receive(self.socket.as_fd()) {}
    }
}

fn ask(kind: &str, text: String) -> Option<Secret> {
    let environment: Vec<_> = std::env::vars_os()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    prompt::ask(&Reply::question(kind, text), &environment)
}

/// Starts a master in the background and waits until it listens.
fn start(directory: &Directory) -> Result<(), ClientError> {
    let failed = |error: io::Error| ClientError::Start(error.to_string());
    let program = std::env::current_exe().map_err(failed)?;
    let mut master = Command::new(&program)
        .args(["master", "--background"])
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
    if said == READY {
        return Ok(());
    }
    let _ = master.wait();
    let said = String::from_utf8_lossy(&said);
    let log = directory.path().join("log");
    Err(ClientError::Start(match said.trim() {
        "" => format!("it ended at once; see {}", log.display()),
        said => said.to_owned(),
    }))
}
