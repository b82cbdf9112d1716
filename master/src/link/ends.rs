//! The ends of a session: what its tasks hold, and what its carrier keeps.
//!
//! A link carries sessions, and so does a channel of an SSH connection. The ends know neither: each
//! end asks its [`Carrier`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::Stream;
use fakessh_protocol::message::{Refusal, Secret, ToShim};
use fakessh_protocol::terminal::WindowSize;
use thiserror::Error;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use super::Piece;
use super::inbox::{Arrivals, Chunk, inbox};
pub(crate) use super::inbox::{Inbox, StreamEnd};

/// Most chunks of one stream that wait for the carrier: one that goes out, and one that is ready
/// after it.
const CHUNKS_UNDERWAY: usize = 2;

/// The carrier is of no use any more.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct LinkLost(pub Arc<str>);

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program ended.
    Exited(ExitStatus),
    /// It was never started.
    Refused(Refusal),
    /// The link was lost, and what became of the program is unknown.
    Lost(LinkLost),
}

/// Carries a session: takes what its ends ask for, in order, and never waits.
pub(crate) trait Carrier: fmt::Debug + Send + Sync {
    /// Takes what the end of a stream asks for; false if the carrier is gone.
    fn stream(&self, stream: Stream, request: StreamRequest) -> bool;

    /// Takes what the control end asks for. It is dropped if the carrier is gone.
    fn control(&self, request: ControlRequest);
}

/// What the end of a stream asks for.
#[derive(Debug)]
pub(crate) enum StreamRequest {
    /// To send these bytes.
    Data(Piece),
    /// To end the stream after what was sent.
    Finish,
    /// To cut the stream.
    Reset,
    /// To let the sender send so many bytes more.
    Consumed(usize),
    /// To have the sender stop.
    Stop,
}

/// What the control end asks for.
#[derive(Debug)]
pub(crate) enum ControlRequest {
    /// To signal the program.
    Signal(u8),
    /// To give the program's terminal another size.
    Resize(WindowSize),
    /// To type a secret into the terminal of the session's helper, with a line feed.
    Type(Secret),
    /// To hang the program up.
    Hangup,
    /// To give the shim of a reverse session a message. A message that ends the session is held
    /// until both outputs are closed.
    Message(ToShim),
}

/// One remote program, as its invoker's side sees it.
#[derive(Debug)]
pub struct SessionIo {
    /// To its standard input.
    pub stdin: Sender,
    /// From its standard output.
    pub stdout: Receiver,
    /// From its standard error.
    pub stderr: Receiver,
    /// Signals to it, and how it ended.
    pub control: Control,
}

/// What the carrier keeps of a session.
#[derive(Debug)]
pub(crate) struct CarrierIo {
    pub(crate) stdin: Arc<Underway>,
    pub(crate) stdout: Inbox,
    pub(crate) stderr: Inbox,
    pub(crate) outcome: oneshot::Sender<Outcome>,
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
pub(crate) fn session(carrier: Arc<dyn Carrier>) -> (SessionIo, CarrierIo) {
    let (stdin, stdin_underway) = sender(Stream::Stdin, carrier.clone());
    let (stdout, stdout_inbox) = receiver(Stream::Stdout, carrier.clone());
    let (stderr, stderr_inbox) = receiver(Stream::Stderr, carrier.clone());
    let traffic = Traffic {
        stdin: stdin.passed.clone(),
        stdout: stdout.passed.clone(),
        stderr: stderr.passed.clone(),
    };
    let (outcome_sender, outcome) = oneshot::channel();
    let control = Control { outcome: Some(outcome), carrier, traffic };
    let io = SessionIo { stdin, stdout, stderr, control };
    let kept = CarrierIo {
        stdin: stdin_underway,
        stdout: stdout_inbox,
        stderr: stderr_inbox,
        outcome: outcome_sender,
    };
    (io, kept)
}

/// Makes the sending end of a stream, and what the carrier keeps of it.
pub(super) fn sender(stream: Stream, carrier: Arc<dyn Carrier>) -> (Sender, Arc<Underway>) {
    let underway = Arc::new(Underway::new());
    let sender = Sender {
        stream,
        underway: underway.clone(),
        carrier,
        finished: false,
        passed: Arc::default(),
        room: None,
    };
    (sender, underway)
}

/// Makes the receiving end of a stream, and what the carrier keeps of it.
pub(super) fn receiver(stream: Stream, carrier: Arc<dyn Carrier>) -> (Receiver, Inbox) {
    let (inbox, arrivals) = inbox();
    (Receiver { stream, arrivals, carrier, ended: false, passed: Arc::default() }, inbox)
}

/// Counts the chunks of one stream that wait for the carrier.
#[derive(Debug)]
pub(crate) struct Underway {
    /// Permits for further chunks; closed when no more are wanted.
    room: Arc<Semaphore>,
    /// Whether the end of the session is the reason for that, and not the program.
    over: AtomicBool,
}

impl Underway {
    fn new() -> Underway {
        Underway { room: Arc::new(Semaphore::new(CHUNKS_UNDERWAY)), over: AtomicBool::new(false) }
    }

    /// Makes room for another chunk: the carrier has taken one.
    pub(crate) fn took_one(&self) {
        self.room.add_permits(1);
    }

    /// Wants no more chunks, as the program does not.
    pub(crate) fn stop(&self) {
        self.room.close();
    }

    /// Wants no more chunks, as the session or its carrier has ended.
    pub(crate) fn end(&self) {
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

/// A wait for room for another chunk.
type Room = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// Sends the bytes of one stream. Dropped before [`Sender::finish`], it cuts the stream, and the slave
/// hangs the program up: a cut input must not look complete.
pub struct Sender {
    stream: Stream,
    underway: Arc<Underway>,
    carrier: Arc<dyn Carrier>,
    finished: bool,
    /// Bytes that were sent.
    passed: Arc<AtomicU64>,
    /// The wait of [`Sender::poll_send`] for room, if it has begun.
    room: Option<Room>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Sender {
    /// Waits until a chunk may be sent without waiting for others of this stream.
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

    /// Sends a chunk after the carrier has taken those before it: memory stays bounded however slow
    /// the program is.
    ///
    /// # Errors
    /// [`SendError::Stopped`]. If it is cancelled, the chunk is not sent.
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
        self.pass(piece)
    }

    /// Sends what `chunk` makes as soon as there is room for it. Pending, nothing is sent.
    ///
    /// # Errors
    /// [`SendError::Stopped`].
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        chunk: impl FnOnce() -> Bytes,
    ) -> Poll<Result<(), SendError>> {
        let permit = match (self.room.take(), self.underway.room.clone().try_acquire_owned()) {
            (None, Ok(permit)) => permit,
            (_, Err(TryAcquireError::Closed)) => return Poll::Ready(Err(SendError::Stopped)),
            (waiting, permit) => {
                drop(permit);
                let new = || Box::pin(self.underway.room.clone().acquire_owned()) as Room;
                let mut waiting = waiting.unwrap_or_else(new);
                match waiting.as_mut().poll(cx) {
                    Poll::Ready(Ok(permit)) => permit,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(SendError::Stopped)),
                    Poll::Pending => {
                        self.room = Some(waiting);
                        return Poll::Pending;
                    }
                }
            }
        };
        permit.forget();
        Poll::Ready(self.pass(Piece::Plain(chunk())))
    }

    fn pass(&self, piece: Piece) -> Result<(), SendError> {
        self.passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
        match self.carrier.stream(self.stream, StreamRequest::Data(piece)) {
            true => Ok(()),
            false => Err(SendError::Stopped),
        }
    }

    /// Ends the stream after what was sent: end of file for the program.
    pub fn finish(mut self) {
        self.finished = true;
        self.carrier.stream(self.stream, StreamRequest::Finish);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.finished {
            self.carrier.stream(self.stream, StreamRequest::Reset);
        }
    }
}

/// Receives the bytes of one stream. Dropped before the end, it tells the program to stop.
#[derive(Debug)]
pub struct Receiver {
    stream: Stream,
    arrivals: Arrivals,
    carrier: Arc<dyn Carrier>,
    ended: bool,
    /// Bytes that were consumed.
    passed: Arc<AtomicU64>,
}

impl Receiver {
    /// Waits for the next bytes, or for the stream's end: `Cut` also if the link is lost. Call
    /// [`Receiver::consumed`] when the bytes are out of the way. Cancel safe.
    pub async fn receive(&mut self) -> Chunk {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// As [`Receiver::receive`].
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Chunk> {
        let chunk = ready!(self.arrivals.poll_next(cx));
        self.ended = !matches!(chunk, Chunk::Data(_));
        Poll::Ready(chunk)
    }

    /// The next bytes, if they have come already.
    pub(crate) fn more(&mut self) -> Option<Bytes> {
        self.arrivals.more()
    }

    /// Says that `len` received bytes are out of the way: the sender may send as many again.
    pub fn consumed(&self, len: usize) {
        self.passed.fetch_add(len as u64, Ordering::Relaxed);
        self.carrier.stream(self.stream, StreamRequest::Consumed(len));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if !self.ended {
            self.carrier.stream(self.stream, StreamRequest::Stop);
        }
    }
}

/// The control of one session. Dropped before the end, it hangs up.
#[derive(Debug)]
pub struct Control {
    /// `None` after the outcome was told.
    outcome: Option<oneshot::Receiver<Outcome>>,
    carrier: Arc<dyn Carrier>,
    traffic: Traffic,
}

impl Control {
    /// How many bytes have passed in the session.
    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// Makes a handle for signals, to be used while this waits for the outcome.
    pub fn signaller(&self) -> Signaller {
        Signaller { carrier: self.carrier.clone() }
    }

    /// Types a secret and a line feed into the terminal of the session's helper.
    pub(crate) fn type_secret(&self, secret: Secret) {
        self.carrier.control(ControlRequest::Type(secret));
    }

    /// Waits for the end of the session, which comes after the last byte of output. It is told
    /// once; later calls say that the link ended. Cancel safe.
    pub async fn outcome(&mut self) -> Outcome {
        let outcome = match &mut self.outcome {
            Some(outcome) => outcome.await.ok(),
            None => None,
        };
        self.outcome = None;
        outcome.unwrap_or_else(|| Outcome::Lost(LinkLost("the link ended".into())))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.outcome.is_some() {
            self.carrier.control(ControlRequest::Hangup);
        }
    }
}

/// Sends signals to a session's program.
#[derive(Clone, Debug)]
pub struct Signaller {
    carrier: Arc<dyn Carrier>,
}

impl Signaller {
    /// Sends a signal (1 to 64) to the program's process group; nothing if the session is over.
    pub fn signal(&self, number: u8) {
        self.carrier.control(ControlRequest::Signal(number));
    }

    /// Gives the program's terminal another size; nothing if it has none.
    pub(crate) fn resize(&self, size: WindowSize) {
        self.carrier.control(ControlRequest::Resize(size));
    }
}
