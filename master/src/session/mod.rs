//! Sessions: joins a shim's descriptors to a program at the end of a link.

mod ask;
mod raised;
mod serve;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::invocation::{ControlCommand, Destination, Invocation, Request};
use fakessh_protocol::message::{
    FromShim, Handoff, Notice, ProgramKind, Refusal, RefusalReason, ToShim, Tool,
};
use fakessh_protocol::printable::one_line;
use tokio::sync::mpsc;

use crate::caller::Ask;
use crate::context::{Context, Reached};
use crate::limits;
use crate::link::{Outcome, RaisedShim, Session, Signaller};
use crate::pump::{self, Input, Output, Received, Sent, Sink, Source};
use crate::run::{Choice, Run};
use crate::socket::Socket;

use ask::ShimAsk;
use raised::serve_raised;
use serve::Admitted;
pub(crate) use serve::serve;

/// Where a session's bytes come from and go to.
enum Stdio {
    /// What a local shim handed over: standard input, output and error.
    Descriptors([OwnedFd; 3]),
    /// The handles of a slave whose tool called `ssh`.
    Handles(Box<Streams>),
}

/// What a program's input comes from, and its output and errors go to.
type Streams = (Input, Output, Output);

impl Stdio {
    /// Gets ready to move bytes, before anything is started.
    ///
    /// # Errors
    /// One line where there are too few descriptors for it. What else can't be used is a fault of
    /// its stream, and shows there.
    fn open(self) -> Result<Streams, String> {
        let [stdin, stdout, stderr] = match self {
            Stdio::Descriptors(descriptors) => descriptors,
            Stdio::Handles(handles) => return Ok(*handles),
        };
        let source = Source::new(stdin);
        let (stdout, stderr) = Sink::pair(stdout, stderr);
        let failures = [source.as_ref().err(), stdout.as_ref().err(), stderr.as_ref().err()];
        if failures.into_iter().flatten().any(limits::is_reached) {
            return Err(limits::refusal());
        }
        Ok((Input::Descriptor(source), Output::Descriptor(stdout), Output::Descriptor(stderr)))
    }
}

/// Who waits for a session's end.
enum Invoker {
    /// A shim on this host.
    Local(Arc<Socket>),
    /// One on a target.
    Raised(RaisedShim),
}

impl Invoker {
    /// Tells it something. One that is gone is noticed elsewhere.
    async fn tell(&self, message: ToShim) {
        match self {
            Invoker::Local(socket) => {
                let _ = socket.send_message(&message, &[]).await;
            }
            Invoker::Raised(shim) => shim.tell(message),
        }
    }
}

/// What the invoker of a session says while it runs.
enum Said {
    Local(Arc<Socket>),
    Raised(mpsc::Receiver<FromShim>),
}

impl Said {
    /// The next message; `None` when the invoker is gone. Cancel safe.
    async fn next(&mut self) -> Option<FromShim> {
        match self {
            Said::Local(socket) => {
                let received = socket.receive_message::<FromShim>().await;
                received.ok().flatten().map(|(message, _)| message)
            }
            Said::Raised(said) => said.recv().await,
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
        if handoff.invocation.batch { Arc::new(crate::caller::AskNobody) } else { Arc::new(ask) };
    let stdio = Stdio::Descriptors(stdio);
    let invoker = Invoker::Local(socket.clone());
    serve_one(run, handoff, stdio, (invoker, Said::Local(socket)), ask, Some(answers)).await;
}

/// Serves one session to its end, whoever its invoker is. Questions go to `ask`.
async fn serve_one(
    run: Arc<Run>,
    handoff: Handoff,
    stdio: Stdio,
    (invoker, mut said): (Invoker, Said),
    ask: Arc<dyn Ask>,
    answers: Option<mpsc::Sender<Option<fakessh_protocol::message::Secret>>>,
) {
    let signaller = OnceLock::new();
    let host = handoff.invocation.destination.host.clone();
    let listen = async {
        while let Some(message) = said.next().await {
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
    let work = async {
        let Verdict { told, for_target, returned, outputs } = if handoff.version == crate::VERSION {
            let shim = Shim { invoker: &invoker, signaller: &signaller };
            verdict(run, handoff.invocation, stdio, shim, ask.clone()).await
        } else {
            let text = format!(
                "this shim is of version {}, and the master of {}; start the tool again",
                handoff.version,
                crate::VERSION
            );
            Verdict::open(text)
        };
        let told = match (&invoker, told) {
            (Invoker::Raised(_), ToShim::Failed(why)) => {
                raised::failed(&host, why, for_target, &*ask).await
            }
            (_, told) => told,
        };
        match (&invoker, returned) {
            (Invoker::Local(socket), Some(stdio)) => {
                let stdio = stdio.each_ref().map(AsFd::as_fd);
                let _ = socket.send_message(&told, &stdio).await;
            }
            _ => invoker.tell(told).await,
        }
        // Whoever reads such an output would take its end for a good one, and may even end the
        // shim: so that comes when the shim has said what happened, and is gone.
        if outputs.iter().any(Output::is_waited_for) {
            std::future::pending().await
        }
    };
    tokio::select! {
        () = work => {}
        // The shim is gone: dropping the work hangs up.
        () = listen => {}
    }
}

/// The shim of a session, as long as the session runs.
struct Shim<'a> {
    invoker: &'a Invoker,
    /// Where its signals go, once there is a program.
    signaller: &'a OnceLock<Signaller>,
}

/// How a session ended.
struct Verdict {
    told: ToShim,
    /// Why the session failed, as a shim on a target may know it: nothing about this machine, and
    /// nothing about how places are reached from it. Without it, the person is told the reason, and
    /// such a shim that there is one.
    for_target: Option<String>,
    /// Descriptors that go back to the shim.
    returned: Option<[OwnedFd; 3]>,
    /// Those of the program that have not come to a good end are open until the shim was told.
    outputs: [Output; 2],
}

impl Verdict {
    /// A failure whose reason any shim may know.
    fn open(why: String) -> Verdict {
        Verdict { for_target: Some(why.clone()), ..ToShim::Failed(why).into() }
    }
}

impl From<ToShim> for Verdict {
    fn from(told: ToShim) -> Verdict {
        Verdict {
            told,
            for_target: None,
            returned: None,
            outputs: [Output::Closed, Output::Closed],
        }
    }
}

/// Finds the context, runs the session, and says what the shim is to be told.
async fn verdict(
    run: Arc<Run>,
    mut invocation: Invocation,
    stdio: Stdio,
    shim: Shim<'_>,
    ask: Arc<dyn Ask>,
) -> Verdict {
    let is_local = matches!(shim.invoker, Invoker::Local(_));
    if !is_local && matches!(invocation.request, Request::Tool(_)) {
        return Verdict::open("only the run itself starts its tool".to_owned());
    }
    let route = match run.choose(&invocation) {
        Ok(Choice::Route(route)) => route,
        Ok(Choice::RealSsh(why)) => {
            return match stdio {
                Stdio::Descriptors(stdio) => {
                    Verdict { returned: Some(stdio), ..ToShim::RealSsh(why).into() }
                }
                Stdio::Handles(_) => ToShim::Failed(why).into(),
            };
        }
        Err(why) => {
            let host = &invocation.destination.host;
            let for_target = Some(match &invocation.unserved {
                Some(option) => format!("{host}: {option} is not supported yet"),
                // Which names it has is not for a target to know.
                None => {
                    format!("{host}: no --route of this run names it; add --route {host}=DEST")
                }
            });
            return Verdict { for_target, ..ToShim::Failed(why).into() };
        }
    };
    if let Some(command) = invocation.control {
        let held = run.held(&route, &invocation).await;
        return control(&run, &route.to_string(), command, held, &shim).await.into();
    }
    let Reached { context, options } = match run.reach(&route, &invocation, &ask).await {
        Ok(reached) => reached,
        Err(error) => return ToShim::Failed(format!("{route}: {error}")).into(),
    };
    if let Err(why) = run.check_user(&invocation, &context) {
        let Destination { user, host, .. } = &invocation.destination;
        let user = user.as_deref().unwrap_or_default();
        let text = format!(
            "{host}: programs run there as another user than {user}; name a --route that leads \
             to {user}"
        );
        return Verdict { for_target: Some(text), ..ToShim::Failed(why).into() };
    }
    let Some(program) = program(&invocation.request) else {
        // A caller that reads our output to its end goes on: nothing will come.
        drop(stdio);
        return keep(&run, &context, &invocation, shim).await.into();
    };
    let (stdin, mut outputs) = match stdio.open() {
        Ok((stdin, stdout, stderr)) => (stdin, [stdout, stderr]),
        Err(why) => return ToShim::Failed(why).into(),
    };
    let streams = (stdin, &mut outputs);
    let variables = options.variables(&invocation);
    // Nobody looks at these again, and the session may last.
    (invocation.send_env, invocation.set_env) = Default::default();
    invocation.environment = Vec::new();
    let told = match program {
        Program::Kind(program) => match context.open(program, variables) {
            Ok((session, _running)) => join(&context, session, &invocation, streams, shim).await,
            Err(lost) => ToShim::Failed(format!("{}: {lost}", context.name())),
        },
        Program::Tool(tool) => match context.open_tool(tool, variables) {
            Ok((session, raised, _running)) => tokio::select! {
                told = join(&context, session, &invocation, streams, shim) => told,
                never = serve_raised(run.clone(), raised, ask) => match never {},
            },
            Err(why) => ToShim::Failed(format!("{}: {why}", context.name())),
        },
    };
    Verdict { outputs, ..told.into() }
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
        Request::Tool(argv) => return Some(Program::Tool(Tool { argv: argv.clone() })),
        Request::Nothing => return None,
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
    let Some(context) = found.filter(|context| !context.is_lost()) else {
        return ToShim::Failed(format!("{host}: there is no connection"));
    };
    match command {
        ControlCommand::Check => {
            let text = match shim.invoker {
                Invoker::Local(_) => format!("master running (pid={})", std::process::id()),
                Invoker::Raised(_) => "master running".to_owned(),
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

/// Joins a program to its invoker, until it has ended. Its outputs are closed where all that it
/// said is there.
async fn join(
    context: &Context,
    session: Session,
    invocation: &Invocation,
    (stdin, [stdout, stderr]): (Input, &mut [Output; 2]),
    shim: Shim<'_>,
) -> ToShim {
    let name = context.name();
    if invocation.announce {
        shim.invoker.tell(ToShim::Started).await;
    }
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
            Sent::Whole | Sent::Unwanted => std::future::pending().await,
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

/// What a shell would say of a tool that could not be started; ssh has no such thing.
fn status_of_refusal(invocation: &Invocation, refusal: &Refusal) -> Option<ExitStatus> {
    let Request::Tool(_) = invocation.request else { return None };
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
