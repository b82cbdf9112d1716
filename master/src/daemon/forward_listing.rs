//! The list of all forwards that the master has open.

use std::sync::Arc;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::{Forward, ListenAddress};
use serde::{Deserialize, Serialize};

use crate::open_forwards::{OpenForward, OpenForwards};

/// One forward, as `fakessh forward --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardListing {
    /// What `fakessh forward cancel` takes.
    pub id: u64,
    /// The id of the context that it leads through.
    pub context_id: String,
    /// The name of that context.
    pub context: String,
    /// The forward as an option of `ssh`.
    pub forward: String,
    /// The TCP port that is listened on; none for a Unix socket.
    pub port: Option<u16>,
    /// Connections that are open now.
    pub connections: usize,
    /// Connections in all.
    pub served: u64,
}

impl ForwardListing {
    pub(super) fn of(forwards: &OpenForwards) -> Vec<ForwardListing> {
        forwards.all().iter().map(listing).collect()
    }
}

fn listing(forward: &Arc<OpenForward>) -> ForwardListing {
    let (connections, served) = forward.connections.counts();
    let (number, name) = &forward.context;
    let mut shown = forward.forward.clone();
    let port = match &mut shown {
        Forward { listen: ListenAddress::Tcp { port, .. }, .. } => {
            *port = forward.port;
            Some(forward.port)
        }
        Forward { listen: ListenAddress::Unix(_), .. } => None,
    };
    ForwardListing {
        id: forward.id,
        context_id: format!("@{number}"),
        context: name.clone(),
        forward: shown.to_string(),
        port,
        connections,
        served,
    }
}

/// Ends the forwards of these numbers.
///
/// # Errors
/// Names the first number that no forward has. Then none is ended.
pub(super) async fn cancel(forwards: &OpenForwards, ids: &[u64]) -> Result<(), Failure> {
    let all = forwards.all();
    let find = |id: &u64| {
        let message = || format!("there is no forward {id}; `fakessh forward` lists them");
        let found = all.iter().find(|forward| forward.id == *id);
        found.ok_or_else(|| Failure::new(FailureKind::NotFound, message()))
    };
    let found = ids.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    for forward in found {
        forward.cancel().await;
    }
    Ok(())
}
