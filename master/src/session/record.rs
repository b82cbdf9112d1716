//! What the audit log gets of a session.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::invocation::{Invocation, Request};
use fakessh_protocol::message::ToShim;
use fakessh_protocol::printable::word;

use super::Verdict;
use crate::audit::{Audit, Command, End, Event, Refusals, SessionEvent, Who};
use crate::context::Context;
use crate::link::Traffic;
use crate::run::Run;

/// Most variables that a question names, and most characters of each name.
const MAX_NAMES: usize = 5;
const MAX_NAME: usize = 40;

/// Most characters of a command in a question.
const MAX_SHOWN: usize = 200;

/// A session that is to be noted when it is over, however that comes.
pub(super) struct Record {
    audit: Audit,
    refusals: Arc<Refusals>,
    run: u64,
    by: Option<Who>,
    host: String,
    program: String,
    command: Command,
    begun: Instant,
    place: OnceLock<Place>,
    /// Whether it is something else than a session, or was noted.
    is_over: bool,
}

/// Where it runs.
struct Place {
    context: String,
    id: String,
    user: String,
    traffic: Traffic,
}

impl Record {
    pub(super) fn begin(run: &Run, by: Option<Who>, invocation: &Invocation) -> Record {
        let audit = run.audit().clone();
        let (program, command) = match &invocation.request {
            Request::Login => ("login".to_owned(), Command::default()),
            Request::Command(command) => ("command".to_owned(), audit.command(command)),
            Request::Subsystem(name) => (name.clone(), Command::default()),
            Request::Tool(argv) => ("tool".to_owned(), audit.command(&argv.join(&b' '))),
            Request::Program(argv) => ("program".to_owned(), audit.command(&argv.join(&b' '))),
            Request::Configuration => ("configuration".to_owned(), Command::default()),
            Request::Nothing => ("nothing".to_owned(), Command::default()),
        };
        Record {
            audit,
            refusals: run.refusals().clone(),
            run: run.id(),
            by,
            host: invocation.destination.host.clone(),
            program,
            command,
            begun: Instant::now(),
            place: OnceLock::new(),
            is_over: invocation.control.is_some() || invocation.request == Request::Configuration,
        }
    }

    /// Its program was asked for there.
    pub(super) fn started(&self, context: &Context, traffic: Traffic) {
        let _ = self.place.set(Place {
            context: context.name().to_owned(),
            id: context.id().to_string(),
            user: context.user().to_owned(),
            traffic,
        });
    }

    /// It is over.
    pub(super) fn ended(&mut self, verdict: &Verdict) {
        let end = match verdict {
            Verdict::Told(ToShim::Exited(ExitStatus::Code(code))) => End::Status(*code),
            Verdict::Told(ToShim::Exited(ExitStatus::Signal(number))) => End::Signal(*number),
            Verdict::Told(ToShim::Failed(why)) | Verdict::Failed { why, .. } => {
                End::Failed(why.clone())
            }
            // The real ssh's.
            Verdict::Told(_) | Verdict::RealSsh { .. } => return self.is_over = true,
        };
        self.note(end);
    }

    fn note(&mut self, end: End) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let (by, host) = (self.by.take(), std::mem::take(&mut self.host));
        let Some(Place { context, id, user, traffic }) = self.place.take() else {
            if let End::Failed(why) = end {
                self.refusals.note(&Event::Refused { what: host, why, by });
            }
            return;
        };
        self.audit.note(&Event::Session(Box::new(SessionEvent {
            ms: self.begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
            run: self.run,
            by,
            host,
            context,
            id,
            user,
            program: std::mem::take(&mut self.program),
            command: std::mem::take(&mut self.command),
            input: traffic.stdin.load(Ordering::Relaxed),
            output: traffic.stdout.load(Ordering::Relaxed),
            errors: traffic.stderr.load(Ordering::Relaxed),
            end,
        })));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.note(End::Failed("the invoker went away".to_owned()));
    }
}

/// What a session is to run, for a person.
pub(super) fn shown(request: &Request) -> String {
    let text = match request {
        Request::Login => return "a login shell".to_owned(),
        Request::Nothing | Request::Configuration => return "nothing".to_owned(),
        Request::Subsystem(name) => name.clone(),
        Request::Command(command) => String::from_utf8_lossy(command).into_owned(),
        Request::Tool(argv) | Request::Program(argv) => {
            String::from_utf8_lossy(&argv.join(&b' ')).into_owned()
        }
    };
    let count = text.chars().count();
    if count <= MAX_SHOWN {
        // Quoted, with all that a terminal would act on escaped.
        return format!("{text:?}");
    }
    // What a command does may stand at its end.
    let part = |skipped, len| text.chars().skip(skipped).take(len).collect::<String>();
    let end = MAX_SHOWN / 2;
    let (first, last) = (part(0, MAX_SHOWN - end), part(count - end, end));
    format!("{first:?}... ({count} characters) ...{last:?}")
}

/// The variables that a session gets beside the login's, for a person: some of them have programs
/// run others. Those that say a language or a terminal do not.
pub(super) fn shown_variables(variables: &[(Vec<u8>, Vec<u8>)]) -> String {
    let harmless = |name: &[u8]| {
        name == b"LANG" || name == b"TERM" || name == b"COLORTERM" || name.starts_with(b"LC_")
    };
    let mut names: Vec<String> = variables
        .iter()
        .filter(|(name, _)| !harmless(name))
        .map(|(name, _)| word(&String::from_utf8_lossy(name), MAX_NAME))
        .collect();
    if names.is_empty() {
        return String::new();
    }
    if names.len() > MAX_NAMES {
        let more = names.len() - MAX_NAMES;
        names.truncate(MAX_NAMES);
        names.push(format!("{more} more"));
    }
    format!(" with {} set", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_shows_a_command_without_what_a_terminal_acts_on() {
        let shown = |command: &str| shown(&Request::Command(command.as_bytes().to_vec()));
        assert_eq!(shown("id"), "\"id\"");
        assert_eq!(shown("a\nb\u{1b}[2J\u{202e}\"c"), "\"a\\nb\\u{1b}[2J\\u{202e}\\\"c\"");
        let long = shown(&format!("{}; id", "x".repeat(1000)));
        assert!(long.ends_with("x; id\"") && long.contains("(1004 characters)"), "{long}");
        assert!(long.len() < 240, "{long}");
    }

    #[test]
    fn a_question_names_variables_that_may_run_programs() {
        let variables = |names: &[&str]| {
            let variables = names.iter().map(|name| (name.as_bytes().to_vec(), b"x".to_vec()));
            shown_variables(&variables.collect::<Vec<_>>())
        };
        assert_eq!(variables(&["LANG", "LC_ALL", "TERM"]), "");
        assert_eq!(variables(&["LANG", "BASH_ENV", "A"]), " with BASH_ENV, A set");
        assert!(variables(&["A", "B", "C", "D", "E", "F", "G"]).ends_with("D, E, 2 more set"));
    }
}
