//! What the audit log gets of a session and its forwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::invocation::{Invocation, Request};

use super::outcome::SessionOutcome;
use crate::audit::{Audit, End, Event, ForwardEvent, LoggedCommand, Refusals, SessionEvent, Who};
use crate::context::Context;
use crate::link::Traffic;
use crate::open_forwards::{Connections, OpenForward};
use crate::run::Run;

/// A session that is to be noted when it is over, however that comes. `None` after that, and for
/// what is no session.
pub(super) struct Record(Option<Entry>);

struct Entry {
    audit: Audit,
    refusals: Arc<Refusals>,
    run: u64,
    by: Option<Who>,
    host: String,
    program: String,
    command: LoggedCommand,
    begun: Instant,
    ran_at: OnceLock<RanAt>,
    agent: OnceLock<Arc<AtomicU64>>,
}

/// Where it runs.
struct RanAt {
    context: String,
    id: String,
    user: String,
    traffic: Traffic,
}

impl Record {
    pub(super) fn begin(run: &Run, by: Option<Who>, invocation: &Invocation) -> Record {
        if invocation.request == Request::Configuration {
            return Record(None);
        }
        let audit = run.audit().clone();
        let (program, command) = match &invocation.request {
            Request::Login => ("login".to_owned(), LoggedCommand::default()),
            Request::Command(command) => ("command".to_owned(), audit.command(command)),
            Request::Subsystem(name) => (name.clone(), LoggedCommand::default()),
            Request::Tool(argv) => ("tool".to_owned(), audit.command(&argv.join(&b' '))),
            Request::Program(argv) => ("program".to_owned(), audit.command(&argv.join(&b' '))),
            Request::Connection(to) => {
                ("connection".to_owned(), audit.command(to.peer.to_string().as_bytes()))
            }
            Request::Stdio(peer) => {
                ("stdio".to_owned(), audit.command(peer.to_string().as_bytes()))
            }
            Request::Nothing | Request::Configuration => {
                ("nothing".to_owned(), LoggedCommand::default())
            }
        };
        Record(Some(Entry {
            audit,
            refusals: run.refusals().clone(),
            run: run.id(),
            by,
            host: invocation.destination.host.clone(),
            program,
            command,
            begun: Instant::now(),
            ran_at: OnceLock::new(),
            agent: OnceLock::new(),
        }))
    }

    /// Its program may reach an agent here. Returns what counts how often it does.
    pub(super) fn count_agent(&self) -> Arc<AtomicU64> {
        let count = Arc::default();
        if let Some(entry) = &self.0 {
            let _ = entry.agent.set(Arc::clone(&count));
        }
        count
    }

    /// Its program was asked for there.
    pub(super) fn started(&self, context: &Context, traffic: Traffic) {
        let Some(entry) = &self.0 else { return };
        let _ = entry.ran_at.set(RanAt {
            context: context.name().to_owned(),
            id: context.id().to_string(),
            user: context.user().to_owned(),
            traffic,
        });
    }

    /// It is over.
    pub(super) fn ended(&mut self, outcome: &SessionOutcome) {
        let end = match outcome {
            SessionOutcome::Exited(ExitStatus::Code(code)) => End::Status(*code),
            SessionOutcome::Exited(ExitStatus::Signal(number)) => End::Signal(*number),
            SessionOutcome::Failed(denied) => End::Failed(denied.failure.message.clone()),
            // The real ssh's.
            SessionOutcome::RealSsh { .. } => return self.0 = None,
        };
        self.note(end);
    }

    fn note(&mut self, end: End) {
        let Some(Entry { audit, refusals, run, by, host, program, command, begun, ran_at, agent }) =
            self.0.take()
        else {
            return;
        };
        let Some(RanAt { context, id, user, traffic }) = ran_at.into_inner() else {
            if let End::Failed(why) = end {
                refusals.note(&Event::Refused { what: host, why, by });
            }
            return;
        };
        audit.note(&Event::Session(Box::new(SessionEvent {
            ms: since(begun),
            run,
            by,
            host,
            context,
            id,
            user,
            program,
            command,
            input: traffic.stdin.load(Ordering::Relaxed),
            output: traffic.stdout.load(Ordering::Relaxed),
            errors: traffic.stderr.load(Ordering::Relaxed),
            agent: agent.get().map(|count| count.load(Ordering::Relaxed)),
            end,
        })));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.note(End::Failed("the invoker went away".to_owned()));
    }
}

/// Milliseconds since then.
fn since(begun: Instant) -> u64 {
    begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

/// A forward of a session, which is noted when this is dropped.
pub(super) struct ForwardRecord {
    audit: Audit,
    run: u64,
    by: Option<Who>,
    begun: Instant,
    context: String,
    id: String,
    forward: String,
    port: u16,
    connections: Arc<Connections>,
}

impl ForwardRecord {
    pub(super) fn begin(run: &Run, by: Option<Who>, context: &Context, open: &OpenForward) -> Self {
        ForwardRecord {
            audit: run.audit().clone(),
            run: run.id(),
            by,
            begun: Instant::now(),
            context: context.name().to_owned(),
            id: context.id().to_string(),
            forward: open.forward.to_string(),
            port: open.port,
            connections: open.connections.clone(),
        }
    }
}

impl Drop for ForwardRecord {
    fn drop(&mut self) {
        self.audit.note(&Event::Forward(Box::new(ForwardEvent {
            ms: since(self.begun),
            run: self.run,
            by: self.by.take(),
            context: std::mem::take(&mut self.context),
            id: std::mem::take(&mut self.id),
            forward: std::mem::take(&mut self.forward),
            port: self.port,
            connections: self.connections.counts().1,
        })));
    }
}
