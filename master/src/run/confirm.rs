//! Asks the person before a session begins in a context that wants that.

use std::sync::Arc;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::Forward;
use fakessh_protocol::invocation::Request;
use fakessh_protocol::message::{ProgramSetup, Question, QuestionKind};
use fakessh_protocol::printable::word;

use super::Run;
use crate::audit::Who;
use crate::caller::{Ask, AskNobodyFor};
use crate::context::Context;
use crate::lifetime::Use;

/// Most variables that a question names, and most characters of each name.
const MAX_NAMES: usize = 5;
const MAX_NAME: usize = 40;

/// Most characters of a command in a question.
const MAX_SHOWN: usize = 200;

impl Run {
    /// Asks whether a session may begin in a context that wants that. Cancel safe.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) async fn confirm(
        &self,
        context: &Context,
        asked: AskedUse<'_>,
        asker: &Arc<dyn Ask>,
    ) -> Result<(), Failure> {
        let name = context.name();
        let what = asked.shown();
        // While somebody thinks about it.
        let _held = context.hold(Use::Dependent);
        let ask = self.holding.opener.as_ref().unwrap_or(asker);
        let (user, who) = (context.user(), asker.who().map(|who| who.shown()));
        let who = who.unwrap_or_else(|| "a program".to_owned());
        let text = format!("{who} wants to run {what} at {name}, as {user}. Allow it (yes/no)? ");
        match ask.ask(Question { kind: QuestionKind::Permission, text, hop: None }).await {
            Some(answer) if answer.0.trim().eq_ignore_ascii_case("yes") => Ok(()),
            Some(_) => {
                let message = format!("{name}: it was not allowed to run {what}");
                Err(Failure::new(FailureKind::Refused, message))
            }
            None => {
                let message = format!(
                    "{name}: each use has to be confirmed (config.toml), and there is nobody to \
                     ask: there is no terminal; see SSH_ASKPASS"
                );
                Err(Failure::new(FailureKind::NeedsAnswer, message))
            }
        }
    }

    /// Asks whether a forward may be opened for a client of a ControlPath, in a context that wants that.
    /// Cancel safe.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) async fn confirm_forward(
        &self,
        context: &Context,
        forward: &Forward,
        client: Option<Who>,
    ) -> Result<(), Failure> {
        if !context.is_confirmed() {
            return Ok(());
        }
        let asked = AskedUse {
            request: &Request::Nothing,
            setup: &ProgramSetup::default(),
            forwards: std::slice::from_ref(forward),
            agent: false,
        };
        let client: Arc<dyn Ask> = Arc::new(AskNobodyFor(client));
        self.confirm(context, asked, &client).await
    }
}

/// What somebody wants of a context.
pub(super) struct AskedUse<'a> {
    pub(super) request: &'a Request,
    pub(super) setup: &'a ProgramSetup,
    pub(super) forwards: &'a [Forward],
    /// Whether programs there may reach the user's agent.
    pub(super) agent: bool,
}

impl AskedUse<'_> {
    fn shown(&self) -> String {
        let agent = if self.agent { " with your agent" } else { "" };
        shown(self.request)
            + &shown_directory(self.setup)
            + &shown_variables(&self.setup.environment)
            + &shown_forwards(self.forwards)
            + agent
    }
}

/// What a session is to run, for a person.
fn shown(request: &Request) -> String {
    let text = match request {
        Request::Login => return "a login shell".to_owned(),
        Request::Nothing | Request::Configuration => return "nothing".to_owned(),
        Request::Subsystem(name) => name.clone(),
        Request::Connection(to) => format!("a connection to {}", to.peer),
        Request::Stdio(peer) => format!("a connection to {peer}"),
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

/// The directory that a program starts in, if it is not the home directory.
fn shown_directory(setup: &ProgramSetup) -> String {
    if setup.directory.is_empty() {
        return String::new();
    }
    format!(" in {:?}", String::from_utf8_lossy(&setup.directory))
}

/// The forwards that a session opens.
fn shown_forwards(forwards: &[Forward]) -> String {
    let mut shown: Vec<String> = forwards
        .iter()
        .take(MAX_NAMES)
        .map(|forward| word(&forward.to_string(), MAX_SHOWN))
        .collect();
    match forwards.len() {
        0 => return String::new(),
        count if count > MAX_NAMES => shown.push(format!("{} more", count - MAX_NAMES)),
        _ => {}
    }
    format!(" with the forwards {}", shown.join(", "))
}

/// The variables that a session gets beside the login's, for a person: some of them have programs
/// run others. Those that say a language or a terminal do not.
fn shown_variables(variables: &[(Vec<u8>, Vec<u8>)]) -> String {
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
