//! What clients of the master ask for.

use std::collections::BTreeMap;

use fakessh_protocol::failure::{Failure, FailureKind};
use serde::{Deserialize, Serialize};

use crate::hop;
use crate::json_bytes::JsonBytes;
use crate::lifetime::Rules;
use crate::route::{Route, RouteJson};
use crate::run::RunDestination;
use crate::ssh_config::parse_destination;
use crate::tool::RunDirectoryName;

/// What a client wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Connect to what a route leads to, or find it connected. The answer is the context
    /// ([`Reached`](crate::control::Reached)); as long as this connection is open, it is in use, and
    /// programs are started in it by [`ClientMessage::Start`](crate::control::ClientMessage::Start).
    Connect(ConnectRequest),
    /// Connect, and serve a tool. The first descriptor is the master's end of the run's socket
    /// pair, the second (where there is a directory) its listening socket. When the tool has ended,
    /// the client sends [`ClientMessage::Ended`](crate::control::ClientMessage::Ended), and is told what
    /// became of the run: [`RunEnd`].
    Run(Box<RunRequest>),
    /// Name all contexts: [`Listing`](super::Listing).
    List,
    /// Name all forwards: [`ForwardListing`](super::ForwardListing).
    Forwards,
    /// End the forwards of these numbers, and their connections.
    CancelForwards(Vec<u64>),
    /// Close the contexts of these names or ids.
    Close(Vec<String>),
    /// Close all contexts.
    CloseAll,
    /// Close the contexts to which nobody gets again without an answer.
    Lock {
        /// Whether those stay in which a session runs.
        idle: bool,
    },
    /// Close everything and end.
    Stop,
}

/// A context that is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// The way there.
    pub to: Place,
    /// How the contexts on the way are held. The default holds a login for eight hours.
    #[serde(default)]
    pub rules: Rules,
}

/// Where a context is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// At the end of a route, which a person or the author of the client wrote.
    Route(RouteJson),
    /// On this host, `[user@]host[:port]`: a name from data, which is never read as a route.
    Host(String),
}

impl ConnectRequest {
    /// Holds that each rule is about a kind of hop that there is, or about a route: a rule that means
    /// nothing would leave out a question that somebody wants.
    ///
    /// # Errors
    /// Names the first rule that is about nothing.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let config = |message: String| Failure::new(FailureKind::Config, message);
        for name in self.rules.hops.keys() {
            if name != "ssh" && hop::kind(name).is_none() {
                return Err(config(format!(
                    "a rule is for the hop {name:?}, and there is no such hop"
                )));
            }
        }
        for text in self.rules.routes.keys() {
            let route = Route::parse(text);
            route.map_err(|error| config(format!("a rule is for the route {text:?}: {error}")))?;
        }
        Ok(())
    }
}

impl Place {
    /// The route there.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn into_route(self) -> Result<Route, Failure> {
        let route = match self {
            Place::Route(route) => Route::try_from(route).map_err(|error| error.to_string()),
            Place::Host(host) => {
                parse_destination(&host).map(Route::from).map_err(|error| error.to_string())
            }
        };
        route.map_err(|message| Failure::new(FailureKind::Config, message))
    }
}

/// What a run may reach.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunRequest {
    /// The client's version: its shims speak to the master, which must be of the same.
    pub version: String,
    /// Where the tool itself is to run; on this host where there is none.
    pub on: Option<Route>,
    /// Where names without a route lead, as far as they mean it.
    pub destination: Option<RunDestination>,
    /// Where these names lead.
    pub routes: BTreeMap<String, Route>,
    /// Where these names lead, while hosts are taken from command lines: the user's own names for
    /// routes, or why they lead nowhere. Not connected to before they are used.
    pub names: BTreeMap<String, Result<Route, String>>,
    /// Whether the first session of each mapped destination connects to it; else that is done
    /// before the tool starts.
    pub connect_later: bool,
    /// Options for hosts that are taken from command lines, where nothing else is given.
    pub connection: Vec<JsonBytes>,
    /// Whether what we can't do is left to the real `ssh`, where hosts are taken from command
    /// lines; else it is refused.
    pub real_ssh: bool,
    /// The run directory, to be removed by the master where the client can't any more.
    pub directory: Option<RunDirectoryName>,
    /// How the contexts are held that the run uses.
    pub rules: Rules,
    /// Whether the client answers questions while the tool runs. Else those of a session go to who
    /// asks for it.
    pub answers: bool,
    /// The tool's name, for the audit log.
    pub tool: Option<String>,
}

/// What became of a run whose tool has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// Another process still holds the run. Then the master removes the run directory when that
    /// one has ended, too.
    pub is_held: bool,
    /// A shim of the run was started.
    pub was_called: bool,
}
