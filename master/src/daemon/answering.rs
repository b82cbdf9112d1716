//! Answers the master's questions while a tool runs. They go to whoever has opened the run, and not
//! to the tool: that one could answer itself.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use fakessh_shim::diagnostics;
use fakessh_unix::datagram;
use serde_json::Value;

use super::client::{Client, ask};
use super::request::RunEnd;
use crate::control::{self, ClientMessage, Reply};
use crate::tool::RunDirectory;

/// How often it is looked whether a question is on the terminal, when the tool has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Answers what the master asks, in a thread of its own.
#[derive(Debug)]
pub struct Answering {
    client: Client,
    /// Whether somebody is just being asked.
    asking: Arc<AtomicBool>,
    done: Receiver<Value>,
}

impl Answering {
    /// Begins to answer, after the request of a run was done. Where the master ends before the
    /// tool does, nobody can call the run any more through `listener`, its directory's socket.
    ///
    /// # Errors
    /// Failures of the system.
    pub fn start(client: Client, listener: &OwnedFd) -> std::io::Result<Answering> {
        let (socket, listener) = (client.socket().try_clone()?, listener.try_clone()?);
        let (sender, done) = mpsc::channel();
        let asking = Arc::new(AtomicBool::new(false));
        let flag = asking.clone();
        std::thread::Builder::new().spawn(move || {
            if let Ending::OfMaster = answer(&socket, &flag, &sender) {
                RunDirectory::end_calls(&listener);
            }
        })?;
        Ok(Answering { client, asking, done })
    }

    /// Says that the tool of a run has ended, and learns what became of the run; `None` if the
    /// master has ended as well.
    pub fn end_of_run(self) -> Option<RunEnd> {
        let ended = serde_json::to_vec(&ClientMessage::Ended).ok()?;
        datagram::send(self.client.socket().as_fd(), &ended, &[]).ok()?;
        loop {
            match self.done.recv_timeout(LOOK) {
                Ok(end) => return serde_json::from_value(end).ok(),
                Err(RecvTimeoutError::Disconnected) => return None,
                // The tool has ended, and nobody waits for the answer. The directory is left to the
                // master.
                Err(RecvTimeoutError::Timeout) if self.asking.load(Ordering::Acquire) => {
                    return Some(RunEnd { is_held: true, was_called: true });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// What there is no more to be answered for.
enum Ending {
    OfRun,
    OfMaster,
}

fn answer(socket: &OwnedFd, asking: &AtomicBool, done: &Sender<Value>) -> Ending {
    while let Ok(Some(reply)) = datagram::receive(socket.as_fd()) {
        match serde_json::from_slice(&reply.payload) {
            Ok(Reply::Ask { kind, text, hop }) => {
                asking.store(true, Ordering::Release);
                let answer = ask(&Reply::question(&kind, text, hop), socket.as_fd());
                let answer = control::encode_answer(answer.as_ref());
                asking.store(false, Ordering::Release);
                if datagram::send(socket.as_fd(), &answer, &[]).is_err() {
                    break;
                }
            }
            Ok(Reply::Notice(notice)) => diagnostics::tell(&notice),
            // They are said of contexts and sessions.
            Ok(Reply::Lost(_) | Reply::Whole(_)) => {}
            Ok(Reply::Done(value)) => {
                let _ = done.send(value);
                return Ending::OfRun;
            }
            Ok(Reply::Failed(_) | Reply::Ending) | Err(_) => break,
        }
    }
    Ending::OfMaster
}
