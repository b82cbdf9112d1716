//! Sessions: joins a shim's descriptors to a program at the end of a link.

mod ask;
mod forwards;
mod invoker;
mod keeping;
mod multiplex;
mod outcome;
mod record;
mod reverse;
mod serve;
mod sockets;
mod stdio;
mod stdio_forward;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fakessh_protocol::exit::{ExitStatus, TRANSPORT_FAILURE};
use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::invocation::Invocation;
use fakessh_protocol::message::{Handoff, Notice, Refusal, RefusalReason, Secret, Started, ToShim};
use fakessh_protocol::printable::one_line;
use tokio::sync::{Notify, mpsc, watch};

use crate::caller::{Ask, TellOnly};
use crate::context::{Context, SessionCount};
use crate::control::{AskedClient, OutputName, Reply, StartRequest};
use crate::link::{LinkLost, Outcome, ReverseSession, SessionIo, Signaller};
use crate::pump::{self, Foreign, Received, Sent};
use crate::run::{Denied, Plan, Program, Run, Start};
use crate::socket::Socket;

use ask::ShimAsk;
use forwards::SessionForwards;
use invoker::{Invoker, Message, Messages};
use outcome::SessionOutcome;
use record::Record;
use reverse::serve_reverse;
use serve::Admitted;
pub(crate) use serve::serve;
use sockets::ShimSockets;
use stdio::{Stdio, Streams};

/// Serves one handoff of a local shim to its end.
///
/// Never fails: what goes wrong is reported to the shim. When the shim goes away, or this is
/// cancelled, the session is hung up.
async fn handoff(run: Arc<Run>, admitted: Admitted) {
    let Admitted { handoff, stdio, socket } = admitted;
    let socket = Arc::new(socket);
    let (ask, answers) = ShimAsk::new(socket.clone(), handoff.invocation.verbosity);
    let ask: Arc<dyn Ask> = Arc::new(ask);
    let ask = if handoff.invocation.batch { Arc::new(TellOnly(ask)) } else { ask };
    let (invoker, messages) = (Invoker::Local(socket.clone()), Messages::Local(socket));
    let stdio = Stdio::descriptors(stdio);
    ServedSession::new(run, invoker, ask).serve(handoff, stdio, messages, Some(answers)).await;
}

/// Serves a program that a client asks for, in the one context of its run, to its end. `socket` is
/// that of the session.
///
/// Never fails: what goes wrong is reported to the client. When the client goes away, or this is
/// cancelled, the program is hung up.
pub(crate) async fn start(
    run: Arc<Run>,
    mut request: StartRequest,
    stdio: [Foreign; 3],
    socket: Socket,
) {
    let (client, answers) = AskedClient::new(socket);
    let client = Arc::new(client);
    let invocation = request.take_environment().and_then(|set_env| {
        let starts_in = request.take_directory()?;
        let request = request.program.into_request()?;
        Ok(Invocation { request, set_env, starts_in, ..Invocation::default() })
    });
    let invocation = match invocation {
        Ok(invocation) => invocation,
        Err(failure) => return drop(client.reply(&Reply::Failed(failure)).await),
    };
    let handoff = Handoff { version: crate::VERSION.to_owned(), invocation };
    let (invoker, messages) = (Invoker::Client(client.clone()), Messages::Client(client.clone()));
    let stdio = Stdio::descriptors(stdio);
    ServedSession::new(run, invoker, client).serve(handoff, stdio, messages, Some(answers)).await;
}

/// The invocation that a shim hands over, if the shim is of our version.
fn of_our_version(handoff: Handoff) -> Result<Invocation, Failure> {
    if handoff.version == crate::VERSION {
        return Ok(handoff.invocation);
    }
    let message = format!(
        "this shim is of version {}, and the master of {}; start the tool again",
        handoff.version,
        crate::VERSION
    );
    Err(Failure::new(FailureKind::Version, message))
}

/// Most signals that are kept for a program that is just being started: each kind once.
const MAX_EARLY_SIGNALS: usize = 64;

/// A session that is served: resolved, opened, joined and reported.
struct ServedSession {
    run: Arc<Run>,
    invoker: Invoker,
    /// Who is asked.
    ask: Arc<dyn Ask>,
    /// Makes sockets for forwards, if the invoker can.
    sockets: Option<Arc<ShimSockets>>,
    /// Takes the invoker's signals, once there is a program.
    signaller: OnceLock<Signaller>,
    /// Signals of a client for a program that is just being started.
    early: Mutex<Vec<u8>>,
    /// Standard input is to be cut.
    abort: Notify,
    /// Whether output may go to the invoker's terminal.
    shows: watch::Sender<bool>,
    /// The program is to run on when the invoker is gone.
    is_detached: AtomicBool,
    forwards: SessionForwards,
    /// What is served at the session's ControlPath, if it is a master.
    multiplex: OnceLock<multiplex::Served>,
}

/// A program that was started.
struct Opened {
    context: Arc<Context>,
    io: SessionIo,
    /// Sessions that the program's own `ssh` starts, if it may.
    reverse: Option<mpsc::UnboundedReceiver<ReverseSession>>,
    /// Whether a start that fails has a status, as with a shell; ssh has no such thing.
    fails_with_status: bool,
    /// Whether it is a connection that stands for the program.
    is_stdio: bool,
    _running: SessionCount,
}

impl ServedSession {
    fn new(run: Arc<Run>, invoker: Invoker, ask: Arc<dyn Ask>) -> ServedSession {
        let sockets = match &invoker {
            Invoker::Local(socket) => Some(ShimSockets::new(socket.clone())),
            Invoker::Client(_) | Invoker::Reverse(_) | Invoker::Multiplexed(_) => None,
        };
        let (signaller, early, abort, is_detached, forwards, multiplex) = Default::default();
        let shows = watch::Sender::new(true);
        ServedSession {
            run,
            invoker,
            ask,
            sockets,
            signaller,
            early,
            abort,
            shows,
            is_detached,
            forwards,
            multiplex,
        }
    }

    /// Serves the session to its end, or says why it is refused.
    ///
    /// This owns the standard streams, and everybody else borrows them. Streams that have come to a
    /// good end are closed then; the others are closed here, after the shim has said what happened
    /// and is gone. A tool that sees the end of a stream before that may end its `ssh`, and the
    /// reason with it.
    async fn serve(
        self,
        handoff: Handoff,
        mut stdio: Stdio,
        messages: Messages,
        answers: Option<mpsc::Sender<Option<Secret>>>,
    ) {
        let mut gone = std::pin::pin!(self.listen(messages, answers));
        {
            let mut work = std::pin::pin!(self.work(handoff, &mut stdio));
            tokio::select! {
                () = &mut work => {}
                () = &mut gone => {
                    if self.is_detached.load(Ordering::Relaxed) {
                        work.await;
                    }
                    // Dropping the work hangs up.
                    return;
                }
            }
        }
        if stdio.is_held() {
            gone.await;
        }
    }

    /// Runs the session, and reports how it ended.
    async fn work(&self, handoff: Handoff, stdio: &mut Stdio) {
        let host = handoff.invocation.destination.host.clone();
        let outcome = match of_our_version(handoff) {
            Ok(invocation) => {
                let mut record = Record::begin(&self.run, self.ask.who(), &invocation);
                let outcome = self.outcome(invocation, stdio, &record).await;
                let outcome = outcome.unwrap_or_else(SessionOutcome::Failed);
                self.forwards.close(self.run.forwards()).await;
                self.stop_multiplexing().await;
                record.ended(&outcome);
                outcome
            }
            Err(failure) => SessionOutcome::Failed(Denied::open(failure)),
        };
        self.invoker.report(outcome, &host, stdio, &*self.ask).await;
    }

    /// Passes the invoker's messages on, until the invoker is gone.
    async fn listen(&self, mut messages: Messages, answers: Option<mpsc::Sender<Option<Secret>>>) {
        while let Some(message) = messages.next().await {
            match message {
                Message::Signal(number) => self.signal(number),
                Message::Resize(size) => {
                    if let Some(signaller) = self.signaller.get() {
                        signaller.resize(size);
                    }
                }
                Message::Answer(answer) => {
                    answers.as_ref().map(|answers| answers.try_send(answer));
                }
                Message::Listening(answer, sockets) => {
                    if let Some(shim) = &self.sockets {
                        shim.listening(answer, sockets);
                    }
                }
                Message::Connected(number, why_not, socket) => {
                    if let Some(shim) = &self.sockets {
                        shim.connected(number, why_not, socket);
                    }
                }
                Message::Showing(shows) => drop(self.shows.send_replace(shows)),
                Message::Background(pid) => {
                    if let Some(served) = self.multiplex.get() {
                        served.set_pid(pid);
                    }
                }
                Message::WindowChanged => {
                    if let Some(served) = self.multiplex.get() {
                        served.window_changed();
                    }
                }
                Message::Abort => self.abort.notify_one(),
                Message::Detach => self.is_detached.store(true, Ordering::Relaxed),
            }
        }
    }

    /// Sends the program a signal. One that is just being started gets it next, if a client sends it:
    /// a client knows that it has asked for the program, and a person at a shim does not.
    fn signal(&self, number: u8) {
        match (self.signaller.get(), &self.invoker) {
            (Some(signaller), _) => signaller.signal(number),
            (None, Invoker::Client(_)) => {
                let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
                if early.len() < MAX_EARLY_SIGNALS {
                    early.push(number);
                }
            }
            (None, Invoker::Local(_) | Invoker::Reverse(_) | Invoker::Multiplexed(_)) => {}
        }
    }

    /// Runs the session, and says how it ended.
    async fn outcome(
        &self,
        invocation: Invocation,
        stdio: &mut Stdio,
        record: &Record,
    ) -> Result<SessionOutcome, Denied> {
        let (plan, pinned) = self.resolve(&invocation).await?;
        let announce = invocation.announce;
        let multiplex = invocation.multiplex.clone();
        // The session may last, and nobody needs its environment again.
        drop(invocation);
        let status = match plan {
            Plan::RealSsh { why, words } => return Ok(SessionOutcome::RealSsh { why, words }),
            Plan::Keep(context, forwards) => {
                // A caller that reads our output to its end goes on: nothing will come.
                stdio.close();
                let options = forwards.options.clone();
                self.open_forwards(&context, forwards).await?;
                self.multiplex(multiplex.as_ref(), pinned, &context, options).await;
                self.keep(&context, announce, multiplex, record).await?
            }
            Plan::Start(mut start) => {
                let streams = stdio.open()?;
                let on_terminal = start.setup.terminal.is_some();
                let started = Started { on_terminal, escape: start.escape };
                if let Some(text) = start.notice {
                    self.invoker.send(ToShim::Notice(Notice::ours(text))).await;
                }
                let wanted = std::mem::take(&mut start.forwards);
                let options = wanted.options.clone();
                self.open_forwards(&start.context, wanted).await?;
                self.multiplex(multiplex.as_ref(), pinned, &start.context, options).await;
                let _agent = self.forward_agent(&mut start, record);
                let opened = self.open(*start).await?;
                if announce {
                    // Until its terminal is raw, that would show the output in another form.
                    self.shows.send_replace(!on_terminal);
                    self.invoker.send(ToShim::Started(started)).await;
                }
                let joined = async {
                    let status = self.join(opened, streams, record).await?;
                    self.forwards.close_after_connections(self.run.forwards()).await;
                    Ok::<_, Denied>(status)
                };
                tokio::select! {
                    status = joined => status?,
                    // Who ends a master ends its session.
                    () = self.terminated() => ExitStatus::Code(TRANSPORT_FAILURE),
                }
            }
        };
        Ok(SessionOutcome::Exited(status))
    }

    /// Finds out what is to be done, and connects what that needs. For a master, also a run that leads
    /// to its context alone.
    async fn resolve(&self, invocation: &Invocation) -> Result<(Plan, Option<Arc<Run>>), Denied> {
        if matches!(self.invoker, Invoker::Reverse(_)) && invocation.request.is_none_of_ssh() {
            let text = "only the run itself starts its tool";
            return Err(Denied::open(Failure::new(FailureKind::Refused, text)));
        }
        self.run.resolve(invocation, &self.ask).await
    }

    /// Starts the program.
    async fn open(&self, start: Start) -> Result<Opened, Denied> {
        let Start { context, program, setup, another, .. } = start;
        let fails_with_status =
            self.invoker.takes_statuses() && matches!(program, Program::Exec(_) | Program::Tool(_));
        let is_stdio = matches!(program, Program::Stdio(_));
        let (io, reverse, running) = match program {
            Program::OfSsh(program) | Program::Exec(program) | Program::Stdio(program) => {
                let opened = context.open_with(program, setup, another);
                let (io, running) = opened.map_err(|lost| lost_at(context.name(), &lost))?;
                (io, None, running)
            }
            Program::Tool(tool) => {
                let opened = context.open_tool(tool, setup).await;
                let (io, reverse, running) =
                    opened.map_err(|failure| failure.of(context.name()))?;
                (io, Some(reverse), running)
            }
        };
        Ok(Opened { context, io, reverse, fails_with_status, is_stdio, _running: running })
    }

    /// Joins the program to its invoker, until it has ended, and serves what its own `ssh` starts.
    async fn join(
        &self,
        opened: Opened,
        streams: &mut Streams,
        record: &Record,
    ) -> Result<ExitStatus, Denied> {
        let Opened { context, io, reverse, fails_with_status, is_stdio, _running } = opened;
        let name = context.name();
        record.started(&context, io.control.traffic());
        if is_stdio {
            let joined = self.join_stdio(io, streams).await;
            return joined.map_err(|failure| failure.of(name).into());
        }
        let signaller = self.signaller.get_or_init(|| io.control.signaller());
        let early = std::mem::take(&mut *self.early.lock().unwrap_or_else(PoisonError::into_inner));
        early.into_iter().for_each(|number| signaller.signal(number));
        let pumped = self.pump_all(name, io, streams);
        let outcome = match reverse {
            None => pumped.await,
            Some(reverse) => tokio::select! {
                outcome = pumped => outcome,
                never = serve_reverse(self.run.clone(), reverse, self.ask.clone(), name) => {
                    match never {}
                }
            },
        };
        match outcome? {
            Outcome::Exited(status) => Ok(status),
            Outcome::Lost(lost) => Err(lost_at(name, &lost).into()),
            Outcome::Refused(refusal) => {
                let failure = refused_at(name, &refusal);
                match status_of(&refusal).filter(|_| fails_with_status) {
                    Some(status) => {
                        let notice = Notice::ours(failure.message);
                        self.invoker.send(ToShim::Notice(notice)).await;
                        Ok(status)
                    }
                    None => Err(failure.into()),
                }
            }
        }
    }

    /// Moves the bytes of a session, until the program has ended and all of its output is written.
    async fn pump_all(
        &self,
        name: &str,
        io: SessionIo,
        Streams { stdin, outputs: [stdout, stderr] }: &mut Streams,
    ) -> Result<Outcome, Failure> {
        let mut control = io.control;
        let write = async |receiver, output: &mut pump::Output, which| {
            let received = pump::receive_while(receiver, output, self.shows.subscribe()).await;
            if let Received::Whole = received {
                self.invoker.whole(which).await;
            }
            output.close(&received);
            received
        };
        let output = async {
            tokio::join!(
                write(io.stdout, stdout, OutputName::Stdout),
                write(io.stderr, stderr, OutputName::Stderr),
                control.outcome(),
            )
        };
        // Input goes on as long as there is output, and ends with it.
        let input = async {
            let sent = tokio::select! {
                sent = pump::send(stdin, io.stdin) => sent,
                // What is cancelled cuts the stream.
                () = self.abort.notified() => Sent::Over,
            };
            match sent {
                Sent::Whole | Sent::Unwanted | Sent::Over => std::future::pending().await,
                Sent::Failed(error) => error,
            }
        };
        let (stdout, stderr, outcome) = tokio::select! {
            biased;
            ended = output => ended,
            // Returning hangs up: the program must not take what it got for the whole.
            error = input => {
                return Err(Failure::other(format!("{name}: reading standard input: {error}")));
            }
        };
        if let Outcome::Exited(_) = outcome {
            // The status counts only if the output is where it should be.
            is_written(name, "output", stdout)?;
            is_written(name, "error", stderr)?;
        }
        Ok(outcome)
    }
}

fn is_written(name: &str, stream: &str, received: Received) -> Result<(), Failure> {
    match received {
        Received::Whole | Received::Unwanted => Ok(()),
        Received::Cut => {
            let message = format!("{name}: the program's output was cut short");
            Err(Failure::new(FailureKind::OutputCut, message))
        }
        Received::Failed(error) => {
            Err(Failure::other(format!("{name}: writing standard {stream}: {error}")))
        }
    }
}

fn lost_at(name: &str, lost: &LinkLost) -> Failure {
    Failure::new(FailureKind::ConnectionLost, format!("{name}: {lost}"))
}

fn refused_at(name: &str, refusal: &Refusal) -> Failure {
    let message = format!("{name}: {}", one_line(&refusal.message));
    Failure::new(refusal.reason.into(), message)
}

/// The status that a shell gives a program that could not be started.
fn status_of(refusal: &Refusal) -> Option<ExitStatus> {
    match refusal.reason {
        RefusalReason::NotFound => Some(ExitStatus::Code(127)),
        RefusalReason::Other => Some(ExitStatus::Code(126)),
        RefusalReason::Limit => None,
    }
}
