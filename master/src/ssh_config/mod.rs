//! How a host is reached, as the user's own `ssh_config` says it.
//!
//! The real `ssh -G` does the reading (`ssh_g`), so that `Host`, `Match exec`, `Include` and
//! everything else count exactly as they do for `ssh`. What it leaves to be expanded is expanded
//! here (`tokens`).

mod algorithm_lists;
mod defaults;
mod destination;
mod error;
mod files;
mod forwards;
mod key_rules;
mod known_hosts_command;
mod methods;
mod resolve;
mod resolved;
mod ssh_g;
mod tokens;
mod values;
mod without_ssh;

pub(crate) use destination::check_host;
pub use destination::{DestinationError, MAX_JUMPS, parse_destination, parse_proxy_jump};
pub use error::ConfigError;
pub use forwards::ConfiguredForwards;
pub use key_rules::{KeyRules, ShortRsa};
pub use known_hosts_command::{CommandError, known_hosts_command};
pub use methods::Method;
pub use resolve::resolve;
pub(crate) use resolved::read_dump;
pub use resolved::{Algorithms, Resolved, StrictHostKeyChecking};
pub(crate) use ssh_g::{is_run_directory, words};
pub use tokens::expand_proxy_command;
pub use values::{AddressFamily, RekeyLimit, UpdateHostKeys};

use std::ffi::OsString;
use std::fmt;

/// A host as the user named it, before any configuration is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host's name or address, or an alias of `ssh_config`.
    pub host: String,
    /// The user of `user@host`, `-l` or `-o User=`; wins over the configuration.
    pub user: Option<String>,
    /// The port of `host:port`, `-p` or `-o Port=`; wins over the configuration.
    pub port: Option<u16>,
    /// Options that say how to get there, as the user gave them and in the form in which `ssh -G`
    /// takes them: `-F file`, `-i file`, `-J jump`, `-o Key=value`.
    pub connection: Vec<OsString>,
}

/// `[user@]host[:port]`, without options.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            // What follows a single colon would be the port.
            None if self.host.matches(':').count() == 1 => write!(f, "[{}]", self.host),
            None => f.write_str(&self.host),
        }
    }
}
