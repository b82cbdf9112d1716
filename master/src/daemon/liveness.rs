//! Whether a silent master is alive. It may be busy with the connection that the client waits for;
//! but if it is stopped or hangs, the person is told.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use fakessh_shim::diagnostics::say;
use fakessh_unix::datagram;
use fakessh_unix::process::Stat;
use fakessh_unix::{peer, ready};
use rustix::event::PollFlags;

use super::request::Request;
use crate::control::{Envelope, PROTOCOL};
use crate::json_bytes::JsonBytes;

/// How long the master may be silent before this looks at it for the first time.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Time between further looks.
const NEXT_LOOK: Duration = Duration::from_secs(30);

/// How long a master may take to answer a question that it can answer at once. Long, because a
/// loaded machine is no reason to alarm anybody.
const PROBE: Duration = Duration::from_secs(10);

/// Waits until the master says something on `socket`, or ends. If the master does nothing at all,
/// this says so once on standard error, with what can be done. `connect` makes another connection
/// to the master, to ask it for a sign of life.
pub(super) fn wait(socket: BorrowedFd<'_>, connect: impl Fn() -> Option<OwnedFd>) {
    let mut look = FIRST_LOOK;
    while !is_readable(socket, look) {
        let Some(pid) = peer::credentials(socket).map(|peer| peer.pid) else { return };
        let (state, remedy) = if Stat::of(pid).is_some_and(|stat| stat.is_stopped()) {
            ("is stopped", format!("continue it (kill -CONT {pid}) or end it (kill -KILL {pid})"))
        } else if !connect().is_none_or(answers) && !is_readable(socket, Duration::ZERO) {
            ("does not answer", format!("wait, or end it (kill -KILL {pid})"))
        } else {
            look = NEXT_LOOK;
            continue;
        };
        return say(&format!("the master (process {pid}) {state}: {remedy}"));
    }
}

/// Whether the socket has something to read within this time. Its end and its failure count.
fn is_readable(socket: BorrowedFd<'_>, limit: Duration) -> bool {
    ready::wait_for(socket, PollFlags::IN, limit)
}

/// Whether the master answers a question that it can answer at once. A master that is gone counts
/// as alive here: the client notices that on its own connection.
fn answers(socket: OwnedFd) -> bool {
    let request = Envelope {
        protocol: PROTOCOL,
        environment: Vec::new(),
        directory: JsonBytes::Text("/".to_owned()),
        request: serde_json::json!(Request::List),
    };
    let Ok(bytes) = serde_json::to_vec(&request) else { return true };
    datagram::try_send(socket.as_fd(), &bytes, &[]).is_err() || is_readable(socket.as_fd(), PROBE)
}
