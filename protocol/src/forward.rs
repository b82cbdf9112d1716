//! Forwards: ports and sockets whose connections are passed on through a context (`ssh(1)`, `-L`,
//! `-R`, `-D`), and the grammar in which command lines and configurations name them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::connection::{MAX_SOCKET_PATH, Peer};
use crate::counted::{self, Item, counted};
use crate::printable;

/// Most bytes of a host's name in a forward, as for `ssh` (`NI_MAXHOST`).
const MAX_HOST: usize = 1024;

/// What `ssh -G` prints for the destination of a forward that has none.
const NO_DESTINATION: &str = "[socks]:0";

/// The end of a context at which connections come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ForwardSide {
    /// Here: `-L` and `-D`.
    Local,
    /// On the target: `-R`.
    Remote,
}

/// Where connections are waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ListenAddress {
    /// A TCP port.
    Tcp {
        /// A name or an address of the machine that listens. Empty is all of its addresses, and
        /// `None` its loopback addresses, unless `GatewayPorts` says all.
        host: Option<String>,
        /// The port. 0, on the target only, is one that the target picks.
        port: u16,
    },
    /// A Unix stream socket, by its path.
    Unix(#[serde(with = "counted::bytes")] Vec<u8>),
}

/// A forward.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Forward {
    /// Where connections come in.
    pub side: ForwardSide,
    /// On what.
    pub listen: ListenAddress,
    /// Where they lead, seen from the other side. `None` is wherever each of them says, by SOCKS.
    pub to: Option<Peer>,
}

/// Most forwards of one command line and its configuration: many times what anybody writes.
pub const MAX_FORWARDS: usize = 256;

counted!(/** Forwards of a command line. */ list, Forward, MAX_FORWARDS);

impl Item for Forward {
    type Written<'a> = &'a Forward;
    type Read = Forward;

    fn written(&self) -> &Forward {
        self
    }
}

/// What holds for all forwards of an invocation (`ssh_config(5)`). `None` is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardOptions {
    /// `GatewayPorts`: whether other machines may connect to ports here.
    pub gateway_ports: Option<bool>,
    /// `ExitOnForwardFailure`: whether there is no session if a forward can't be had.
    pub exit_on_failure: Option<bool>,
    /// `ClearAllForwardings`: whether there are no forwards, whoever asks for them.
    pub clear_all: Option<bool>,
    /// `StreamLocalBindUnlink`: whether a Unix socket that is there already is replaced.
    pub bind_unlink: Option<bool>,
    /// `StreamLocalBindMask`: the umask for new Unix sockets.
    pub bind_mask: Option<u16>,
    /// `PermitRemoteOpen`: what connections that come in on the target may ask for by SOCKS, in the
    /// words of the configuration. Empty is not said.
    #[serde(with = "counted::patterns")]
    pub permit_remote_open: Vec<String>,
}

/// The umask for new Unix sockets, if nothing else is said (`ssh_config(5)`, StreamLocalBindMask).
const DEFAULT_BIND_MASK: u16 = 0o177;

impl ForwardOptions {
    /// These options, and those of `other` for what they do not say.
    #[must_use]
    pub fn or(self, other: &ForwardOptions) -> ForwardOptions {
        ForwardOptions {
            gateway_ports: self.gateway_ports.or(other.gateway_ports),
            exit_on_failure: self.exit_on_failure.or(other.exit_on_failure),
            clear_all: self.clear_all.or(other.clear_all),
            bind_unlink: self.bind_unlink.or(other.bind_unlink),
            bind_mask: self.bind_mask.or(other.bind_mask),
            permit_remote_open: if self.permit_remote_open.is_empty() {
                other.permit_remote_open.clone()
            } else {
                self.permit_remote_open
            },
        }
    }

    /// How a forward is to be listened for.
    pub fn listen(&self, forward: &Forward) -> Listen {
        let mut address = forward.listen.clone();
        if let ListenAddress::Tcp { host, .. } = &mut address {
            let all = self.gateway_ports == Some(true) && forward.side == ForwardSide::Local;
            match host.as_deref() {
                None if all => *host = Some(String::new()),
                Some("*") => *host = Some(String::new()),
                // The loopback addresses of both families.
                Some("localhost") => *host = None,
                _ => {}
            }
        }
        Listen {
            address,
            unlink: self.bind_unlink.unwrap_or(false),
            mask: self.bind_mask.unwrap_or(DEFAULT_BIND_MASK),
        }
    }
}

/// What is to be listened on, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Listen {
    /// Where.
    pub address: ListenAddress,
    /// Whether a Unix socket that is there already is replaced.
    pub unlink: bool,
    /// The umask for a Unix socket.
    pub mask: u16,
}

/// A forward that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadForward;

impl Forward {
    /// Whether the target picks the port, and has to say which one (`-R 0`).
    pub fn wants_any_port(&self) -> bool {
        let any = matches!(self.listen, ListenAddress::Tcp { port: 0, .. });
        self.side == ForwardSide::Remote && any
    }

    /// Reads the value of `-L`: `[BIND:]PORT:HOST:PORT`, with a path of a Unix socket in the place of
    /// either end.
    ///
    /// # Errors
    /// [`BadForward`] if `ssh` would not take it.
    pub fn local(text: &str) -> Result<Forward, BadForward> {
        Forward::parse(ForwardSide::Local, text, false)
    }

    /// Reads the value of `-R`: as [`Forward::local`], or only `[BIND:]PORT`, or the path of a socket.
    ///
    /// # Errors
    /// As [`Forward::local`].
    pub fn remote(text: &str) -> Result<Forward, BadForward> {
        Forward::parse(ForwardSide::Remote, text, false)
            .or_else(|_| Forward::parse(ForwardSide::Remote, text, true))
    }

    /// Reads the value of `-D`: `[BIND:]PORT`, or the path of a socket.
    ///
    /// # Errors
    /// As [`Forward::local`].
    pub fn dynamic(text: &str) -> Result<Forward, BadForward> {
        Forward::parse(ForwardSide::Local, text, true)
    }

    /// Reads the words of a configuration: `LocalForward` has two, `DynamicForward` one, and
    /// `RemoteForward` one or two. Also in the form in which `ssh -G` prints them.
    ///
    /// # Errors
    /// As [`Forward::local`].
    pub fn configured(
        side: ForwardSide,
        listen: &str,
        to: Option<&str>,
    ) -> Result<Forward, BadForward> {
        match to {
            None | Some(NO_DESTINATION) => Forward::parse(side, listen, true),
            Some(to) => Forward::parse(side, &format!("{listen}:{to}"), false),
        }
    }

    fn parse(side: ForwardSide, text: &str, is_dynamic: bool) -> Result<Forward, BadForward> {
        let fields = fields(text).ok_or(BadForward)?;
        let is_remote = side == ForwardSide::Remote;
        let tcp = |host: Option<&Field>, port: &Field| -> Result<ListenAddress, BadForward> {
            let port = number(port)?;
            if port == 0 && !is_remote {
                return Err(BadForward);
            }
            let host = host.map(|host| short(&host.text)).transpose()?;
            Ok(ListenAddress::Tcp { host, port })
        };
        let unix = |field: &Field| path(&field.text).map(ListenAddress::Unix);
        let peer = |host: &Field, port: &Field| -> Result<Peer, BadForward> {
            match (short(&host.text)?, number(port)?) {
                (_, 0) => Err(BadForward),
                (host, port) => Ok(Peer::Tcp { host, port }),
            }
        };
        let socket = |field: &Field| path(&field.text).map(Peer::Unix);
        let (listen, to) = match fields.as_slice() {
            [one] if is_dynamic && one.is_path => (unix(one)?, None),
            [one] if is_dynamic => (tcp(None, one)?, None),
            [one, two] if is_dynamic && !one.is_path && !two.is_path => {
                (tcp(Some(one), two)?, None)
            }
            _ if is_dynamic => return Err(BadForward),
            [one, two] if one.is_path && two.is_path => (unix(one)?, Some(socket(two)?)),
            [one, two] if two.is_path => (tcp(None, one)?, Some(socket(two)?)),
            [one, two, three] if one.is_path => (unix(one)?, Some(peer(two, three)?)),
            [one, two, three] if three.is_path => (tcp(Some(one), two)?, Some(socket(three)?)),
            [one, two, three] => (tcp(None, one)?, Some(peer(two, three)?)),
            [one, two, three, four] => (tcp(Some(one), two)?, Some(peer(three, four)?)),
            _ => return Err(BadForward),
        };
        Ok(Forward { side, listen, to })
    }
}

/// One field of a forward's text.
struct Field {
    text: String,
    /// Whether it holds a slash, and so is the path of a socket.
    is_path: bool,
}

/// Most fields of a forward.
const MAX_FIELDS: usize = 4;

/// Cuts a forward's text at its colons. Brackets keep a field together, and a backslash a character.
fn fields(text: &str) -> Option<Vec<Field>> {
    let mut rest = text.trim_ascii_start();
    let mut fields = Vec::new();
    while fields.len() < MAX_FIELDS && !rest.is_empty() {
        let (field, after) = match rest.strip_prefix('[') {
            Some(inside) => {
                let (inside, after) = inside.split_once(']')?;
                let after = if after.is_empty() { after } else { after.strip_prefix(':')? };
                (Field { is_path: inside.starts_with('/'), text: inside.to_owned() }, after)
            }
            None => plain_field(rest)?,
        };
        fields.push(field);
        rest = after;
    }
    (rest.is_empty() && !fields.is_empty()).then_some(fields)
}

fn plain_field(text: &str) -> Option<(Field, &str)> {
    let (mut field, mut is_path) = (String::new(), false);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return Some((Field { text: field, is_path }, &text[at + 1..])),
            '\\' => {
                let (_, kept) = characters.next()?;
                field.push(kept);
            }
            character => {
                is_path |= character == '/';
                field.push(character);
            }
        }
    }
    Some((Field { text: field, is_path }, ""))
}

fn number(field: &Field) -> Result<u16, BadForward> {
    let is_number = !field.text.is_empty() && field.text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { field.text.parse().map_err(|_| BadForward) } else { Err(BadForward) }
}

fn short(host: &str) -> Result<String, BadForward> {
    if host.len() < MAX_HOST && !host.contains('\0') {
        Ok(host.to_owned())
    } else {
        Err(BadForward)
    }
}

fn path(path: &str) -> Result<Vec<u8>, BadForward> {
    let fits = !path.is_empty() && path.len() <= MAX_SOCKET_PATH && !path.contains('\0');
    if fits { Ok(path.as_bytes().to_vec()) } else { Err(BadForward) }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp { host: None, port } => write!(f, "localhost:{port}"),
            ListenAddress::Tcp { host: Some(host), port } if host.is_empty() => {
                write!(f, "*:{port}")
            }
            ListenAddress::Tcp { host: Some(host), port } => {
                let host = printable::word(host, printable::MAX_LINE);
                if host.contains(':') {
                    write!(f, "[{host}]:{port}")
                } else {
                    write!(f, "{host}:{port}")
                }
            }
            ListenAddress::Unix(path) => {
                f.write_str(&printable::word(&String::from_utf8_lossy(path), printable::MAX_LINE))
            }
        }
    }
}

impl fmt::Display for Forward {
    /// As the option of a command line: `-L localhost:8080:web1:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match (self.side, &self.to) {
            (ForwardSide::Remote, _) => 'R',
            (ForwardSide::Local, Some(_)) => 'L',
            (ForwardSide::Local, None) => 'D',
        };
        write!(f, "-{letter} {}", self.listen)?;
        match &self.to {
            Some(to) => write!(f, ":{}", printable::word(&to.to_string(), printable::MAX_LINE)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(forward: Result<Forward, BadForward>) -> String {
        forward.map_or_else(|_| "bad".to_owned(), |forward| forward.to_string())
    }

    #[test]
    fn forwards_are_read_as_ssh_reads_them() {
        for (letter, text, expected) in [
            ('L', "8080:web1:80", "-L localhost:8080:web1:80"),
            ('L', "*:8080:web1:80", "-L *:8080:web1:80"),
            ('L', ":8080:web1:80", "-L *:8080:web1:80"),
            ('L', "10.0.0.1:8080:[::1]:80", "-L 10.0.0.1:8080:[::1]:80"),
            ('L', "[::1]:8080:[::2]:80", "-L [::1]:8080:[::2]:80"),
            ('L', "/run/a:/run/b", "-L /run/a:/run/b"),
            ('L', "8080:/run/b", "-L localhost:8080:/run/b"),
            ('L', "web1:8080:/run/b", "-L web1:8080:/run/b"),
            ('L', "/run/a:web1:80", "-L /run/a:web1:80"),
            ('L', r"/run/a\:1:web1:80", "-L /run/a:1:web1:80"),
            ('L', "[/run/a:1]:web1:80", "-L /run/a:1:web1:80"),
            ('L', " 8080:web1:80", "-L localhost:8080:web1:80"),
            ('R', "0:web1:80", "-R localhost:0:web1:80"),
            ('R', "8080", "-R localhost:8080"),
            ('R', "*:8080", "-R *:8080"),
            ('R', "/run/a", "-R /run/a"),
            ('D', "1080", "-D localhost:1080"),
            ('D', "[::1]:1080", "-D [::1]:1080"),
            ('D', "/run/a", "-D /run/a"),
        ] {
            let read = match letter {
                'L' => Forward::local(text),
                'R' => Forward::remote(text),
                _ => Forward::dynamic(text),
            };
            assert_eq!(shown(read), expected, "-{letter} {text}");
        }
    }

    #[test]
    fn what_ssh_refuses_is_no_forward() {
        for text in [
            "",
            ":",
            "8080",
            "8080:80",
            "0:web1:80",
            "8080:web1:0",
            "65536:web1:80",
            "8080:web1:80:90:100",
            "x:web1:80",
            "8080:web1:-1",
            "8080:web1:+1",
            "[::1:8080:web1:80",
            "[::1]8080:web1:80",
            r"8080:web1:80\",
            "8080:web1:80 ",
            "/run/a:",
        ] {
            assert_eq!(shown(Forward::local(text)), "bad", "{text:?}");
        }
        assert_eq!(shown(Forward::local(&format!("/{}:a:1", "x".repeat(MAX_SOCKET_PATH)))), "bad");
        assert_eq!(shown(Forward::dynamic("1080:web1:80")), "bad");
        assert_eq!(shown(Forward::dynamic("0")), "bad");
        assert_eq!(shown(Forward::remote("8080:web1")), "bad");
    }

    #[test]
    fn the_words_of_a_configuration_are_read() {
        use ForwardSide::{Local, Remote};
        for (side, listen, to, expected) in [
            (Local, "8080", Some("[web1]:80"), "-L localhost:8080:web1:80"),
            (Local, "[::1]:8080", Some("[web1]:80"), "-L [::1]:8080:web1:80"),
            (Local, "/run/a", Some("/run/b"), "-L /run/a:/run/b"),
            (Local, "1080", None, "-D localhost:1080"),
            (Remote, "1080", Some("[socks]:0"), "-R localhost:1080"),
            (Remote, "1080", None, "-R localhost:1080"),
        ] {
            assert_eq!(shown(Forward::configured(side, listen, to)), expected);
        }
    }

    #[test]
    fn gateway_ports_opens_ports_here_and_says_nothing_of_the_target() {
        let all = ForwardOptions { gateway_ports: Some(true), ..ForwardOptions::default() };
        let none = ForwardOptions::default();
        for (options, forward, expected) in [
            (&none, Forward::local("80:a:80"), "localhost:80"),
            (&all, Forward::local("80:a:80"), "*:80"),
            (&all, Forward::local("localhost:80:a:80"), "localhost:80"),
            (&none, Forward::local("*:80:a:80"), "*:80"),
            (&all, Forward::remote("80:a:80"), "localhost:80"),
            (&none, Forward::remote(":80:a:80"), "*:80"),
        ] {
            assert_eq!(options.listen(&forward.unwrap()).address.to_string(), expected);
        }
    }

    #[test]
    fn the_first_word_on_an_option_counts() {
        let given = ForwardOptions { bind_mask: Some(0), ..ForwardOptions::default() };
        let configured = ForwardOptions {
            bind_mask: Some(0o77),
            clear_all: Some(true),
            permit_remote_open: vec!["none".to_owned()],
            ..ForwardOptions::default()
        };
        let both = given.or(&configured);
        assert_eq!(both.bind_mask, Some(0));
        assert_eq!((both.clear_all, both.permit_remote_open.len()), (Some(true), 1));
    }
}
