//! Sessions: joins a shim's descriptors to a program at the end of a link.

mod ask;
mod record;
mod reverse;
mod serve;
mod stdio;

use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::invocation::{ControlCommand, Destination, Invocation, Request};
use fakessh_protocol::message::{
    FromShim, Handoff, Notice, ProgramKind, RealWords, Refusal, RefusalReason, ToShim, Tool,
};
use fakessh_protocol::printable::one_line;
use tokio::sync::mpsc;

use crate::caller::{Ask, AskNobodyFor};
use crate::context::{Context, Reached};
use crate::hop::ssh::Deferred;
use crate::lifetime::Use;
use crate::link::{Outcome, ReverseShim, SessionIo, Signaller, Traffic};
use crate::pump::{self, Received, Sent};
use crate::run::{Choice, Run};
use crate::socket::Socket;

pub(crate) use ask::Answers;
use ask::ShimAsk;
use record::Record;
use reverse::serve_reverse;
use serve::Admitted;
pub(crate) use serve::serve;
use stdio::{Stdio, Streams};

/// Who waits for a session's end.
enum Invoker {
    /// A shim on this host.
    Local(Arc<Socket>),
    /// One on a target.
    Reverse(ReverseShim),
}

impl Invoker {
    /// Tells it something. One that is gone is noticed elsewhere.
    async fn tell(&self, message: ToShim) {
        match self {
            Invoker::Local(socket) => {
                let _ = socket.send_message(&message, &[]).await;
            }
            Invoker::Reverse(shim) => shim.send(message),
        }
    }

    /// Tells it how its session ended.
    async fn conclude(&self, verdict: Verdict, host: &str, stdio: &mut Stdio, ask: &dyn Ask) {
        match self {
            Invoker::Local(socket) => {
                let told = match verdict {
                    Verdict::Told(message) => socket.send_message(&message, &[]).await,
                    Verdict::Failed { why, .. } => {
                        socket.send_message(&ToShim::Failed(why), &[]).await
                    }
                    Verdict::RealSsh { why, words } => match stdio.give_back() {
                        Some(descriptors) => {
                            let descriptors = descriptors.each_ref().map(AsFd::as_fd);
                            socket.send_message(&ToShim::RealSsh { why, words }, &descriptors).await
                        }
                        None => socket.send_message(&ToShim::Failed(why), &[]).await,
                    },
                };
                if let Err(error) = told {
                    // One that is gone is noticed elsewhere.
                    tracing::debug!(%error, "a shim was not told how its session ended");
                }
            }
            Invoker::Reverse(shim) => {
                let message = match verdict {
                    Verdict::Failed { why, for_target } => {
                        reverse::failed(host, why, for_target, ask).await
                    }
                    Verdict::Told(ToShim::Failed(why)) => {
                        reverse::failed(host, why, None, ask).await
                    }
                    Verdict::RealSsh { .. } => ToShim::Failed(not_from_a_target(host)),
                    Verdict::Told(message) => message,
                };
                // Its outputs have to be closed first. The slave keeps the tool's ends open.
                stdio.cut_handles();
                shim.send(message);
            }
        }
    }
}

/// How a session ended.
enum Verdict {
    Told(ToShim),
    Failed {
        why: String,
        /// The reason as a shim on a target may know it: nothing about this machine, and nothing
        /// about how places are reached from it. Without it, the person is told the reason, and
        /// such a shim that there is one.
        for_target: Option<String>,
    },
    /// The real `ssh` is to do it, for this reason, with the descriptors that were handed over.
    RealSsh {
        why: String,
        words: RealWords,
    },
}

/// What a shim on a target is told of a question to the real `ssh`: the one over there knows
/// nothing of the run's routes.
fn not_from_a_target(host: &str) -> String {
    format!("{host}: ssh -G is not answered on a target")
}

impl Verdict {
    /// A failure whose reason is not for targets.
    fn failed(why: String) -> Verdict {
        Verdict::Failed { why, for_target: None }
    }

    /// A failure whose reason any shim may know.
    fn open(why: impl Into<String>) -> Verdict {
        let why = why.into();
        Verdict::Failed { for_target: Some(why.clone()), why }
    }
}

/// What the invoker of a session says while it runs.
enum Messages {
    Local(Arc<Socket>),
    Reverse(mpsc::Receiver<FromShim>),
}

impl Messages {
    /// The next message; `None` when the invoker is gone. Cancel safe.
    async fn next(&mut self) -> Option<FromShim> {
        match self {
            Messages::Local(socket) => {
                let received = socket.receive_message::<FromShim>().await;
                received.ok().flatten().map(|(message, _)| message)
            }
            Messages::Reverse(said) => said.recv().await,
        }
    }
}

/// Serves one handoff of a local shim to its end.
///
/// Never fails: what goes wrong is said to the shim. When the shim goes away, or this is
/// cancelled, the session is hung up.
async fn handoff(run: Arc<Run>, admitted: Admitted) {
    let Admitted { handoff, stdio, socket } = admitted;
    let socket = Arc::new(socket);
    let (ask, answers) = ShimAsk::new(socket.clone());
    let ask: Arc<dyn Ask> =
        if handoff.invocation.batch { Arc::new(AskNobodyFor(ask.who())) } else { Arc::new(ask) };
    let ends = (Invoker::Local(socket.clone()), Messages::Local(socket));
    let stdio = Stdio::descriptors(stdio);
    serve_one(run, of_our_version(handoff), stdio, ends, ask, Some(answers)).await;
}

/// What a shim wants, if it speaks as we do.
fn of_our_version(handoff: Handoff) -> Result<Invocation, String> {
    if handoff.version == crate::VERSION {
        return Ok(handoff.invocation);
    }
    Err(format!(
        "this shim is of version {}, and the master of {}; start the tool again",
        handoff.version,
        crate::VERSION
    ))
}

/// Serves one session to its end, whoever its invoker is; or says why it is refused. Questions go
/// to `ask`.
///
/// This owns the standard streams, and everybody else borrows them: they are closed when they
/// have come to a good end, and else here, after the shim has said what happened and is gone. A
/// tool that sees the end of a stream before that may end its `ssh`, and the reason with it.
async fn serve_one(
    run: Arc<Run>,
    wanted: Result<Invocation, String>,
    mut stdio: Stdio,
    (invoker, mut messages): (Invoker, Messages),
    ask: Arc<dyn Ask>,
    answers: Option<mpsc::Sender<Option<fakessh_protocol::message::Secret>>>,
) {
    let signaller = OnceLock::new();
    let host = wanted.as_ref().map(|it| it.destination.host.clone()).unwrap_or_default();
    let listen = async {
        while let Some(message) = messages.next().await {
            match message {
                FromShim::Signal(number) => {
                    signaller.get().inspect(|signaller: &&Signaller| signaller.signal(number));
                }
                FromShim::Answer(answer) => {
                    answers.as_ref().map(|answers| answers.try_send(answer));
                }
            }
        }
    };
    let mut gone = std::pin::pin!(listen);
    let work = async {
        let verdict = match wanted {
            Ok(invocation) => {
                let mut record = Record::begin(&run, ask.who(), &invocation);
                let shim = Shim { invoker: &invoker, signaller: &signaller, record: &record };
                let verdict = verdict(run, invocation, &mut stdio, shim, ask.clone()).await;
                record.ended(&verdict);
                verdict
            }
            Err(why) => Verdict::open(why),
        };
        invoker.conclude(verdict, &host, &mut stdio, &*ask).await;
    };
    tokio::select! {
        () = work => {}
        // Dropping the work hangs up.
        () = &mut gone => return,
    }
    if stdio.is_held() {
        gone.await;
    }
}

/// The shim of a session, as long as the session runs.
struct Shim<'a> {
    invoker: &'a Invoker,
    /// Where its signals go, once there is a program.
    signaller: &'a OnceLock<Signaller>,
    record: &'a Record,
}

/// Finds the context, runs the session, and says what the shim is to be told.
async fn verdict(
    run: Arc<Run>,
    mut invocation: Invocation,
    stdio: &mut Stdio,
    shim: Shim<'_>,
    ask: Arc<dyn Ask>,
) -> Verdict {
    let is_local = matches!(shim.invoker, Invoker::Local(_));
    if !is_local && matches!(invocation.request, Request::Tool(_) | Request::Program(_)) {
        return Verdict::open("only the run itself starts its tool");
    }
    let route = match run.choose(&invocation) {
        Ok(Choice::Route(route)) => route,
        Ok(Choice::RealSsh { why, words }) => return Verdict::RealSsh { why, words },
        Err(why) => {
            let host = &invocation.destination.host;
            let for_target = match &invocation.unserved {
                Some(option) => format!("{host}: {option} is not supported yet"),
                None if invocation.request == Request::Configuration => not_from_a_target(host),
                // Which names it has is not for a target to know.
                None => format!("{host}: no --route of this run names it; add --route {host}=DEST"),
            };
            return Verdict::Failed { why, for_target: Some(for_target) };
        }
    };
    if let Some(command) = invocation.control {
        let held = run.held(&route, &invocation).await;
        return Verdict::Told(control(&run, &route.to_string(), command, held, &shim).await);
    }
    let Reached { context, options } = match run.reach(&route, &invocation, &ask).await {
        Ok(reached) => reached,
        Err(error) => return Verdict::failed(run.failure(&invocation, &route, &error)),
    };
    if let Some(keyword) = options.unserved(&invocation) {
        let what = format!("{keyword} of ssh_config");
        return match run.unserved(&invocation, &what) {
            Ok(Choice::RealSsh { why, words }) => Verdict::RealSsh { why, words },
            Ok(Choice::Route(_)) => Verdict::failed(what),
            Err(why) => Verdict::failed(why),
        };
    }
    if let Err(why) = run.check_user(&invocation, &context) {
        let Destination { user, host, .. } = &invocation.destination;
        let user = user.as_deref().unwrap_or_default();
        let text = format!(
            "{host}: programs run there as another user than {user}; name a --route that leads \
             to {user}"
        );
        return Verdict::Failed { why, for_target: Some(text) };
    }
    let Some(program) = program(&invocation.request) else {
        // A caller that reads our output to its end goes on: nothing will come.
        stdio.close();
        return Verdict::Told(keep(&run, &context, &invocation, shim).await);
    };
    if context.is_confirmed() {
        let mut what = record::shown(&invocation.request);
        what += &record::shown_variables(&options.variables(&invocation));
        if let Err(why) = run.confirm(&context, &what, &ask).await {
            return Verdict::failed(why);
        }
    }
    let streams = match stdio.open() {
        Ok(streams) => streams,
        Err(why) => return Verdict::failed(why),
    };
    let variables = options.variables(&invocation);
    let another = context.why_direct().map(|_| -> Deferred<_> {
        let caller = run.quiet_caller(&invocation);
        let (run, route) = (run.clone(), route.clone());
        Box::pin(async move { run.another(&route, &caller).await })
    });
    // Nobody looks at these again, and the session may last.
    (invocation.send_env, invocation.set_env) = Default::default();
    invocation.environment = Vec::new();
    Verdict::Told(match program {
        Program::Kind(program) => match context.open_with(program, variables, another) {
            Ok((session, _running)) => join(&context, session, &invocation, streams, shim).await,
            Err(lost) => ToShim::Failed(format!("{}: {lost}", context.name())),
        },
        Program::Tool(tool) => match context.open_tool(tool, variables).await {
            Ok((session, reverse, _running)) => tokio::select! {
                told = join(&context, session, &invocation, streams, shim) => told,
                never = serve_reverse(run.clone(), reverse, ask, context.name()) => match never {},
            },
            Err(why) => ToShim::Failed(format!("{}: {why}", context.name())),
        },
    })
}

/// What to start.
enum Program {
    Kind(ProgramKind),
    Tool(Tool),
}

fn program(request: &Request) -> Option<Program> {
    Some(Program::Kind(match request {
        Request::Login => ProgramKind::Login,
        Request::Command(command) => ProgramKind::Shell(command.clone()),
        Request::Subsystem(name) => ProgramKind::Subsystem(name.clone()),
        Request::Program(argv) => ProgramKind::Program(argv.clone()),
        Request::Tool(argv) => return Some(Program::Tool(Tool { argv: argv.clone() })),
        Request::Nothing | Request::Configuration => return None,
    }))
}

/// `-O`: says what `ssh -O` would.
async fn control(
    run: &Run,
    host: &str,
    command: ControlCommand,
    found: Option<Arc<Context>>,
    shim: &Shim<'_>,
) -> ToShim {
    let Some(context) = found.filter(|context| context.is_usable()) else {
        return ToShim::Failed(format!("{host}: there is no connection"));
    };
    match command {
        ControlCommand::Check => {
            let text = match shim.invoker {
                Invoker::Local(_) => format!("master running (pid={})", std::process::id()),
                Invoker::Reverse(_) => "master running".to_owned(),
            };
            shim.invoker.tell(ToShim::Notice(Notice::ours(text))).await;
        }
        // The connection is not the tool's to end: it may serve others. What the tool started
        // to keep it (`-N`) ends.
        ControlCommand::Exit | ControlCommand::Stop => run.release(&context),
    }
    ToShim::Exited(ExitStatus::Code(0))
}

/// `-N`: keeps the context until the shim goes, or the context does.
async fn keep(
    run: &Run,
    context: &Arc<Context>,
    invocation: &Invocation,
    shim: Shim<'_>,
) -> ToShim {
    let Some(_held) = context.hold(Use::Dependent) else {
        return ToShim::Failed(format!("{}: the connection was just closed", context.name()));
    };
    shim.record.started(context, Traffic::default());
    let notify = run.released(context);
    // Whoever was told that the session runs may release it at once.
    let released = notify.notified();
    if invocation.announce {
        shim.invoker.tell(ToShim::Started).await;
    }
    tokio::select! {
        lost = context.lost() => ToShim::Failed(format!("{}: {lost}", context.name())),
        () = released => ToShim::Exited(ExitStatus::Code(0)),
    }
}

/// Joins a program to its invoker, until it has ended.
async fn join(
    context: &Context,
    session: SessionIo,
    invocation: &Invocation,
    Streams { stdin, outputs: [stdout, stderr] }: &mut Streams,
    shim: Shim<'_>,
) -> ToShim {
    let name = context.name();
    if invocation.announce {
        shim.invoker.tell(ToShim::Started).await;
    }
    shim.record.started(context, session.control.traffic());
    let mut control = session.control;
    let _ = shim.signaller.set(control.signaller());
    let output = async {
        tokio::join!(
            pump::receive(session.stdout, stdout),
            pump::receive(session.stderr, stderr),
            control.outcome(),
        )
    };
    // Input goes on as long as there is output, and ends with it.
    let input = async {
        match pump::send(stdin, session.stdin).await {
            Sent::Whole | Sent::Unwanted | Sent::Over => std::future::pending().await,
            Sent::Failed(error) => error,
        }
    };
    let (stdout, stderr, outcome) = tokio::select! {
        biased;
        ended = output => ended,
        // Returning hangs up: the program must not take what it got for the whole.
        error = input => return ToShim::Failed(format!("{name}: reading standard input: {error}")),
    };
    match outcome {
        Outcome::Exited(status) => exited(name, status, stdout, stderr),
        Outcome::Refused(refusal) => {
            let text = format!("{name}: {}", one_line(&refusal.message));
            match status_of_refusal(invocation, &refusal) {
                Some(status) => {
                    shim.invoker.tell(ToShim::Notice(Notice::ours(text))).await;
                    ToShim::Exited(status)
                }
                None => ToShim::Failed(text),
            }
        }
        Outcome::Lost(lost) => ToShim::Failed(format!("{name}: {lost}")),
    }
}

/// What a shell would say of a program that could not be started; ssh has no such thing.
fn status_of_refusal(invocation: &Invocation, refusal: &Refusal) -> Option<ExitStatus> {
    let (Request::Tool(_) | Request::Program(_)) = invocation.request else { return None };
    match refusal.reason {
        RefusalReason::NotFound => Some(ExitStatus::Code(127)),
        RefusalReason::Other => Some(ExitStatus::Code(126)),
        RefusalReason::Limit => None,
    }
}

/// A program has ended: its status counts where its output is where it should be.
fn exited(name: &str, status: ExitStatus, stdout: Received, stderr: Received) -> ToShim {
    for (stream, received) in [("output", stdout), ("error", stderr)] {
        match received {
            Received::Whole | Received::Unwanted => {}
            Received::Cut => {
                return ToShim::Failed(format!("{name}: the program's output was cut short"));
            }
            Received::Failed(error) => {
                return ToShim::Failed(format!("{name}: writing standard {stream}: {error}"));
            }
        }
    }
    ToShim::Exited(status)
}
