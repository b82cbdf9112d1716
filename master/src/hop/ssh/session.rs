//! A session without a slave: an SSH channel of its own, with the same ends as any other session.
//!
//! For accounts in which no slave can run: a forced command, SFTP alone, another architecture. SSH
//! has a window for the whole channel and none for its reader here. So if too much waits for the
//! reader, the whole connection waits.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fakessh_protocol::exit::{ExitStatus, TRANSPORT_FAILURE};
use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::handles::Stream;
use fakessh_protocol::message::{ProgramKind, ProgramSetup, Refusal, RefusalReason};
use fakessh_protocol::report::Report;
use fakessh_protocol::terminal::WindowSize;
use russh::Channel;
use russh::client::Msg;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::{ChannelError, ProgramEnd, RemoteProgram, SshConnection, channel};
use crate::link::ends::{
    self, Carrier, CarrierIo, ControlRequest, Inbox, StreamEnd, StreamRequest, Underway,
};
use crate::link::{Incoming, IncomingEnd, LinkLost, Outcome, SessionIo};

/// Bytes of an output that may wait for their reader.
const WINDOW: usize = 1024 * 1024;

/// How long a server may take to count the end of the last session, before it has room for the
/// next (`MaxSessions 1`).
const REOPEN: Duration = Duration::from_millis(300);

/// The same if a program whose input was just closed has to end first.
const REOPEN_AFTER_END: Duration = Duration::from_secs(3);

/// How long a program may go on whose output nobody reads. What most print ends in this time, and
/// then their status counts; then the channel is closed, and what writes on gets SIGPIPE.
const UNREAD: Duration = Duration::from_secs(1);

/// The status of a program that wrote on although nobody read: that of a SIGPIPE.
const BROKEN_PIPE: ExitStatus = ExitStatus::Signal(13);

/// The status of a connection that there is not, as a slave has it.
const NOT_CONNECTED: ExitStatus = ExitStatus::Code(1);

/// SIGHUP, for a program whose invoker is gone.
const HANGUP: u8 = 1;

/// Work that is done only if it is needed.
pub(crate) type Deferred<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is tried if the shared connection does not serve a session.
pub(crate) struct Fallbacks {
    /// Ends what is not needed there.
    pub(crate) make_room: Option<Deferred<()>>,
    /// Makes a connection for this session alone.
    pub(crate) another: Option<Deferred<Option<SshConnection>>>,
}

impl Fallbacks {
    async fn another(&mut self) -> Option<SshConnection> {
        self.another.take()?.await
    }
}

/// A program was not started.
#[derive(Debug, Error)]
enum BeginError {
    /// It was to start in this directory.
    #[error(
        "can't start in {0:?}: no slave runs there, and SSH knows no directories; use a shell's cd"
    )]
    Directory(String),
    /// No channel was opened.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

/// Starts a program on the shared connection, or on one of its own.
async fn begin(
    shared: SshConnection,
    mut fallbacks: Fallbacks,
    program: &ProgramKind,
    setup: &ProgramSetup,
) -> Result<(SshConnection, RemoteProgram), BeginError> {
    if !setup.directory.is_empty() {
        let directory = String::from_utf8_lossy(&setup.directory).into_owned();
        return Err(BeginError::Directory(directory));
    }
    if let ProgramKind::Connection(connection) = program {
        // No other session takes its place, and another connection reaches no more.
        let started = shared.start_connection(&connection.peer).await?;
        return Ok((shared, started));
    }
    if shared.is_held_up()
        && let Some(own) = fallbacks.another().await
    {
        let program = own.start(program, setup).await?;
        return Ok((own, program));
    }
    let mut started = shared.start_within(program, setup, REOPEN).await;
    if let Err(ChannelError::Refused { .. }) = started
        && let Some(make_room) = fallbacks.make_room.take()
    {
        make_room.await;
        started = shared.start_within(program, setup, REOPEN_AFTER_END).await;
    }
    if let Err(ChannelError::Refused { .. }) = started
        && let Some(own) = fallbacks.another().await
    {
        let program = own.start(program, setup).await?;
        return Ok((own, program));
    }
    Ok((shared, started?))
}

impl SshConnection {
    /// Starts a program on a channel of its own. Nothing is waited for.
    pub(crate) fn open_session(
        &self,
        fallbacks: Fallbacks,
        program: ProgramKind,
        setup: ProgramSetup,
    ) -> SessionIo {
        let shared = self.clone();
        let (requests, receiver) = mpsc::unbounded_channel();
        let (session, io) = ends::session(Arc::new(ChannelCarrier(requests)));
        tokio::spawn(async move {
            match begin(shared.clone(), fallbacks, &program, &setup).await {
                Ok((connection, running)) => {
                    let carried = Carried::of(&program);
                    tokio::select! {
                        () = run(&connection, running, carried, receiver, io) => {}
                        // Also for a connection of its own: who closes the shared one means all.
                        () = shared.ended_here() => {}
                    }
                }
                Err(error) => refuse(io, &program, error),
            }
        });
        session
    }
}

/// What a channel carries: that decides what its end means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carried {
    Program,
    Subsystem,
    Connection,
}

impl Carried {
    fn of(program: &ProgramKind) -> Carried {
        match program {
            ProgramKind::Subsystem(_) => Carried::Subsystem,
            ProgramKind::Connection(_) => Carried::Connection,
            _ => Carried::Program,
        }
    }
}

impl SshConnection {
    /// A connection that the server has opened a channel for.
    pub(super) fn incoming(
        &self,
        channel: Channel<Msg>,
        from: String,
        place: OwnedSemaphorePermit,
    ) -> Incoming {
        let running = channel::reported(channel, self.0.worth.clone(), self.alive());
        let (requests, receiver) = mpsc::unbounded_channel();
        let (session, io) = ends::session(Arc::new(ChannelCarrier(requests)));
        let connection = self.clone();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = run(&connection, running, Carried::Connection, receiver, io) => {}
                () = connection.ended_here() => {}
            }
        });
        let SessionIo { stdin, stdout, stderr, control } = session;
        let end = IncomingEnd::Server { control, report: stderr };
        Incoming { from, receiver: stdout, sender: stdin, end }
    }
}

fn refuse(io: CarrierIo, program: &ProgramKind, error: BeginError) {
    io.stdin.end();
    let _ = io.outcome.send(match (program, error) {
        (
            ProgramKind::Connection(_),
            BeginError::Channel(ChannelError::Refused { message, forbidden, .. }),
        ) => {
            let kind = if forbidden { FailureKind::Refused } else { FailureKind::Connect };
            let report = Report::Failed(Failure::new(kind, message));
            let _ = io.stderr.put(report.line().into());
            io.stderr.end(StreamEnd::Whole);
            Outcome::Exited(NOT_CONNECTED)
        }
        (ProgramKind::Connection(_), BeginError::Channel(ChannelError::Lost(lost))) => {
            Outcome::Lost(LinkLost(lost.message.into()))
        }
        (_, error) => {
            let message = error.to_string();
            Outcome::Refused(Refusal { reason: RefusalReason::Other, message })
        }
    });
}

/// What the ends of the session ask of the channel.
enum Request {
    /// To send these bytes to the program's standard input.
    Data(Bytes),
    /// To end the standard input.
    Finish,
    /// To let an output's reader get so many bytes more.
    Consumed(Stream, usize),
    /// To read an output no more.
    Stop(Stream),
    /// To signal the program.
    Signal(u8),
    /// To give the program's terminal another size.
    Resize(WindowSize),
    /// To hang the program up.
    Hangup,
}

/// Carries the session over its channel.
#[derive(Debug)]
struct ChannelCarrier(mpsc::UnboundedSender<Request>);

impl Carrier for ChannelCarrier {
    fn stream(&self, stream: Stream, request: StreamRequest) -> bool {
        let request = match request {
            StreamRequest::Data(piece) => Request::Data(piece.into_bytes()),
            StreamRequest::Finish => Request::Finish,
            // A cut input must not look complete.
            StreamRequest::Reset => Request::Hangup,
            StreamRequest::Consumed(len) => Request::Consumed(stream, len),
            StreamRequest::Stop => Request::Stop(stream),
        };
        self.0.send(request).is_ok()
    }

    fn control(&self, request: ControlRequest) {
        let request = match request {
            ControlRequest::Signal(number) => Request::Signal(number),
            ControlRequest::Resize(size) => Request::Resize(size),
            ControlRequest::Hangup => Request::Hangup,
            // Helpers and reverse sessions need a slave.
            ControlRequest::Type(_) | ControlRequest::Message(_) => return,
        };
        let _ = self.0.send(request);
    }
}

/// One output of the program, on its way to its reader.
struct Out {
    from: mpsc::Receiver<Bytes>,
    to: Inbox,
    /// Bytes that the reader may still be given.
    window: Arc<Semaphore>,
    /// Resolves when the reader wants no more.
    stop: oneshot::Receiver<()>,
    /// Is told then.
    unread: Option<oneshot::Sender<()>>,
}

/// What tells an [`Out`] about its reader.
struct OutputReader {
    window: Arc<Semaphore>,
    stop: Option<oneshot::Sender<()>>,
}

impl Out {
    fn new(from: mpsc::Receiver<Bytes>, to: Inbox) -> (Out, OutputReader) {
        let window = Arc::new(Semaphore::new(WINDOW));
        let (sender, stop) = oneshot::channel();
        (
            Out { from, to, window: window.clone(), stop, unread: None },
            OutputReader { window, stop: Some(sender) },
        )
    }

    /// Passes on what comes, to its end.
    async fn pass(&mut self, connection: &SshConnection) {
        loop {
            let bytes = tokio::select! {
                bytes = self.from.recv() => bytes,
                _ = &mut self.stop => return self.discard().await,
            };
            let Some(bytes) = bytes else { return };
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(WINDOW as u32);
            let _ = self.to.put(bytes);
            if let Ok(permits) = self.window.try_acquire_many(len) {
                permits.forget();
                continue;
            }
            let (_held_up, window) = (connection.hold_up(), self.window.clone());
            tokio::select! {
                permits = window.acquire_many(len) => match permits {
                    Ok(permits) => permits.forget(),
                    Err(_) => return,
                },
                _ = &mut self.stop => return self.discard().await,
            }
        }
    }

    /// Throws away what comes, to its end.
    async fn discard(&mut self) {
        if let Some(unread) = self.unread.take() {
            let _ = unread.send(());
        }
        while self.from.recv().await.is_some() {}
    }
}

async fn run(
    connection: &SshConnection,
    running: RemoteProgram,
    carried: Carried,
    requests: mpsc::UnboundedReceiver<Request>,
    io: CarrierIo,
) {
    let RemoteProgram { stdin, stdout, stderr, mut end, signals, sizes } = running;
    let (is_subsystem, is_connection) =
        (carried == Carried::Subsystem, carried == Carried::Connection);
    let CarrierIo { stdin: underway, stdout: to_stdout, stderr: to_stderr, outcome } = io;
    let (unread_sender, unread) = oneshot::channel();
    let (mut out, out_reader) = Out::new(stdout, to_stdout);
    out.unread = Some(unread_sender);
    let (mut err, err_reader) = Out::new(stderr, to_stderr);
    let hangup = signals.clone();
    let (pieces_sender, pieces) = mpsc::unbounded_channel();
    let request_loop = RequestLoop {
        requests,
        pieces: Some(pieces_sender),
        signals,
        sizes,
        out_reader,
        err_reader,
    };
    let output = async {
        let pass_out = async {
            out.pass(connection).await;
            if is_connection {
                // The other direction may go on. Whether this end is a good one, the report says.
                out.to.end(StreamEnd::Whole);
            }
        };
        let passed = async { tokio::join!(pass_out, err.pass(connection)) };
        let ended = tokio::select! {
            _ = passed => match ended(&mut end).await {
                // Servers need not say how a subsystem ended. That is no failure, and for ssh no
                // success.
                ProgramEnd::Unknown if is_subsystem && !connection.is_closed() => {
                    ProgramEnd::Exited(ExitStatus::Code(TRANSPORT_FAILURE))
                }
                ended => ended,
            },
            () = was_unread(unread) => ProgramEnd::Exited(BROKEN_PIPE),
        };
        let last = match ended {
            ProgramEnd::Unknown => StreamEnd::Cut,
            ProgramEnd::Exited(_) | ProgramEnd::Refused => StreamEnd::Whole,
        };
        out.to.end(last);
        err.to.end(last);
        ended
    };
    let input = async {
        write_all(pieces, stdin, &underway).await;
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = output => ended,
        () = input => return,
        // The invoker has hung up: the program is told, where the server does that, and the
        // channel is closed.
        () = request_loop.listen() => {
            let _ = hangup.try_send(HANGUP);
            return;
        }
    };
    underway.end();
    let _ = outcome.send(match ended {
        ProgramEnd::Exited(status) => Outcome::Exited(status),
        ProgramEnd::Refused => Outcome::Refused(Refusal {
            reason: RefusalReason::Other,
            message: "the server refused to run this".to_owned(),
        }),
        ProgramEnd::Unknown if connection.is_closed() => {
            Outcome::Lost(LinkLost(connection.closed().await.message.into()))
        }
        ProgramEnd::Unknown => {
            Outcome::Lost(LinkLost("the server closed the channel and did not say why".into()))
        }
    });
}

/// Waits until nobody has read an output for as long as that is borne.
async fn was_unread(unread: oneshot::Receiver<()>) {
    if unread.await.is_err() {
        std::future::pending().await
    }
    tokio::time::sleep(UNREAD).await;
}

async fn ended(end: &mut watch::Receiver<Option<ProgramEnd>>) -> ProgramEnd {
    match end.wait_for(Option::is_some).await {
        Ok(end) => end.clone().unwrap_or(ProgramEnd::Unknown),
        Err(_) => ProgramEnd::Unknown,
    }
}

/// Writes the program's standard input, and closes it when there is no more.
async fn write_all(
    mut pieces: mpsc::UnboundedReceiver<Bytes>,
    stdin: mpsc::Sender<Bytes>,
    underway: &Underway,
) {
    while let Some(bytes) = pieces.recv().await {
        if stdin.send(bytes).await.is_err() {
            // The channel has ended; how is said by whoever reads it.
            return;
        }
        underway.took_one();
    }
}

/// Serves what the invoker's ends ask for.
struct RequestLoop {
    requests: mpsc::UnboundedReceiver<Request>,
    /// `None` when the standard input has ended.
    pieces: Option<mpsc::UnboundedSender<Bytes>>,
    signals: mpsc::Sender<u8>,
    sizes: watch::Sender<WindowSize>,
    out_reader: OutputReader,
    err_reader: OutputReader,
}

impl RequestLoop {
    /// Serves the requests of the session's ends, until the session is to be given up.
    async fn listen(mut self) {
        while let Some(request) = self.requests.recv().await {
            match request {
                Request::Data(bytes) => {
                    if let Some(pieces) = &self.pieces {
                        let _ = pieces.send(bytes);
                    }
                }
                Request::Finish => self.pieces = None,
                Request::Consumed(stream, len) => self.reader(stream).window.add_permits(len),
                Request::Stop(stream) => drop(self.reader(stream).stop.take()),
                Request::Signal(number) => drop(self.signals.try_send(number)),
                Request::Resize(size) => drop(self.sizes.send(size)),
                Request::Hangup => return,
            }
        }
    }

    fn reader(&mut self, stream: Stream) -> &mut OutputReader {
        if stream == Stream::Stderr { &mut self.err_reader } else { &mut self.out_reader }
    }
}
