//! A TCP connection as a session's program: a child of ours without a file of its own, which dies
//! with the session like any other. It is forked and not executed anew: that needs no `/proc`.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use fakessh_protocol::message::Refusal;
use rustix::process::getpid;

use crate::program::launcher::{self, Launcher, Program};
use crate::program::tcp::relay::relay;
use crate::program::tcp::resolve;
use crate::sys;

/// How long an address may take to answer where there is another to try: one family of addresses
/// often leads nowhere. The last one has as long as the kernel gives it, or as whoever waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Status of a connection that failed.
const FAILED: i32 = 1;

impl Launcher {
    /// Starts a process that connects, and then moves bytes both ways.
    ///
    /// # Errors
    /// Where there can be no process. Why there is no connection, the process says.
    pub(crate) fn start_connection(&self, host: &str, port: u16) -> Result<Program, Refusal> {
        let name =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let start = || -> io::Result<Program> {
            let (child_stdin, stdin) = launcher::pipe_to_program()?;
            let (stdout, child_stdout) = launcher::pipe_from_program()?;
            let (stderr, child_stderr) = launcher::pipe_from_program()?;
            let parent = getpid();
            let Some(pid) = sys::fork()? else {
                let stdio = [child_stdin, child_stdout, child_stderr];
                let set_up = || {
                    sys::default_dispositions();
                    sys::set_up_child(parent, self.child_setup())?;
                    settle(&stdio)
                };
                let status = match set_up() {
                    Ok(()) => serve(host, port, &name),
                    Err(_) => FAILED,
                };
                std::process::exit(status);
            };
            let pidfd = launcher::watch_for_end(pid)?;
            Ok(Program { pid, pidfd, stdin, stdout, stderr: Some(stderr), helper_stdio: None })
        };
        start().map_err(|error| launcher::refusal(&error, &format!("a connection to {name}"), 0))
    }
}

/// Makes these the standard descriptors, and closes all others: nothing of the slave's stays open
/// in here, the link least of all.
pub(crate) fn settle([stdin, stdout, stderr]: &[OwnedFd; 3]) -> io::Result<()> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    sys::close_from(3);
    Ok(())
}

/// The child's whole life. Returns its exit status.
fn serve(host: &str, port: u16, name: &str) -> i32 {
    let result = connect(host, port)
        .and_then(|socket| relay(&socket).map_err(|error| without_number(&error)));
    match result {
        Ok(()) => 0,
        Err(reason) => {
            let line = format!("{name}: {reason}\n");
            let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
            FAILED
        }
    }
}

/// Tries all addresses in turn.
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
        TcpStream::connect_timeout(address, PATIENCE)?
    } else {
        TcpStream::connect(address)?
    };
    // What comes in small pieces is somebody's keystrokes. It is no loss where it can't be set.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}

/// An error as programs print it, without the number that std adds.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
