//! Connections that are opened at the far end.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::counted;

/// A connection that a slave opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Who is connected to.
    pub peer: Peer,
    /// Whether standard error is a [report](crate::report). Otherwise it has nothing but the reason
    /// of a failure, for people: so it is for a hop, which waits for nothing.
    pub reports: bool,
}

/// Who a connection leads to. Displayed, it is `HOST:PORT` or the path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// A TCP port.
    Tcp {
        /// Name or address, as the target resolves it.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A Unix stream socket, by its absolute path.
    Unix(#[serde(with = "counted::bytes")] Vec<u8>),
}

/// Most bytes of the path of a [`Peer::Unix`]: `sun_path` has 108 (unix(7)), the last of which ends
/// the path.
pub const MAX_SOCKET_PATH: usize = 107;

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Peer::Tcp { host, port } => write!(f, "{host}:{port}"),
            Peer::Unix(path) => f.write_str(&String::from_utf8_lossy(path)),
        }
    }
}
