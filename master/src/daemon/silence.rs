//! A master that says nothing. It may have a lot to do, for one who waits for a connection; or it
//! is stopped or hangs, and then whoever waits is told.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use fakessh_shim::datagram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;

use super::client::{Client, say};
use super::control::{Envelope, Request};
use crate::directory::Directory;
use crate::text::Text;

/// Silence after which the master is looked at for the first time.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Time between further looks.
const NEXT_LOOK: Duration = Duration::from_secs(30);

/// How long a master may take to answer a question for which it waits for nobody. Long: a loaded
/// machine is no reason to alarm anybody.
const PROBE: Duration = Duration::from_secs(10);

/// Waits until the master says something on `socket`, or ends. Where it does not because it does
/// nothing at all, that is said once on standard error, with what can be done.
pub(super) fn wait(socket: BorrowedFd<'_>, directory: &Directory) {
    let mut look = FIRST_LOOK;
    while !is_readable(socket, look) {
        let pid = socket_peercred(socket).map_or(0, |peer| peer.pid.as_raw_nonzero().get());
        let (state, remedy) = if is_stopped(pid) {
            ("is stopped", format!("continue it (kill -CONT {pid}) or end it (kill -KILL {pid})"))
        } else if !answers(directory) && !is_readable(socket, Duration::ZERO) {
            ("does not answer", format!("wait, or end it (kill -KILL {pid})"))
        } else {
            look = NEXT_LOOK;
            continue;
        };
        return say(&format!("the master (process {pid}) {state}: {remedy}"));
    }
}

/// Whether something came in this time; an end and a failure count.
fn is_readable(socket: BorrowedFd<'_>, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&limit)) {
            Ok(0) => return false,
            Err(Errno::INTR) => {}
            _ => return true,
        }
    }
}

/// Whether a signal has stopped a process (proc(5), stat).
fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name in parentheses, which may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with(['T', 't']))
}

/// Whether the master answers a question of which it knows the answer at once. One that is gone
/// counts: that is noticed elsewhere.
fn answers(directory: &Directory) -> bool {
    let Ok(client) = Client::connect(directory) else { return true };
    let request = Envelope {
        version: crate::VERSION.to_owned(),
        environment: Vec::new(),
        directory: Text::Text("/".to_owned()),
        request: serde_json::json!(Request::List),
    };
    let Ok(bytes) = serde_json::to_vec(&request) else { return true };
    let socket = client.socket();
    datagram::try_send(socket.as_fd(), &bytes, &[]).is_err() || is_readable(socket.as_fd(), PROBE)
}
