//! The ends of a session that its tasks hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{Secret, ToSlave};
use fakessh_protocol::wire::Handle;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::command::{Chunk, Command, Ends, Outcome};
use super::inbox::{Arrivals, Inbox, inbox};
use super::{LinkLost, Piece};

/// Most chunks of one handle that wait in the link's task: one that goes out and one that is ready
/// behind it.
const CHUNKS_UNDERWAY: usize = 2;

/// One remote program, as its invoker's side sees it.
#[derive(Debug)]
pub struct Session {
    /// To its standard input.
    pub stdin: Sender,
    /// From its standard output.
    pub stdout: Receiver,
    /// From its standard error.
    pub stderr: Receiver,
    /// Signals to it, and how it ended.
    pub control: Control,
}

/// How many bytes have passed in a session, also while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    /// To standard input.
    pub(crate) stdin: Arc<AtomicU64>,
    /// From standard output, as far as they have reached the invoker.
    pub(crate) stdout: Arc<AtomicU64>,
    /// From standard error.
    pub(crate) stderr: Arc<AtomicU64>,
}

/// Makes both sides of a session.
pub(super) fn session(
    handles: SessionHandles,
    commands: mpsc::UnboundedSender<Command>,
) -> (Session, Ends) {
    let (stdin, stdin_underway) = sender(handles.stdin, commands.clone());
    let (stdout, stdout_chunks) = receiver(handles.stdout, commands.clone());
    let (stderr, stderr_chunks) = receiver(handles.stderr, commands.clone());
    let traffic = Traffic {
        stdin: stdin.passed.clone(),
        stdout: stdout.passed.clone(),
        stderr: stderr.passed.clone(),
    };
    let (outcome_sender, outcome) = oneshot::channel();
    let control = Control { handle: handles.control, outcome, commands, over: false, traffic };
    let session = Session { stdin, stdout, stderr, control };
    let ends = Ends {
        stdin: stdin_underway,
        stdout: stdout_chunks,
        stderr: stderr_chunks,
        outcome: outcome_sender,
        raised: None,
    };
    (session, ends)
}

/// A sender for a handle, and what the link's task keeps of it.
pub(super) fn sender(
    handle: Handle,
    commands: mpsc::UnboundedSender<Command>,
) -> (Sender, Arc<Underway>) {
    let underway = Arc::new(Underway::new());
    let passed = Arc::default();
    (Sender { handle, underway: underway.clone(), commands, finished: false, passed }, underway)
}

/// A receiver for a handle, and what the link's task keeps of it.
pub(super) fn receiver(
    handle: Handle,
    commands: mpsc::UnboundedSender<Command>,
) -> (Receiver, Inbox) {
    let (inbox, arrivals) = inbox();
    let passed = Arc::default();
    (Receiver { handle, arrivals, commands, ended: false, passed }, inbox)
}

/// Counts the chunks of one handle that wait in the link's task.
#[derive(Debug)]
pub(super) struct Underway {
    /// Permits for further chunks; closed when no more are wanted.
    room: Semaphore,
    /// Whether no more are wanted because the session is over.
    over: AtomicBool,
}

impl Underway {
    fn new() -> Underway {
        Underway { room: Semaphore::new(CHUNKS_UNDERWAY), over: AtomicBool::new(false) }
    }

    /// The link's task has taken a chunk.
    pub(super) fn took_one(&self) {
        self.room.add_permits(1);
    }

    /// The program wants no more.
    pub(super) fn stop(&self) {
        self.room.close();
    }

    /// The session has ended, or its link has: nothing is said of what the program wants.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.room.close();
    }
}

/// Why bytes could not be sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SendError {
    /// The program has closed its standard input, or is gone, or the link is lost.
    #[error("the receiver wants no more")]
    Stopped,
}

/// Sends bytes on one handle. Dropped before [`Sender::finish`], it cuts the stream, and the slave
/// hangs the program up: a cut input must not look complete.
#[derive(Debug)]
pub struct Sender {
    handle: Handle,
    underway: Arc<Underway>,
    commands: mpsc::UnboundedSender<Command>,
    finished: bool,
    /// Bytes that were sent.
    passed: Arc<AtomicU64>,
}

impl Sender {
    /// Waits until a chunk may be sent without queueing behind others of this handle.
    ///
    /// # Errors
    /// [`SendError::Stopped`], also while it waits. Cancel safe.
    pub async fn ready(&self) -> Result<(), SendError> {
        self.underway.room.acquire().await.map(drop).map_err(|_| SendError::Stopped)
    }

    /// Resolves when the receiver wants no more. Cancel safe.
    pub async fn stopped(&self) {
        // More permits than there ever are: only the closing ends this.
        let never = CHUNKS_UNDERWAY as u32 + 1;
        let _ = self.underway.room.acquire_many(never).await;
    }

    /// Whether it was stopped by the end of the session or of the link, and not by a program that
    /// wants no more.
    pub(crate) fn is_over(&self) -> bool {
        self.underway.over.load(Ordering::Acquire)
    }

    /// Sends a chunk once the link has taken those before it: memory stays bounded however slow
    /// the program is.
    ///
    /// # Errors
    /// [`SendError::Stopped`]. Where it is cancelled, the chunk is not sent.
    pub async fn send(&self, chunk: Bytes) -> Result<(), SendError> {
        self.send_piece(Piece::Plain(chunk)).await
    }

    /// As [`Sender::send`].
    pub(crate) async fn send_piece(&self, piece: Piece) -> Result<(), SendError> {
        if piece.len() == 0 {
            return Ok(());
        }
        let permit = self.underway.room.acquire().await.map_err(|_| SendError::Stopped)?;
        permit.forget();
        self.passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
        let command = Command::Data(self.handle, piece);
        self.commands.send(command).map_err(|_| SendError::Stopped)
    }

    /// Ends the stream behind what was sent: end of file for the program.
    pub fn finish(mut self) {
        self.finished = true;
        let _ = self.commands.send(Command::Finish(self.handle));
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.commands.send(Command::Reset(self.handle));
        }
    }
}

/// Receives bytes of one handle. Dropped before the end, it tells the program to stop.
#[derive(Debug)]
pub struct Receiver {
    handle: Handle,
    arrivals: Arrivals,
    commands: mpsc::UnboundedSender<Command>,
    ended: bool,
    /// Bytes that were consumed.
    passed: Arc<AtomicU64>,
}

impl Receiver {
    /// The next bytes, or how the stream ended; `Cut` also where the link is lost. Say
    /// [`Receiver::consumed`] when they are out of the way. Cancel safe.
    pub async fn receive(&mut self) -> Chunk {
        let chunk = self.arrivals.next().await;
        self.ended = !matches!(chunk, Chunk::Data(_));
        chunk
    }

    /// The next bytes, where they have come already.
    pub(crate) fn more(&mut self) -> Option<Bytes> {
        self.arrivals.more()
    }

    /// `len` received bytes are out of the way, and the sender may send as many again.
    pub fn consumed(&self, len: usize) {
        self.passed.fetch_add(len as u64, Ordering::Relaxed);
        let _ = self.commands.send(Command::Consumed(self.handle, len));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.commands.send(Command::Stop(self.handle));
        }
    }
}

/// The control of one session. Dropped before the end, it hangs up.
#[derive(Debug)]
pub struct Control {
    handle: Handle,
    outcome: oneshot::Receiver<Outcome>,
    commands: mpsc::UnboundedSender<Command>,
    over: bool,
    traffic: Traffic,
}

impl Control {
    /// How many bytes have passed in the session.
    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// Somebody who can send signals while this waits for the outcome.
    pub fn signaller(&self) -> Signaller {
        Signaller { handle: self.handle, commands: self.commands.clone() }
    }

    /// Types a secret into the terminal of the session's helper, and a line feed behind it.
    pub(crate) fn type_secret(&self, secret: Secret) {
        let _ = self.commands.send(Command::Message(self.handle, ToSlave::Type(secret)));
    }

    /// How the session ended. It comes behind the last byte of output. Cancel safe.
    pub async fn outcome(&mut self) -> Outcome {
        let outcome = (&mut self.outcome).await;
        self.over = true;
        outcome.unwrap_or_else(|_| Outcome::Lost(LinkLost("the link ended".into())))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.commands.send(Command::Message(self.handle, ToSlave::Hangup));
        }
    }
}

/// Sends signals to a session's program.
#[derive(Clone, Debug)]
pub struct Signaller {
    handle: Handle,
    commands: mpsc::UnboundedSender<Command>,
}

impl Signaller {
    /// Sends a signal (1 to 64) to the program's process group; nothing where the session is over.
    pub fn signal(&self, number: u8) {
        let _ = self.commands.send(Command::Message(self.handle, ToSlave::Signal(number)));
    }
}
