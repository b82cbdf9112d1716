//! What a handoff of a target may bring: it is a slave's word.

use fakessh_protocol::invocation::{Invocation, Request};

/// Most patterns of `SendEnv`, most variables of `SetEnv`, and most words of a tool: many times
/// what anybody writes.
const MOST_NAMED: usize = 256;

/// Most variables of an environment: many times what anybody has.
const MOST_VARIABLES: usize = 4096;

/// Most pairs of a byte of a pattern and one of a variable's name, which is the time that it takes
/// to hold them against each other: some hundredths of a second for a slave that means harm.
const MOST_COMPARED: usize = 16 << 20;

/// Bytes in memory of one word or variable, beside its own: two vectors in a list, and what the
/// allocator adds to each.
const ITEM: usize = 112;

/// Why an invocation is too much to be looked at, if it is.
pub(super) fn excess(invocation: &Invocation) -> Option<String> {
    let Invocation { send_env, set_env, environment, request, .. } = invocation;
    if send_env.len() > MOST_NAMED || set_env.len() > MOST_NAMED {
        return Some(format!("more than {MOST_NAMED} values of SendEnv or SetEnv"));
    }
    if environment.len() > MOST_VARIABLES {
        return Some(format!("more than {MOST_VARIABLES} variables in the environment"));
    }
    if matches!(request, Request::Tool(argv) | Request::Program(argv) if argv.len() > MOST_NAMED) {
        return Some(format!("more than {MOST_NAMED} words"));
    }
    let patterns: usize = send_env.iter().map(String::len).sum();
    let names: usize = environment.iter().map(|(name, _)| name.len()).sum();
    // Patterns are held against names, and those that take away against the others, too.
    (patterns.saturating_mul(patterns + names) > MOST_COMPARED)
        .then(|| "the patterns of SendEnv and the names of variables are too long".to_owned())
}

/// How many words and variables an invocation has: it takes as long as so many frames to decode.
pub(super) fn items(invocation: &Invocation) -> usize {
    let Invocation { connection, send_env, set_env, environment, request, .. } = invocation;
    let words = match request {
        Request::Tool(argv) | Request::Program(argv) => argv.len(),
        _ => 0,
    };
    let forwards = invocation.forwards.len() + invocation.forward_options.permit_remote_open.len();
    connection.len() + send_env.len() + set_env.len() + environment.len() + words + forwards
}

/// Bytes in memory that an invocation takes which came in so many bytes.
pub(super) fn weight(invocation: &Invocation, encoded: usize) -> usize {
    encoded + ITEM * items(invocation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_named() {
        let with = |patterns: Vec<String>, variables: usize, name: &[u8]| Invocation {
            send_env: patterns,
            environment: vec![(name.to_vec(), Vec::new()); variables],
            ..Invocation::default()
        };
        let stars = || format!("{}b", "*a".repeat(100));
        for (invocation, expected) in [
            (with(vec!["A".into(); MOST_NAMED], MOST_VARIABLES, b"A"), None),
            (with(vec!["A".into(); MOST_NAMED + 1], 1, b"A"), Some("values of SendEnv")),
            (with(vec!["A".into()], MOST_VARIABLES + 1, b"A"), Some("variables in the")),
            (with(vec![stars(); MOST_NAMED], MOST_VARIABLES, &[b'a'; 200]), Some("too long")),
            (with(vec![stars()], 1, &[b'a'; 10_000]), None),
        ] {
            let why = excess(&invocation);
            match expected {
                Some(words) => assert!(why.as_ref().is_some_and(|why| why.contains(words))),
                None => assert_eq!(why, None),
            }
        }
    }

    #[test]
    fn empty_variables_have_a_weight() {
        let environment = vec![(Vec::new(), Vec::new()); 1000];
        let invocation = Invocation { environment, ..Invocation::default() };
        assert!(weight(&invocation, 2000) > 100_000);
    }
}
