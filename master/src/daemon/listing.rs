//! The list of all contexts that the master holds.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::context::Branch;

/// One context, as `fakessh ls --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// What `fakessh close` takes where several have one name: `@3`.
    pub id: String,
    /// The route as it was first asked for.
    pub name: String,
    /// The name of the context that this one hangs on.
    pub parent: Option<String>,
    /// The place of that one in the list, from 0, before this one: names may be there twice.
    pub parent_index: Option<usize>,
    /// How many contexts this one hangs on.
    pub depth: usize,
    /// The account that programs run as.
    pub user: String,
    /// Host name or address of the nearest SSH connection; none where there is none.
    pub host: Option<String>,
    /// Its TCP port.
    pub port: Option<u16>,
    /// Why no slave runs there, and each session has an SSH channel of its own.
    pub direct: Option<String>,
    /// Seconds since 1970 at which it was connected.
    pub connected_at: u64,
    /// Seconds since 1970 at which it ends if nobody uses it until then; none while it is used, and
    /// where it ends never by itself.
    pub ends_at: Option<u64>,
    /// Seconds for which it is held while nothing runs in it; none for ever.
    pub persist: Option<u64>,
    /// Whether a session runs in it, or something hangs on it.
    pub busy: bool,
    /// Sessions that run now.
    pub sessions: usize,
    /// Sessions that were started in all.
    pub served: u64,
}

impl Listing {
    pub(super) fn of(tree: &[Branch]) -> Vec<Listing> {
        tree.iter().map(|branch| listing(branch, tree)).collect()
    }
}

fn listing(Branch { context, parent, depth }: &Branch, tree: &[Branch]) -> Listing {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Listing {
        id: context.id().to_string(),
        name: context.name().to_owned(),
        parent: parent.map(|parent| tree[parent].context.name().to_owned()),
        parent_index: *parent,
        depth: *depth,
        user: context.user().to_owned(),
        host: context.address().map(|(host, _)| host.to_owned()),
        port: context.address().map(|(_, port)| port),
        direct: context.why_direct().map(|why| why.to_string()),
        connected_at: seconds(context.since()),
        ends_at: context.ends_at().map(seconds),
        persist: context.persist().limit().map(|limit| limit.as_secs()),
        busy: context.is_busy(),
        sessions: context.sessions(),
        served: context.served(),
    }
}
