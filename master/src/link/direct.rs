//! A session without a slave: an SSH channel of its own, with the same ends as any other.
//!
//! For accounts where no slave can run: a forced command, SFTP alone, another architecture. SSH
//! has one window for a channel and none for who reads it here, so what is received and not yet
//! consumed is bounded by making the whole connection wait.

use std::sync::Arc;

use bytes::Bytes;
use fakessh_protocol::message::{ProgramKind, Refusal, RefusalReason, SessionHandles, ToSlave};
use fakessh_protocol::wire::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::command::{Chunk, Command, Ends, Outcome};
use super::handles::Underway;
use super::inbox::Inbox;
use super::{LinkLost, Session, handles};
use crate::hop::ssh::{ChannelError, ProgramEnd, RemoteProgram, SshConnection};

/// The handles of a session that is alone on its channel.
const HANDLES: SessionHandles =
    SessionHandles { control: Handle(1), stdin: Handle(2), stdout: Handle(3), stderr: Handle(4) };

/// Bytes of an output that may wait for their reader.
const WINDOW: usize = 1024 * 1024;

/// Starts a program on a channel of its own. Nothing is waited for.
pub(crate) fn open(
    connection: SshConnection,
    program: ProgramKind,
    environment: Vec<(Vec<u8>, Vec<u8>)>,
) -> Session {
    let (commands, receiver) = mpsc::unbounded_channel();
    let (session, ends) = handles::session(HANDLES, commands);
    // What is no text can't be sent to every server.
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    let pairs = environment.into_iter();
    let environment: Vec<_> =
        pairs.filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
    tokio::spawn(async move {
        match connection.start(&program, &environment).await {
            Ok(program) => run(&connection, program, receiver, ends).await,
            Err(error) => refuse(ends, error),
        }
    });
    session
}

fn refuse(ends: Ends, error: ChannelError) {
    ends.stdin.end();
    let refusal = Refusal { reason: RefusalReason::Other, message: error.to_string() };
    let _ = ends.outcome.send(Outcome::Refused(refusal));
}

/// One output of the program, on its way to its reader.
struct Out {
    from: mpsc::Receiver<Bytes>,
    to: Inbox,
    /// Bytes that the reader may still be given.
    window: Arc<Semaphore>,
    /// Resolves when the reader wants no more.
    stop: oneshot::Receiver<()>,
}

/// What tells an [`Out`] about its reader.
struct Reader {
    window: Arc<Semaphore>,
    stop: Option<oneshot::Sender<()>>,
}

impl Out {
    fn new(from: mpsc::Receiver<Bytes>, to: Inbox) -> (Out, Reader) {
        let window = Arc::new(Semaphore::new(WINDOW));
        let (sender, stop) = oneshot::channel();
        (Out { from, to, window: window.clone(), stop }, Reader { window, stop: Some(sender) })
    }

    /// Passes on what comes, to its end; what follows [`Out`] is the reader's last chunk.
    async fn pass(mut self) -> Inbox {
        loop {
            let bytes = tokio::select! {
                bytes = self.from.recv() => bytes,
                _ = &mut self.stop => return self.to,
            };
            let Some(bytes) = bytes else { return self.to };
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(WINDOW as u32);
            let _ = self.to.put(bytes);
            tokio::select! {
                permits = self.window.acquire_many(len) => match permits {
                    Ok(permits) => permits.forget(),
                    Err(_) => return self.to,
                },
                _ = &mut self.stop => return self.to,
            }
        }
    }
}

async fn run(
    connection: &SshConnection,
    program: RemoteProgram,
    commands: mpsc::UnboundedReceiver<Command>,
    ends: Ends,
) {
    let RemoteProgram { stdin, stdout, stderr, mut end, signals } = program;
    let Ends { stdin: underway, stdout: to_stdout, stderr: to_stderr, outcome, .. } = ends;
    let (out, out_reader) = Out::new(stdout, to_stdout);
    let (err, err_reader) = Out::new(stderr, to_stderr);
    let (pieces_sender, pieces) = mpsc::unbounded_channel();
    let invoker =
        Invoker { commands, pieces: Some(pieces_sender), signals, out_reader, err_reader };
    let output = async {
        let (out, err) = tokio::join!(out.pass(), err.pass());
        let ended = ended(&mut end).await;
        let last = if ended == ProgramEnd::Unknown { Chunk::Cut } else { Chunk::End };
        out.end(last.clone());
        err.end(last);
        ended
    };
    let input = async {
        write_all(pieces, stdin, &underway).await;
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = output => ended,
        () = input => return,
        // The invoker has hung up: the channel is closed.
        () = invoker.listen() => return,
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

/// What the invoker's side asks for.
struct Invoker {
    commands: mpsc::UnboundedReceiver<Command>,
    /// `None` when the standard input has ended.
    pieces: Option<mpsc::UnboundedSender<Bytes>>,
    signals: mpsc::Sender<u8>,
    out_reader: Reader,
    err_reader: Reader,
}

impl Invoker {
    /// Does it, until the session is to be given up.
    async fn listen(mut self) {
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::Data(_, piece) => {
                    if let Some(pieces) = &self.pieces {
                        let _ = pieces.send(piece.into_bytes());
                    }
                }
                Command::Finish(_) => self.pieces = None,
                Command::Consumed(handle, len) => self.reader(handle).window.add_permits(len),
                Command::Stop(handle) => drop(self.reader(handle).stop.take()),
                Command::Message(_, ToSlave::Signal(number)) => {
                    let _ = self.signals.try_send(number);
                }
                // A cut input must not look complete.
                Command::Message(_, ToSlave::Hangup) | Command::Reset(_) => return,
                _ => {}
            }
        }
    }

    fn reader(&mut self, handle: Handle) -> &mut Reader {
        if handle == HANDLES.stderr { &mut self.err_reader } else { &mut self.out_reader }
    }
}
