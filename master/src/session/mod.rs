//! Sessions: joins a shim's descriptors to a program at the end of a link.

mod ask;
mod serve;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::invocation::{ControlCommand, Invocation, Request};
use fakessh_protocol::message::{FromShim, ProgramKind, ToShim};

use crate::caller::{Ask, Caller};
use crate::context::{Context, ContextError, Reached};
use crate::limits;
use crate::link::{Outcome, Signaller};
use crate::pump::{self, Received, Sent, Sink, Source};
use crate::run::{Choice, Run};
use crate::socket::Socket;

use ask::ShimAsk;
use serve::Admitted;
pub(crate) use serve::serve;

/// Standard input, output and error of a shim.
type Stdio = [OwnedFd; 3];

/// Serves one handoff to its end.
///
/// Never fails: what goes wrong is said to the shim. When the shim goes away, or this is
/// cancelled, the session is hung up.
async fn handoff(run: Arc<Run>, admitted: Admitted) {
    let Admitted { handoff, stdio, socket } = admitted;
    let socket = Arc::new(socket);
    let signaller = OnceLock::new();
    let (ask, answers) = ShimAsk::new(socket.clone());
    let listen = async {
        while let Ok(Some((message, _))) = socket.receive_message::<FromShim>().await {
            match message {
                FromShim::Signal(number) => {
                    signaller.get().inspect(|signaller: &&Signaller| signaller.signal(number));
                }
                FromShim::Answer(answer) => drop(answers.try_send(answer)),
            }
        }
    };
    let work = async {
        let (verdict, returned) = if handoff.version == crate::VERSION {
            let shim = Shim { socket: &socket, signaller: &signaller };
            verdict(run, handoff.invocation, stdio, shim, ask).await
        } else {
            let text = format!(
                "this shim is of version {}, and the master of {}; start the tool again",
                handoff.version,
                crate::VERSION
            );
            (ToShim::Failed(text), None)
        };
        let returned = returned.as_ref().map(|stdio| stdio.each_ref().map(AsFd::as_fd));
        let _ = socket.send_message(&verdict, returned.as_ref().map_or(&[], |fds| fds)).await;
    };
    tokio::select! {
        () = work => {}
        // The shim is gone: dropping the work hangs up.
        () = listen => {}
    }
}

/// The shim of a session, as long as the session runs.
struct Shim<'a> {
    socket: &'a Socket,
    /// Where its signals go, once there is a program.
    signaller: &'a OnceLock<Signaller>,
}

/// Finds the context, runs the session, and says what the shim is to be told, with the
/// descriptors that go back to it.
async fn verdict(
    run: Arc<Run>,
    invocation: Invocation,
    stdio: Stdio,
    shim: Shim<'_>,
    ask: ShimAsk,
) -> (ToShim, Option<Stdio>) {
    let target = match run.choose(&invocation) {
        Ok(Choice::Target(target)) => target,
        Ok(Choice::RealSsh(why)) => return (ToShim::RealSsh(why), Some(stdio)),
        Err(why) => return (ToShim::Failed(why), None),
    };
    let ask: Arc<dyn Ask> =
        if invocation.batch { Arc::new(crate::caller::AskNobody) } else { Arc::new(ask) };
    let caller = Caller::of_invocation(&invocation, ask);
    if let Some(command) = invocation.control {
        let held = run.held(&target, &caller).await;
        return (control(&run, &target.host, command, held, &shim).await, None);
    }
    let Reached { context, options } = match run.reach(&target, &caller).await {
        Ok(reached) => reached,
        // No slave can be started there: a forced command, no shell. ssh needs none.
        Err(error @ ContextError::Start(_)) if run.leaves_to_real_ssh() => {
            return (ToShim::RealSsh(error.to_string()), Some(stdio));
        }
        Err(error) => return (ToShim::Failed(format!("{}: {error}", target.host)), None),
    };
    if let Err(why) = run.check_user(&invocation, &context) {
        return (ToShim::Failed(why), None);
    }
    let verdict = match program(&invocation.request) {
        Some(program) => {
            let start = Start { program, variables: options.variables(&invocation) };
            join(&context, start, &invocation, stdio, shim).await
        }
        None => {
            // A caller that reads our output to its end goes on: nothing will come.
            drop(stdio);
            keep(&run, &context, &invocation, shim).await
        }
    };
    (verdict, None)
}

/// What to start, with the variables that go along.
struct Start {
    program: ProgramKind,
    variables: Vec<(Vec<u8>, Vec<u8>)>,
}

fn program(request: &Request) -> Option<ProgramKind> {
    match request {
        Request::Login => Some(ProgramKind::Login),
        Request::Command(command) => Some(ProgramKind::Shell(command.clone())),
        Request::Subsystem(name) => Some(ProgramKind::Subsystem(name.clone())),
        Request::Nothing => None,
    }
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
            let text = format!("master running (pid={})", std::process::id());
            let _ = shim.socket.send_message(&ToShim::Notice(text), &[]).await;
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
        let _ = shim.socket.send_message(&ToShim::Started, &[]).await;
    }
    tokio::select! {
        lost = context.link().lost() => ToShim::Failed(format!("{}: {lost}", context.name())),
        () = released => ToShim::Exited(ExitStatus::Code(0)),
    }
}

/// Runs a program, joined to the shim's descriptors.
async fn join(
    context: &Context,
    start: Start,
    invocation: &Invocation,
    stdio: Stdio,
    shim: Shim<'_>,
) -> ToShim {
    let name = context.name();
    let [stdin, stdout, stderr] = stdio;
    let source = Source::new(stdin);
    let (stdout, stderr) = Sink::pair(stdout, stderr);
    // Before anything is started: what can't be had is no fault of a stream.
    let failures = [source.as_ref().err(), stdout.as_ref().err(), stderr.as_ref().err()];
    if failures.into_iter().flatten().any(limits::is_reached) {
        return ToShim::Failed(limits::refusal());
    }
    let (session, _running) = match context.open(start.program, start.variables) {
        Ok(session) => session,
        Err(lost) => return ToShim::Failed(format!("{name}: {lost}")),
    };
    if invocation.announce {
        let _ = shim.socket.send_message(&ToShim::Started, &[]).await;
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
        match pump::send(source, session.stdin).await {
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
        Outcome::Refused(refusal) => ToShim::Failed(format!("{name}: {}", refusal.message)),
        Outcome::Lost(lost) => ToShim::Failed(format!("{name}: {lost}")),
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
