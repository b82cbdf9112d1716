//! What becomes of an invocation: the run's answer to a handoff.

use std::sync::Arc;

use fakessh_protocol::failure::Failure;
use fakessh_protocol::invocation::{Destination, Invocation, Request};
use fakessh_protocol::message::{Connection, ProgramKind, ProgramSetup, RealWords, Tool};

use super::Run;
use super::confirm::AskedUse;
use super::real_ssh::Choice;
use crate::caller::{Ask, detail};
use crate::context::{Context, Reached, WantedForwards};
use crate::hop::ssh::{Deferred, SshConnection};

/// What is to be done for an invocation.
pub(crate) enum Plan {
    /// To start a program.
    Start(Box<Start>),
    /// To keep a context (`-N`), until it is released or lost, and forwards through it.
    Keep(Arc<Context>, WantedForwards),
    /// To leave the invocation to the real `ssh`.
    RealSsh {
        /// Why.
        why: String,
        /// What the real `ssh` is run with.
        words: RealWords,
    },
}

/// A program, and where to start it.
pub(crate) struct Start {
    pub(crate) context: Arc<Context>,
    pub(crate) program: Program,
    pub(crate) setup: ProgramSetup,
    /// The escape character of a session on a terminal, as the configuration names it.
    pub(crate) escape: Option<u8>,
    pub(crate) forwards: WantedForwards,
    /// The path of the agent that the session gets, on this host.
    pub(crate) agent: Option<Vec<u8>>,
    /// What the person is to be told first.
    pub(crate) notice: Option<&'static str>,
    /// Makes a connection for this session alone.
    pub(crate) another: Option<Deferred<Option<SshConnection>>>,
}

/// What to start.
pub(crate) enum Program {
    /// The program that an `ssh` asks for.
    OfSsh(ProgramKind),
    /// A program with its arguments kept apart, as `fakessh exec` asks for.
    Exec(ProgramKind),
    /// The tool of the run.
    Tool(Tool),
    /// A connection whose bytes are those of standard input and output (`-W`).
    Stdio(ProgramKind),
}

/// Why an invocation gets no session, or did not have it to its end.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) failure: Failure,
    /// The reason as a shim on a target may know it: nothing about this machine, and nothing about
    /// the paths from it. If there is none, the person is told the reason, and such a shim that
    /// there is one.
    pub(crate) for_target: Option<String>,
}

/// A failure whose reason is not for targets.
impl From<Failure> for Denied {
    fn from(failure: Failure) -> Denied {
        Denied { failure, for_target: None }
    }
}

impl Denied {
    /// A failure whose reason any shim may know.
    pub(crate) fn open(failure: Failure) -> Denied {
        Denied { for_target: Some(failure.message.clone()), failure }
    }
}

impl Run {
    /// Decides what becomes of an invocation, and connects what it needs. Questions go to `ask`. For
    /// an invocation that is a master for others, there is also a run that leads to its context
    /// alone.
    pub(crate) async fn resolve(
        self: &Arc<Run>,
        invocation: &Invocation,
        ask: &Arc<dyn Ask>,
    ) -> Result<(Plan, Option<Arc<Run>>), Denied> {
        let host = &invocation.destination.host;
        let route = match self.choose(invocation) {
            Ok(Choice::Route(route)) => route,
            Ok(Choice::RealSsh { why, words }) => return Ok((Plan::RealSsh { why, words }, None)),
            Err(failure) => {
                let for_target = match &invocation.unserved {
                    Some(option) => format!("{host}: {option} is not supported yet"),
                    None if invocation.request == Request::Configuration => not_from_a_target(host),
                    // Which names it has is not for a target to know.
                    None => {
                        format!("{host}: no --route of this run names it; add --route {host}=DEST")
                    }
                };
                return Err(Denied { failure, for_target: Some(for_target) });
            }
        };
        if route.to_string() != *host {
            detail(&**ask, 1, || format!("{host} is the route {route}")).await;
        }
        let reached = self.reach(&route, invocation, ask).await;
        let reached = reached.map_err(|error| self.failure(invocation, &route, &error))?;
        let pinned = invocation.multiplex.as_ref().map(|_| {
            let run = self.pinned_to(route.clone(), reached.clone(), ask);
            Arc::new(run)
        });
        let Reached { context, options } = reached;
        detail(&**ask, 1, || described(&context)).await;
        // What a client of the master asks for is no `ssh`.
        let keyword = options.unserved(invocation).filter(|_| self.pinned.is_none());
        if let Some(keyword) = keyword {
            return match self.unserved(invocation, &format!("{keyword} of ssh_config"))? {
                Choice::RealSsh { why, words } => Ok((Plan::RealSsh { why, words }, None)),
                Choice::Route(_) => Err(Failure::other(keyword).into()),
            };
        }
        if let Err(failure) = self.check_user(invocation, &context) {
            let Destination { user, host, .. } = &invocation.destination;
            let user = user.as_deref().unwrap_or_default();
            let text = format!(
                "{host}: programs run there as another user than {user}; name a --route that leads \
                 to {user}"
            );
            return Err(Denied { failure, for_target: Some(text) });
        }
        let forwards = options.forwards(invocation);
        let program = program(&invocation.request);
        let (terminal, notice) = match program {
            Some(_) => options.terminal(invocation),
            None => (None, None),
        };
        let setup = ProgramSetup {
            environment: options.variables(invocation),
            directory: invocation.starts_in.clone(),
            terminal,
            agent: None,
        };
        let agent = program.as_ref().and_then(|_| options.agent(invocation));
        detail(&**ask, 2, || described_setup(&invocation.request, &setup)).await;
        if context.is_confirmed() && (program.is_some() || !forwards.forwards.is_empty()) {
            let asked = AskedUse {
                request: &invocation.request,
                setup: &setup,
                forwards: &forwards.forwards,
                agent: agent.is_some(),
            };
            self.confirm(&context, asked, ask).await?;
        }
        let Some(program) = program else {
            return Ok((Plan::Keep(context, forwards), pinned));
        };
        let another = context.why_direct().map(|_| -> Deferred<_> {
            let caller = self.quiet_caller(invocation);
            let run = self.clone();
            Box::pin(async move { run.another(&route, &caller).await })
        });
        let escape = options.escape();
        let start = Start { context, program, setup, escape, forwards, agent, notice, another };
        Ok((Plan::Start(Box::new(start)), pinned))
    }
}

/// A context, for a person who looks for a fault.
fn described(context: &Context) -> String {
    let (id, name, user) = (context.id(), context.name(), context.user());
    let age = context.since().elapsed().unwrap_or_default().as_secs();
    let how = match context.why_direct() {
        None => "its slave serves the session".to_owned(),
        Some(why) => format!("the session is an SSH channel, since no slave runs there: {why}"),
    };
    format!("using the connection {id} to {name}, as {user}, open for {age} s; {how}")
}

/// What a session is started with, for such a person.
fn described_setup(request: &Request, setup: &ProgramSetup) -> String {
    let what = match request {
        Request::Login => "a login shell".to_owned(),
        Request::Command(command) => format!("the command {}", String::from_utf8_lossy(command)),
        Request::Subsystem(name) => format!("the subsystem {name}"),
        _ => "a program".to_owned(),
    };
    let names = setup.environment.iter().map(|(name, _)| String::from_utf8_lossy(name));
    let names: Vec<_> = names.collect();
    let terminal = if setup.terminal.is_some() { "on a terminal" } else { "without a terminal" };
    let variables = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    format!("starting {what}, {terminal}, with variables {variables}")
}

/// What a shim on a target is told of a question to the real `ssh`: the one over there knows
/// nothing of the run's routes.
pub(crate) fn not_from_a_target(host: &str) -> String {
    format!("{host}: ssh -G is not answered on a target")
}

fn program(request: &Request) -> Option<Program> {
    Some(match request {
        Request::Login => Program::OfSsh(ProgramKind::Login),
        Request::Command(command) => Program::OfSsh(ProgramKind::Shell(command.clone())),
        Request::Subsystem(name) => Program::OfSsh(ProgramKind::Subsystem(name.clone())),
        Request::Program(argv) => Program::Exec(ProgramKind::Program(argv.clone())),
        Request::Connection(to) => Program::OfSsh(ProgramKind::Connection(to.clone())),
        Request::Tool(argv) => Program::Tool(Tool { argv: argv.clone() }),
        Request::Stdio(peer) => {
            let connection = Connection { peer: peer.clone(), reports: true };
            Program::Stdio(ProgramKind::Connection(connection))
        }
        Request::Nothing | Request::Configuration => return None,
    })
}
