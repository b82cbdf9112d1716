//! Connections through a tool's own tunnels, which are not held for long.
//!
//! A tool may start a tunnel (`kubectl port-forward`, `ssh -L`) and call `ssh -p PORT localhost`. Then
//! it waits for the tunnel to end, and the tunnel for its connections: with ssh they end with each
//! command. A connection that is held would keep both alive.

use std::net::IpAddr;

use fakessh_protocol::invocation::Invocation;

use super::Hosts;
use crate::context::Context;

/// How long a context is held, by what the words of a tool say of the path to it. What a
/// configuration says of the path is a person's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldFor {
    /// As long as the rules of the run say.
    Rules,
    /// For a moment after its last session: the path may lead through a tunnel that the tool waits
    /// for.
    Moment,
    /// As long as the run: the path leads through a program that the tool has named.
    Run,
}

impl HoldFor {
    /// How long a session of a run with these hosts has the context held.
    pub(super) fn of(hosts: &Hosts, invocation: &Invocation, context: &Context) -> HoldFor {
        match hosts {
            // A person's own words.
            Hosts::Mapped { .. } | Hosts::CommandLine { real_ssh: false, .. } => HoldFor::Rules,
            Hosts::CommandLine { .. } => {
                HoldFor::of_words(invocation, context.address().map(|(host, _)| host))
            }
        }
    }

    fn of_words(invocation: &Invocation, host: Option<&str>) -> HoldFor {
        let mut words = invocation.connection.chunks_exact(2);
        if words.any(|pair| pair[0] == b"-o" && names_a_program(&pair[1])) {
            HoldFor::Run
        } else if invocation.destination.port.is_some() && host.is_some_and(is_loopback) {
            HoldFor::Moment
        } else {
            HoldFor::Rules
        }
    }
}

/// The option that names a program.
const PROXY_COMMAND: &[u8] = b"ProxyCommand";

/// Whether an option in the form of `ssh_config(5)` is a `ProxyCommand`.
fn names_a_program(option: &[u8]) -> bool {
    let option = option.trim_ascii_start();
    let name = option.get(..PROXY_COMMAND.len()).unwrap_or_default();
    name.eq_ignore_ascii_case(PROXY_COMMAND)
}

/// Whether a host name or address is this machine's own.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use fakessh_protocol::invocation::Destination;

    use super::*;

    #[test]
    fn the_words_of_the_tool_say_how_long() {
        let hold = |words: &[&str], port, host| {
            let connection = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            let destination = Destination { port, ..Destination::default() };
            let invocation = Invocation { connection, destination, ..Invocation::default() };
            HoldFor::of_words(&invocation, host)
        };
        for host in ["127.0.0.2", "::1", "Localhost"] {
            assert_eq!(hold(&[], Some(2222), Some(host)), HoldFor::Moment, "{host}");
            assert_eq!(hold(&["-F", "file"], None, Some(host)), HoldFor::Rules, "{host}");
        }
        for host in [Some("10.0.0.1"), Some("web1"), None] {
            assert_eq!(hold(&[], Some(2222), host), HoldFor::Rules, "{host:?}");
        }
        let others = ["-i", "ProxyCommand=x", "-o", "ProxyJump=x"];
        assert_eq!(hold(&others, None, Some("web1")), HoldFor::Rules);
        assert_eq!(hold(&["-i", "k", "-o", "proxycommand x"], None, Some("web1")), HoldFor::Run);
    }
}
