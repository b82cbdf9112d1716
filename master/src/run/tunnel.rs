//! Connections through a tool's own tunnels, which are not held for long.
//!
//! A tool may start a tunnel (`kubectl port-forward`, `ssh -L`) and call `ssh -p PORT localhost`. Then
//! it waits for the tunnel to end, and the tunnel for its connections: with ssh they end with each
//! command. A connection that is held would keep both alive.

use std::net::IpAddr;

use fakessh_protocol::invocation::Invocation;

use super::Hosts;
use crate::context::Context;

/// How a context is held, by what the words of a tool say of the way to it. What a configuration
/// says of it is a person's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As the rules of the run say.
    Lasting,
    /// For a moment after its last session: it may lead through a tunnel that the tool waits for.
    Tunnel,
    /// As long as the run: it leads through a program that the tool has named.
    Program,
}

impl Way {
    /// The way to a context, for a session of a run with these hosts.
    pub(super) fn of(hosts: &Hosts, invocation: &Invocation, context: &Context) -> Way {
        match hosts {
            // A person's own words.
            Hosts::Mapped { .. } | Hosts::CommandLine { real_ssh: false, .. } => Way::Lasting,
            Hosts::CommandLine { .. } => {
                Way::of_words(invocation, context.address().map(|(host, _)| host))
            }
        }
    }

    fn of_words(invocation: &Invocation, host: Option<&str>) -> Way {
        let mut words = invocation.connection.chunks_exact(2);
        if words.any(|pair| pair[0] == b"-o" && names_a_program(&pair[1])) {
            Way::Program
        } else if invocation.destination.port.is_some() && host.is_some_and(is_loopback) {
            Way::Tunnel
        } else {
            Way::Lasting
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
    fn the_words_of_the_tool_say_which_way_it_is() {
        let way = |words: &[&str], port, host| {
            let connection = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            let destination = Destination { port, ..Destination::default() };
            let invocation = Invocation { connection, destination, ..Invocation::default() };
            Way::of_words(&invocation, host)
        };
        for host in ["127.0.0.2", "::1", "Localhost"] {
            assert_eq!(way(&[], Some(2222), Some(host)), Way::Tunnel, "{host}");
            assert_eq!(way(&["-F", "file"], None, Some(host)), Way::Lasting, "{host}");
        }
        for host in [Some("10.0.0.1"), Some("web1"), None] {
            assert_eq!(way(&[], Some(2222), host), Way::Lasting, "{host:?}");
        }
        let others = ["-i", "ProxyCommand=x", "-o", "ProxyJump=x"];
        assert_eq!(way(&others, None, Some("web1")), Way::Lasting);
        assert_eq!(way(&["-i", "k", "-o", "proxycommand x"], None, Some("web1")), Way::Program);
    }
}
