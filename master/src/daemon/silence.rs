//! A master that says nothing. It may have a lot to do, for one who waits for a connection; or it
//! is stopped or hangs, and then whoever waits is told.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use fakessh_unix::datagram;
use fakessh_unix::process::Stat;
use fakessh_unix::{peer, ready};
use rustix::event::PollFlags;

use super::client::{Client, say};
use super::control::{Envelope, Request};
use crate::json_bytes::JsonBytes;
use crate::runtime_dir::RuntimeDir;

/// Silence after which the master is looked at for the first time.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Time between further looks.
const NEXT_LOOK: Duration = Duration::from_secs(30);

/// How long a master may take to answer a question for which it waits for nobody. Long: a loaded
/// machine is no reason to alarm anybody.
const PROBE: Duration = Duration::from_secs(10);

/// Waits until the master says something on `socket`, or ends. Where it does not because it does
/// nothing at all, that is said once on standard error, with what can be done.
pub(super) fn wait(socket: BorrowedFd<'_>, directory: &RuntimeDir) {
    let mut look = FIRST_LOOK;
    while !is_readable(socket, look) {
        let Some(pid) = peer::credentials(socket).map(|peer| peer.pid) else { return };
        let (state, remedy) = if Stat::of(pid).is_some_and(|stat| stat.is_stopped()) {
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
    ready::wait_for(socket, PollFlags::IN, limit)
}

/// Whether the master answers a question of which it knows the answer at once. One that is gone
/// counts: that is noticed elsewhere.
fn answers(directory: &RuntimeDir) -> bool {
    let Ok(client) = Client::connect(directory) else { return true };
    let request = Envelope {
        version: crate::VERSION.to_owned(),
        environment: Vec::new(),
        directory: JsonBytes::Text("/".to_owned()),
        request: serde_json::json!(Request::List),
    };
    let Ok(bytes) = serde_json::to_vec(&request) else { return true };
    let socket = client.socket();
    datagram::try_send(socket.as_fd(), &bytes, &[]).is_err() || is_readable(socket.as_fd(), PROBE)
}
