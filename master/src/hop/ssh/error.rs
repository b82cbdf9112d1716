//! Why there is no connection, or none any more, in one line that says what to do.

use std::net::SocketAddr;
use std::time::Duration;

use fakessh_protocol::failure::FailureKind;
use russh::ChannelOpenFailure;
use thiserror::Error;

use crate::auth::AuthError;
use crate::known_hosts::HostKeyError;

/// A connection could not be made. Its text begins as ssh's own does, since programs look for that.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No address is known for the name.
    #[error(
        "ssh: Could not resolve hostname {hostname}: {error}; check the name, or its HostName in \
         ssh_config"
    )]
    HostNotFound {
        /// The name that was looked up.
        hostname: String,
        /// What the resolver said.
        error: String,
    },
    /// Nothing listens there.
    #[error(
        "{}Connection refused; check that sshd runs there, and the port{}", at(hostname, *address),
        numeric(hostname, *address)
    )]
    Refused {
        /// The server's name, as fakessh connected to it.
        hostname: String,
        /// Where it was tried.
        address: SocketAddr,
    },
    /// There is no way to the address.
    #[error(
        "{}{}; check the network, or name a jump host with -J{}", at(hostname, *address),
        cause(error), numeric(hostname, *address)
    )]
    NoRoute {
        /// The server's name, as fakessh connected to it.
        hostname: String,
        /// Where it was tried.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// No address has answered in time.
    #[error(
        "{}Connection timed out; it did not answer within {} seconds; check the address and the \
         firewall, or set ConnectTimeout{}", at(hostname, *address), limit.as_secs(),
        numeric(hostname, *address)
    )]
    NoAnswer {
        /// The server's name, as fakessh connected to it.
        hostname: String,
        /// Where it was tried.
        address: SocketAddr,
        /// How long it could have taken.
        limit: Duration,
    },
    /// What answers was not ready in time.
    #[error(
        "{what}; {host} was not ready within {} seconds; check the port and the server, or set \
         ConnectTimeout", limit.as_secs()
    )]
    TimedOut {
        /// The host and port.
        host: String,
        /// What did not happen, in ssh's words.
        what: String,
        /// How long it could have taken.
        limit: Duration,
    },
    /// Another error of the system.
    #[error("{}{}{}", at(hostname, *address), cause(error), numeric(hostname, *address))]
    Tcp {
        /// The server's name, as fakessh connected to it.
        hostname: String,
        /// Where it was tried.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The `ProxyCommand` could not be started, or ended.
    #[error("ProxyCommand '{command}' failed: {message}")]
    ProxyCommand {
        /// The command, with its tokens replaced.
        command: String,
        /// What it printed, or how it ended.
        message: String,
    },
    /// The host that the way leads through did not open a connection.
    #[error("{jump} cannot reach {hostname}:{port}: {message}")]
    Jump {
        /// The host on the way.
        jump: String,
        /// Where it should have connected to.
        hostname: String,
        /// The port.
        port: u16,
        /// What it said.
        message: String,
        /// Whether its SSH server opens none, wherever to.
        forbidden: bool,
    },
    /// Whatever is there does not speak SSH.
    #[error("{host} is not an SSH server: it sent '{seen}'; check the port")]
    NotSsh {
        /// The host and port.
        host: String,
        /// The beginning of what it sent.
        seen: String,
    },
    /// A wrong signature, or another fault of the exchange of keys.
    #[error("key exchange with {host} failed: {message}")]
    KeyExchange {
        /// The host and port.
        host: String,
        /// What went wrong.
        message: String,
    },
    /// No common algorithm.
    #[error(
        "Unable to negotiate with {hostname} port {port}: no matching {what} found. Their offer: \
         {theirs}; fakessh offers {ours}; {advice}"
    )]
    NoCommonAlgorithm {
        /// The server's name, as fakessh connected to it.
        hostname: String,
        /// The port.
        port: u16,
        /// The kind of algorithm, in ssh's words.
        what: &'static str,
        /// What the server offers.
        theirs: String,
        /// What fakessh offers.
        ours: String,
        /// What to do.
        advice: String,
    },
    /// Nothing is left of a list of algorithms that the user has set.
    #[error(
        "cannot connect to {host}: {keyword} is set to '{list}', of which nothing can be used here; \
         {keyword} may name: {usable}"
    )]
    NoAlgorithm {
        /// The host and port.
        host: String,
        /// The keyword of `ssh_config`.
        keyword: &'static str,
        /// What it is set to.
        list: String,
        /// What it could be.
        usable: String,
    },
    /// The host is not who it should be, or nobody could say so.
    #[error(transparent)]
    HostKey(#[from] Box<HostKeyError>),
    /// The server did not let us in.
    #[error(transparent)]
    Auth(#[from] Box<AuthError>),
    /// The connection ended before it was of use.
    #[error("Connection closed by {hostname} port {port}: {message}")]
    Disconnected {
        /// The server's name, as fakessh connected to it.
        hostname: String,
        /// The port.
        port: u16,
        /// What it said, or what became of the connection.
        message: String,
    },
}

impl ConnectError {
    /// What kind of failure it is.
    pub fn kind(&self) -> FailureKind {
        match self {
            _ if self.is_unanswered() => FailureKind::NeedsAnswer,
            ConnectError::HostNotFound { .. } => FailureKind::Resolve,
            ConnectError::NoAlgorithm { .. } => FailureKind::Config,
            ConnectError::HostKey(_) => FailureKind::HostKey,
            ConnectError::Auth(_) => FailureKind::Auth,
            ConnectError::Refused { .. }
            | ConnectError::NoRoute { .. }
            | ConnectError::NoAnswer { .. }
            | ConnectError::NoCommonAlgorithm { .. }
            | ConnectError::TimedOut { .. }
            | ConnectError::Tcp { .. }
            | ConnectError::ProxyCommand { .. }
            | ConnectError::Jump { .. }
            | ConnectError::NotSsh { .. }
            | ConnectError::KeyExchange { .. }
            | ConnectError::Disconnected { .. } => FailureKind::Connect,
        }
    }

    /// Whether a question was left that only this caller could not be asked: with another caller
    /// it may go well.
    pub fn is_unanswered(&self) -> bool {
        match self {
            ConnectError::HostKey(error) => {
                matches!(**error, HostKeyError::Unknown { unanswered: true, .. })
            }
            ConnectError::Auth(error) => {
                matches!(**error, AuthError::Refused { unanswered: true, .. })
            }
            _ => false,
        }
    }
}

/// How ssh begins to say that no connection was made.
fn at(hostname: &str, address: SocketAddr) -> String {
    format!("ssh: connect to host {hostname} port {}: ", address.port())
}

/// The address that was tried last, if the name does not say it.
fn numeric(hostname: &str, address: SocketAddr) -> String {
    match address.ip().to_string() {
        ip if ip == hostname => String::new(),
        ip => format!(" (it was tried at {ip})"),
    }
}

/// What the system says, without the number that it has here.
fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

/// A connection that was up has ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("connection to {host} lost: {message}")]
pub struct ConnectionLost {
    /// The host as it was named.
    pub host: String,
    /// What the server said, or what became of the connection.
    pub message: String,
}

/// A connection that is up did not open a channel.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ChannelError {
    /// The server refused it.
    #[error("{host} refused to open {what}: {message}")]
    Refused {
        /// The host as it was named.
        host: String,
        /// What it was asked for.
        what: String,
        /// Its reason.
        message: String,
        /// Whether it is not allowed.
        forbidden: bool,
    },
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
}

/// Why a server did not open a channel: what its number means (RFC 4254 section 5.1), and its own
/// words.
pub(super) fn refused_channel(failure: &ChannelOpenFailure, words: &str) -> String {
    let meaning = match failure {
        ChannelOpenFailure::AdministrativelyProhibited => {
            "its SSH server does not allow that (see AllowTcpForwarding, PermitOpen, MaxSessions)"
        }
        ChannelOpenFailure::ConnectFailed => "its SSH server could not open it",
        ChannelOpenFailure::UnknownChannelType => "its SSH server knows no such thing",
        ChannelOpenFailure::ResourceShortage => "its SSH server is short of resources",
        _ => "its SSH server does not say why",
    };
    // sshd's words where it has none of its own.
    if words.is_empty() || words == "open failed" {
        return meaning.to_owned();
    }
    format!("{meaning}: {words}")
}

/// What became of a connection, for people.
pub(super) fn describe(error: &russh::Error) -> String {
    match error {
        russh::Error::IO(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the other end closed it".to_owned()
        }
        russh::Error::IO(error) => error.to_string(),
        russh::Error::Disconnect | russh::Error::HUP | russh::Error::RecvError => {
            "the other end closed it".to_owned()
        }
        russh::Error::WrongServerSig => {
            "the server's signature is wrong; somebody may be listening in".to_owned()
        }
        russh::Error::NoAuthMethod => "it accepts no method any more".to_owned(),
        error => error.to_string(),
    }
}
