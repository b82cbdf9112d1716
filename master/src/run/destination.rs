//! The DEST of a run, and the names that mean it.

use std::net::Ipv6Addr;

use fakessh_protocol::invocation::Destination;
use serde::{Deserialize, Serialize};

use crate::route::Route;
use crate::ssh_config::check_host;

/// Names that mean a run's DEST whatever it is: for tools that must be given a host's name.
const PLACEHOLDERS: [&str; 2] = ["remote", "_"];

/// Whether a name means DEST in any run that has one.
pub(super) fn is_placeholder(host: &str) -> bool {
    PLACEHOLDERS.contains(&host)
}

/// Where a run leads that was given a DEST. By default its own names mean it, and no other: a tool
/// that names another host must not write to this one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunDestination {
    /// The route.
    pub route: Route,
    /// DEST as the person wrote it, for messages.
    pub written: String,
    /// Names that mean it: those of the place ([`Route::own_names`]), and a name of the user's
    /// configuration that stands for it.
    pub names: Vec<String>,
    /// Whether every name means it (`--any-name`).
    pub any_name: bool,
}

impl RunDestination {
    /// A DEST that its own names mean.
    pub fn new(route: Route) -> RunDestination {
        let (written, names) = (route.to_string(), route.own_names());
        RunDestination { route, written, names, any_name: false }
    }

    /// Whether a host on a command line means it. `hostname` is what `ssh_config` makes of the
    /// route's last host, if the place is that host.
    pub(super) fn is_meant_by(&self, host: &str, hostname: Option<&str>) -> bool {
        self.any_name
            || is_placeholder(host)
            || self
                .names
                .iter()
                .map(String::as_str)
                .chain(hostname)
                .any(|name| is_same_host(name, host))
    }

    /// What a tool is told that names another host. A command line is proposed for a host's name
    /// alone: whoever chose the name of a repository's host must not choose the words of that.
    pub(super) fn refusal(&self, destination: &Destination) -> String {
        let (host, written) = (&destination.host, &self.written);
        if let Err(error) = check_host(without_brackets(host)) {
            return error.to_string();
        }
        let itself = match route_to(host) {
            Some(route) => format!("add --route {host}={route} for {host} itself"),
            None => format!("give {host} a plain name in ssh_config for itself"),
        };
        format!(
            "{host} would mean {written} in this run; write remote for that, or {itself} \
             (--any-name: every name means {written})"
        )
    }
}

/// The route that a host's name alone is, if the name is such that nothing else can be read in it.
fn route_to(host: &str) -> Option<String> {
    // `ssh:` keeps a host that is called like a kind of hop a host.
    is_plain(host).then(|| match Route::parse(host) {
        Ok(route) if route.as_target().is_some_and(|it| it.host == host) => host.to_owned(),
        _ => format!("ssh:{host}"),
    })
}

/// Whether a name from a command line can stand in a command line that is proposed: it is no more
/// than a name.
pub(super) fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !name.starts_with('-') && name.bytes().all(is_plain)
}

/// Whether two names are those of one host: the case of letters makes no difference (RFC 4343), nor
/// do brackets around an address and how an IPv6 address is abbreviated.
fn is_same_host(one: &str, other: &str) -> bool {
    let (one, other) = (without_brackets(one), without_brackets(other));
    match (one.parse::<Ipv6Addr>(), other.parse::<Ipv6Addr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(route: &str) -> RunDestination {
        RunDestination::new(Route::parse(route).unwrap())
    }

    #[test]
    fn a_destination_is_meant_by_its_own_names() {
        for (route, names) in [
            ("web1", &["web1", "WEB1", "remote", "_"][..]),
            ("alice@web1:2222", &["web1", "web1:2222", "remote"]),
            ("ssh://alice@web1:2222", &["web1"]),
            ("ssh:sudo", &["sudo"]),
            ("[2001:db8::1]:22", &["2001:db8::1", "[2001:db8::1]", "2001:DB8:0:0:0:0:0:1"]),
            ("bastion+web1", &["web1"]),
            ("web1+sudo:postgres", &["web1"]),
            ("web1+su+doas:www", &["web1"]),
            ("web1+docker:0:0@app", &["app"]),
            ("web1+docker:app+su:www", &["app"]),
            ("kubectl:shop/web-0/nginx", &["web-0"]),
            ("incus:lab:box", &["box"]),
            ("openssh:alice@web1:22", &["web1"]),
            ("local", &["local", "localhost"]),
            ("sudo", &["localhost", "remote"]),
            ("web1+sudo+chroot:/srv/jail", &["remote", "_"]),
        ] {
            let destination = destination(route);
            let not_meant = |name: &&&str| !destination.is_meant_by(name, None);
            assert_eq!(names.iter().find(not_meant), None, "{route}");
        }
    }

    #[test]
    fn a_destination_is_meant_by_no_other_name() {
        for (route, names) in [
            ("web1", &["prod-db", "web", "web11", "alice", "Remote", "", "web1+sudo"][..]),
            ("alice@web1:2222", &["web1:22", "alice"]),
            ("bastion+web1", &["bastion", "bastion+web1"]),
            // The host is another place than the container on it.
            ("web1+docker:app", &["web1", "docker", "docker:app"]),
            ("web1+sudo+chroot:/srv/jail", &["web1", "/srv/jail", "jail"]),
            ("web1+exec:ip netns exec blue", &["web1", "blue"]),
            ("docker:app+web1", &["app"]),
            ("[2001:db8::1]:22", &["2001:db8::2"]),
            ("web1+docker:app", &["localhost"]),
        ] {
            let destination = destination(route);
            let meant = |name: &&&str| destination.is_meant_by(name, None);
            assert_eq!(names.iter().find(meant), None, "{route}");
        }
    }

    #[test]
    fn what_ssh_config_calls_it_and_what_the_person_calls_it_mean_it() {
        let mut destination = destination("bastion+web1");
        destination.names.push("far".into());
        assert!(destination.is_meant_by("10.0.0.7", Some("10.0.0.7")));
        assert!(destination.is_meant_by("far", None));
        assert!(!destination.is_meant_by("10.0.0.8", Some("10.0.0.7")));
        destination.any_name = true;
        assert!(destination.is_meant_by("10.0.0.8", None));
    }

    #[test]
    fn a_refusal_says_what_would_have_happened_and_how_to_have_it() {
        let expected = "prod-db would mean web1 in this run; write remote for that, or add --route \
                        prod-db=prod-db for prod-db itself (--any-name: every name means web1)";
        let refusal = |host: &str| {
            destination("web1")
                .refusal(&Destination { host: host.to_owned(), ..Default::default() })
        };
        assert_eq!(refusal("prod-db"), expected);
        for (host, expected) in [
            ("sudo", "--route sudo=ssh:sudo for"),
            ("local", "--route local=ssh:local for"),
            ("local+exec:/tmp/evil", "give local+exec:/tmp/evil a plain name"),
            ("a/b", "give a/b a plain name"),
        ] {
            assert!(refusal(host).contains(expected), "{}", refusal(host));
        }
        for host in ["x=web1 -- rm -rf ~ #", "-oProxyCommand=x", "$(id)", ""] {
            let refusal = refusal(host);
            assert!(!refusal.contains("--route") && !refusal.contains("would mean"), "{refusal}");
        }
    }
}
