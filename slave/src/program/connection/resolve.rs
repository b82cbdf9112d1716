//! From the name of a host to its addresses, as the target knows them.
//!
//! In a statically linked program the C library can't ask its name services. So addresses and
//! `/etc/hosts` are read here, and `getent` answers for the rest: systems with glibc have it, and
//! Alpine.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::process::{Command, Stdio};

const HOSTS: &str = "/etc/hosts";

/// The name that means the loopback addresses wherever nothing else is known of it.
const LOCALHOST: &str = "localhost";

/// Most bytes of `/etc/hosts` that are read. Lists against advertisers have megabytes.
const MAX_HOSTS: u64 = 64 * 1024 * 1024;

/// Most bytes of a name (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 255;

/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 32;

/// What programs print if nobody knows a name.
const UNKNOWN: &str = "Name or service not known";

/// The addresses of a host, in the order in which to try them; at least one.
///
/// # Errors
/// One line that says why there is none.
pub(super) fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Some(address) = literal(host, port) {
        return Ok(vec![address]);
    }
    // The text goes to another program as an argument: it must be a name, and not an option.
    let is_name = !host.is_empty()
        && host.len() <= MAX_NAME
        && !host.starts_with('-')
        && host.bytes().all(|byte| byte.is_ascii_graphic() || !byte.is_ascii());
    if !is_name {
        return Err(UNKNOWN.to_owned());
    }
    let mut found = match File::open(HOSTS) {
        Ok(file) => in_hosts(BufReader::new(file.take(MAX_HOSTS)), host, port),
        Err(_) => Vec::new(),
    };
    if found.is_empty() && host.eq_ignore_ascii_case(LOCALHOST) {
        // A container may have no file of hosts, and no `getent` (RFC 6761 section 6.3).
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        found = loopback.map(|address| SocketAddr::new(address, port)).into();
    }
    if found.is_empty() {
        found = ask_getent(host, port)?;
    }
    found.truncate(MAX_ADDRESSES);
    if found.is_empty() { Err(UNKNOWN.to_owned()) } else { Ok(found) }
}

/// An address that is written out, also one with a zone (`fe80::1%eth0`, RFC 4007 section 11).
fn literal(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port));
    }
    let (address, zone) = text.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = zone.parse().ok().or_else(|| interface(zone))?;
    Some(SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope)))
}

/// The number of an interface.
fn interface(name: &str) -> Option<u32> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return None;
    }
    let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"));
    index.ok()?.trim().parse().ok()
}

/// All addresses that hosts(5) gives a name.
fn in_hosts(mut hosts: impl BufRead, host: &str, port: u16) -> Vec<SocketAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut found = Vec::new();
    let mut line = Vec::new();
    while found.len() < MAX_ADDRESSES {
        line.clear();
        if !hosts.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let mut words = text.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| literal(word, port)) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

fn ask_getent(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let answer = Command::new("getent")
        .args(["ahosts", host])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match answer {
        Ok(answer) => Ok(parse_answer(&String::from_utf8_lossy(&answer.stdout), port)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("{UNKNOWN} (it is not in {HOSTS}, and the target has no getent to ask)"))
        }
        Err(error) => Err(format!("can't run getent to look it up: {error}")),
    }
}

/// `ADDRESS TYPE [NAME]`, a line for each type of socket.
fn parse_answer(answer: &str, port: u16) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in answer.lines() {
        let word = line.split_ascii_whitespace().next().unwrap_or_default();
        if let Some(address) = literal(word, port)
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_need_no_resolver() {
        assert_eq!(addresses("127.0.0.1", 22), Ok(vec![socket("127.0.0.1:22")]));
        assert_eq!(addresses("::1", 22), Ok(vec![socket("[::1]:22")]));
        let Some(SocketAddr::V6(local)) = literal("fe80::1%7", 22) else { panic!() };
        assert_eq!(local.scope_id(), 7);
        assert_eq!(literal("fe80::1%no-such-interface", 22), None);
    }

    #[test]
    fn a_zone_is_the_name_of_an_interface_and_no_path() {
        let place = tempfile::tempdir().unwrap();
        // Whoever opens this waits for ever.
        let fifo = place.path().join("ifindex");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let address = format!("fe80::1%../../..{}", place.path().display());
        let (answer, answered) = std::sync::mpsc::channel();
        std::thread::spawn(move || answer.send(literal(&address, 22)));
        assert_eq!(answered.recv_timeout(std::time::Duration::from_secs(60)), Ok(None));
    }

    #[test]
    fn hosts_has_all_addresses_of_a_name_and_its_aliases() {
        let hosts = b"# comment\n192.0.2.1 db1.example db1 # db2\n::1 DB1\nbad db1\n\xff\n\
            192.0.2.1 db1\n192.0.2.9 db10\n";
        let found = in_hosts(&hosts[..], "db1", 5);
        assert_eq!(found, [socket("192.0.2.1:5"), socket("[::1]:5")]);
        assert_eq!(in_hosts(&hosts[..], "db1.example.", 5), [socket("192.0.2.1:5")]);
        assert!(in_hosts(&hosts[..], "db2", 5).is_empty());
    }

    #[test]
    fn getent_repeats_addresses_for_each_type() {
        let answer = "::1             STREAM localhost\n::1             DGRAM\n\
            127.0.0.1       STREAM\n";
        assert_eq!(parse_answer(answer, 9), [socket("[::1]:9"), socket("127.0.0.1:9")]);
    }

    #[test]
    fn what_is_no_name_is_not_given_to_getent() {
        for host in ["", "-s", "a b", "a\nb", "a\0b"] {
            assert_eq!(addresses(host, 1), Err(UNKNOWN.to_owned()), "{host:?}");
        }
    }
}
