//! A TCP connection as a session's program: a child of ours without a file of its own, which dies
//! with the session like any other. It is forked and executes nothing, so it needs no `/proc`.
//!
//! `resolve` turns the name of a host into addresses, and `relay` moves the bytes.

mod relay;
mod resolve;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fakessh_protocol::message::Refusal;
use rustix::process::getpid;

use super::launcher::Launcher;
use super::spawn::{Program, refusal};
use crate::{child, pipe, sys};

/// How long an address may take to answer if there is another to try: one family of addresses
/// often leads nowhere. The last address has as long as the kernel gives it, or the invoker waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Status of a connection that failed.
const FAILED: i32 = 1;

/// Starts a process that connects, and then moves bytes both ways.
///
/// # Errors
/// If there can be no process. Why there is no connection, the process says.
pub(super) fn start(launcher: &Launcher, host: &str, port: u16) -> Result<Program, Refusal> {
    let name =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    fork(launcher, host, port, &name)
        .map_err(|error| refusal(&error, &format!("a connection to {name}"), 0))
}

fn fork(launcher: &Launcher, host: &str, port: u16, name: &str) -> io::Result<Program> {
    let (child_stdin, stdin) = pipe::to_child()?;
    let (stdout, child_stdout) = pipe::from_child()?;
    let (stderr, child_stderr) = pipe::from_child()?;
    let parent = getpid();
    let Some(pid) = sys::fork()? else {
        let stdio = [child_stdin, child_stdout, child_stderr];
        let set_up = || {
            sys::default_dispositions();
            sys::set_up_child(parent, launcher.child_setup())?;
            child::take_stdio(&stdio)
        };
        let status = match set_up() {
            Ok(()) => serve(host, port, name),
            Err(_) => FAILED,
        };
        std::process::exit(status);
    };
    let pidfd = child::pidfd(pid)?;
    Ok(Program { pid, pidfd, stdin, stdout, stderr: Some(stderr), helper: None })
}

/// The child's whole life. Returns its exit status.
fn serve(host: &str, port: u16, name: &str) -> i32 {
    let result = connect(host, port)
        .and_then(|socket| relay::relay(&socket).map_err(|error| without_number(&error)));
    match result {
        Ok(()) => 0,
        Err(reason) => {
            let line = format!("{name}: {reason}\n");
            let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
            FAILED
        }
    }
}

/// Connects to the first of all addresses that answers.
fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let mut addresses = resolve::addresses(host, port)?.into_iter().peekable();
    let mut reason = String::new();
    while let Some(address) = addresses.next() {
        match connect_to(&address, addresses.peek().is_some()) {
            Ok(socket) => return Ok(socket),
            Err(error) => reason = without_number(&error),
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

/// An error as programs print it, without the number that std adds.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
