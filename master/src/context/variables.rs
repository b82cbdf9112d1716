//! Which variables of the caller's environment a session gets (`SendEnv`, `SetEnv`).

use fakessh_protocol::forward::{Forward, ForwardOptions};
use fakessh_protocol::invocation::{ForwardAgent, Invocation, Request, SessionKeywords};
use fakessh_protocol::pattern;
use fakessh_protocol::terminal::{RequestTty, TerminalRequest};

use crate::ssh_config::{ConfiguredForwards, Resolved};

type Variables = Vec<(Vec<u8>, Vec<u8>)>;

/// What a configuration says of sessions, as against connections: two names of one account share
/// a connection, and each has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    send_env: Vec<String>,
    set_env: Vec<(String, String)>,
    session: SessionKeywords,
    request_tty: Option<RequestTty>,
    escape: Option<u8>,
    forwards: ConfiguredForwards,
    agent: Option<ForwardAgent>,
    unsupported: Option<String>,
}

/// The forwards that a session opens.
#[derive(Clone, Debug, Default)]
pub(crate) struct WantedForwards {
    /// The forwards, in their order.
    pub(crate) forwards: Vec<Forward>,
    /// What holds for all of them.
    pub(crate) options: ForwardOptions,
}

impl SessionOptions {
    pub(super) fn of(resolved: &Resolved) -> SessionOptions {
        SessionOptions {
            send_env: resolved.send_env.clone(),
            set_env: resolved.set_env.clone(),
            session: resolved.session,
            request_tty: resolved.request_tty,
            escape: resolved.escape,
            forwards: resolved.forwards.clone(),
            agent: resolved.forward_agent.clone(),
            unsupported: resolved.unsupported_notice(),
        }
    }

    /// The path of the agent that an invocation's session gets, on the host of its shim
    /// (`ssh_config(5)`, ForwardAgent). `None` also if there is no agent.
    pub(crate) fn agent(&self, invocation: &Invocation) -> Option<Vec<u8>> {
        let variable = |name: &[u8]| {
            let found = invocation.environment.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        if invocation.request.is_none_of_ssh() {
            return None;
        }
        match invocation.agent.as_ref().or(self.agent.as_ref())? {
            ForwardAgent::No => None,
            ForwardAgent::Yes => variable(b"SSH_AUTH_SOCK"),
            ForwardAgent::At(at) => match (at.strip_prefix('$'), at.strip_prefix("~/")) {
                (Some(name), _) => variable(name.trim_matches(['{', '}']).as_bytes()),
                (None, Some(rest)) => {
                    Some([&variable(b"HOME")?[..], b"/", rest.as_bytes()].concat())
                }
                (None, None) => Some(at.clone().into_bytes()),
            },
        }
    }

    /// The forwards that an invocation's session opens: those of the command line, then those of
    /// the configuration (`ssh_config(5)`, ClearAllForwardings).
    pub(crate) fn forwards(&self, invocation: &Invocation) -> WantedForwards {
        if invocation.request.is_none_of_ssh() {
            return WantedForwards::default();
        }
        let options = invocation.forward_options.clone().or(&self.forwards.options);
        if options.clear_all == Some(true) {
            return WantedForwards { forwards: Vec::new(), options };
        }
        let mut forwards = invocation.forwards.clone();
        for forward in &self.forwards.forwards {
            if !forwards.contains(forward) {
                forwards.push(forward.clone());
            }
        }
        WantedForwards { forwards, options }
    }

    /// A line about what the configuration asks for in vain.
    pub(super) fn unsupported(&self) -> Option<&str> {
        self.unsupported.as_deref()
    }

    /// A keyword of the configuration that would make something else of this invocation's session,
    /// and that only the real `ssh` obeys as yet.
    pub(crate) fn unserved(&self, invocation: &Invocation) -> Option<&'static str> {
        if invocation.request.is_none_of_ssh() {
            return None;
        }
        self.session.first_beside(invocation.given)
    }

    /// The terminal that an invocation's session is to have, and what the person is told if it gets
    /// none for want of one here (`ssh_config(5)`, RequestTTY).
    pub(crate) fn terminal(
        &self,
        invocation: &Invocation,
    ) -> (Option<TerminalRequest>, Option<&'static str>) {
        let is_auto = matches!(invocation.request, Request::Login);
        let is_wanted = match invocation.request_tty.or(self.request_tty) {
            Some(RequestTty::Force) => {
                let like = invocation.terminal.clone();
                return (Some(like.unwrap_or_else(|| without_one(invocation))), None);
            }
            Some(RequestTty::Yes) => true,
            Some(RequestTty::No) => false,
            Some(RequestTty::Auto) | None => is_auto,
        };
        match &invocation.terminal {
            _ if !is_wanted => (None, None),
            Some(terminal) => (Some(terminal.clone()), None),
            None if invocation.request.is_none_of_ssh() => (None, None),
            None => (None, Some(NO_TERMINAL_HERE)),
        }
    }

    /// The escape character of a session on a terminal.
    pub(crate) fn escape(&self) -> Option<u8> {
        self.escape
    }

    /// Variables that an invocation sends: `SendEnv` of the user's configuration and of its command
    /// line, then `SetEnv` (`ssh_config(5)`), as name and value.
    pub(crate) fn variables(&self, invocation: &Invocation) -> Variables {
        variables(self, invocation)
    }
}

/// What ssh says if it leaves out a terminal.
const NO_TERMINAL_HERE: &str =
    "Pseudo-terminal will not be allocated because stdin is not a terminal.";

/// A terminal for an invocation that has none itself: of its kind, and of no known size.
fn without_one(invocation: &Invocation) -> TerminalRequest {
    let term = invocation.environment.iter().find(|(name, _)| name == b"TERM");
    let term = term.map(|(_, value)| value.clone()).unwrap_or_default();
    TerminalRequest { term, ..TerminalRequest::default() }
}

/// The variables of an invocation with these options.
fn variables(resolved: &SessionOptions, invocation: &Invocation) -> Variables {
    let mut patterns: Vec<&str> = Vec::new();
    for pattern in invocation.send_env.iter().chain(&resolved.send_env) {
        // A leading `-` takes away what was named before (ssh_config(5), SendEnv).
        match pattern.strip_prefix('-') {
            Some(away) => {
                patterns.retain(|known| !pattern::matches(away.as_bytes(), known.as_bytes()))
            }
            None => patterns.push(pattern),
        }
    }
    let sent = invocation.environment.iter().filter(|(name, _)| {
        patterns.iter().any(|pattern| pattern::matches(pattern.as_bytes(), name))
    });
    let mut variables: Variables = sent.cloned().collect();
    let configured =
        resolved.set_env.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let given = invocation.set_env.iter().map(|(name, value)| (&name[..], &value[..]));
    let mut set: Vec<&[u8]> = Vec::new();
    for (name, value) in given.chain(configured) {
        // The first value wins.
        if !set.contains(&name) {
            set.push(name);
            variables.push((name.to_vec(), value.to_vec()));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use RequestTty::{Auto, Force, No, Yes};

    use super::*;

    #[test]
    fn a_terminal_is_given_if_it_is_wanted_and_there_is_one_or_by_force() {
        let command = || Request::Command(b"x".to_vec());
        for (request, given, configured, is_there, expected) in [
            (Request::Login, None, None, true, "given"),
            (Request::Login, Some(No), Some(Force), true, "none"),
            (Request::Login, None, Some(No), true, "none"),
            (Request::Login, None, None, false, "missed"),
            (command(), None, None, true, "none"),
            (command(), Some(Auto), Some(Yes), true, "none"),
            (command(), Some(Yes), None, true, "given"),
            (command(), None, Some(Yes), true, "given"),
            (command(), Some(Yes), None, false, "missed"),
            (command(), Some(Force), None, false, "forced"),
            (command(), None, Some(Force), true, "given"),
            (Request::Program(Vec::new()), Some(Yes), None, false, "none"),
        ] {
            let here = TerminalRequest { term: b"here".to_vec(), ..TerminalRequest::default() };
            let forced = TerminalRequest { term: b"vt100".to_vec(), ..TerminalRequest::default() };
            let options = SessionOptions { request_tty: configured, ..SessionOptions::default() };
            let invocation = Invocation {
                request: request.clone(),
                request_tty: given,
                terminal: is_there.then(|| here.clone()),
                environment: vec![(b"TERM".to_vec(), b"vt100".to_vec())],
                ..Invocation::default()
            };
            let found = match options.terminal(&invocation) {
                (Some(terminal), None) if terminal == here => "given",
                (Some(terminal), None) if terminal == forced => "forced",
                (None, Some(_)) => "missed",
                (None, None) => "none",
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{request:?} {given:?} {configured:?} {is_there}");
        }
    }
}
