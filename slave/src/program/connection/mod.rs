//! A connection as a session's program: a child of ours without a file of its own, which dies with
//! the session like any other. It is forked and executes nothing, so it needs no `/proc`.
//!
//! `resolve` turns the name of a host into addresses, `relay` moves the bytes, and `reporter` says
//! how the connection stands.

mod relay;
mod reporter;
mod resolve;

use std::ffi::OsStr;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::{Connection, Peer, ProgramSetup, Refusal};
use fakessh_unix::without_number;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::getpid;

use super::launcher::Launcher;
use super::spawn::{Program, ProgramStdio, refusal};
use crate::{child, pipe, sys};

use reporter::Reporter;

/// How long an address may take to answer if there is another to try: one family of addresses
/// often leads nowhere. The last address has as long as the kernel gives it, or the invoker waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Status of a connection that failed.
const FAILED: i32 = 1;

/// Starts a process that connects, and then moves bytes both ways.
///
/// # Errors
/// If there can be no process. Why there is no connection, the process says.
pub(super) fn start(launcher: &Launcher, connection: &Connection) -> Result<Program, Refusal> {
    fork(launcher, connection)
        .map_err(|error| refusal(&error, &format!("a connection to {}", connection.peer), 0))
}

fn fork(launcher: &Launcher, connection: &Connection) -> io::Result<Program> {
    let (child_stdin, stdin) = pipe::to_child()?;
    let (stdout, child_stdout) = pipe::from_child()?;
    let (stderr, child_stderr) = pipe::from_child()?;
    let parent = getpid();
    let child_setup = launcher.child_setup(&ProgramSetup::default());
    let Some(pid) = sys::fork()? else {
        let stdio = [child_stdin, child_stdout, child_stderr];
        let set_up = || {
            sys::default_dispositions();
            sys::set_up_child(parent, &child_setup)?;
            child::take_stdio(&stdio)
        };
        let status = match set_up() {
            Ok(()) => serve(connection),
            Err(_) => FAILED,
        };
        std::process::exit(status);
    };
    let pidfd = child::pidfd(pid)?;
    Ok(Program { pid, pidfd, stdin, stdout, stderr: Some(stderr), stdio: ProgramStdio::Pipes })
}

/// The child's whole life. Returns its exit status.
fn serve(connection: &Connection) -> i32 {
    let reporter = Reporter::new(connection);
    let socket = match connect(&connection.peer) {
        Ok(socket) => socket,
        Err(failure) => {
            reporter.failed(&failure);
            return FAILED;
        }
    };
    // If this process is killed, the peer reads a reset. An end of its input would say that it has
    // all. For the next host of a route it makes no difference.
    let resets = |yes: bool| {
        let _ = set_socket_linger(&socket, yes.then_some(Duration::ZERO));
    };
    resets(reporter.is_of_stream());
    reporter.connected();
    match relay::relay(&socket, &reporter) {
        Ok(()) => {
            resets(false);
            0
        }
        Err(error) => {
            reporter.cut(&error);
            FAILED
        }
    }
}

fn connect(peer: &Peer) -> Result<OwnedFd, Failure> {
    match peer {
        Peer::Tcp { host, port } => connect_tcp(host, *port).map(OwnedFd::from),
        Peer::Unix(path) => {
            let socket = UnixStream::connect(OsStr::from_bytes(path));
            socket.map(OwnedFd::from).map_err(|error| failure(&error))
        }
    }
}

/// Connects to the first of all addresses that answers.
fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let unknown = |reason| Failure::new(FailureKind::Resolve, reason);
    let mut addresses = resolve::addresses(host, port).map_err(unknown)?.into_iter().peekable();
    let mut reason = Failure::new(FailureKind::Resolve, "it has no address");
    while let Some(address) = addresses.next() {
        match connect_to(&address, addresses.peek().is_some()) {
            Ok(socket) => return Ok(socket),
            Err(error) => reason = failure(&error),
        }
    }
    Err(reason)
}

fn connect_to(address: &SocketAddr, has_next: bool) -> io::Result<TcpStream> {
    let socket = if has_next {
        TcpStream::connect_timeout(address, ANSWER_TIMEOUT)?
    } else {
        TcpStream::connect(address)?
    };
    // Small pieces are often keystrokes. It is no loss if this can't be set.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}

/// Why nothing was connected to.
fn failure(error: &io::Error) -> Failure {
    let kind = match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => FailureKind::NotFound,
        Some(Errno::ACCESS | Errno::PERM) => FailureKind::Refused,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => FailureKind::Limit,
        _ => FailureKind::Connect,
    };
    Failure::new(kind, without_number(error))
}
