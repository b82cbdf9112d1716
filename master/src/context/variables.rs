//! Which variables of the caller's environment a session gets (`SendEnv`, `SetEnv`).

use fakessh_protocol::invocation::{Invocation, SessionKeywords};
use fakessh_protocol::pattern;

use crate::ssh_config::Resolved;

type Variables = Vec<(Vec<u8>, Vec<u8>)>;

/// What a configuration says of sessions, as against connections: two names of one account share
/// a connection, and each has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    send_env: Vec<String>,
    set_env: Vec<(String, String)>,
    session: SessionKeywords,
}

impl SessionOptions {
    pub(super) fn of(resolved: &Resolved) -> SessionOptions {
        SessionOptions {
            send_env: resolved.send_env.clone(),
            set_env: resolved.set_env.clone(),
            session: resolved.session,
        }
    }

    /// A keyword of the configuration that would make something else of this invocation's session,
    /// and that only the real `ssh` obeys as yet.
    pub(crate) fn unserved(&self, invocation: &Invocation) -> Option<&'static str> {
        if invocation.request.is_none_of_ssh() {
            return None;
        }
        self.session.first_beside(invocation.given)
    }

    /// Variables that an invocation sends: `SendEnv` of the user's configuration and of its command
    /// line, then `SetEnv` (`ssh_config(5)`), as name and value.
    pub(crate) fn variables(&self, invocation: &Invocation) -> Variables {
        variables(self, invocation)
    }
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
