//! Held connections for callers whose options are others, and would have led there as well.

use std::sync::Arc;

use crate::hop::ssh::WeakConnection;

use super::path::Endpoint;
use super::pool::{Pool, is_usable};
use super::segment::{Hops, Key, KeyPart, Walk};

/// Has a walk lead along connections that are held, where those serve its caller.
pub(super) fn along_held(mut walk: Walk, pool: &Pool) -> Walk {
    let mut key = Key::new();
    for segment in &mut walk.0 {
        match &mut segment.hops {
            Hops::Ssh(hosts) => {
                for host in hosts {
                    if let Some(held) = serving(pool, &key, &host.endpoint) {
                        host.endpoint = held;
                    }
                    key.push(KeyPart::Host(host.endpoint.clone()));
                }
            }
            Hops::Helper(hop) => key.push(KeyPart::Helper(hop.clone())),
        }
    }
    walk
}

/// The endpoint of a held connection that serves who asks for this one after these steps. `None` if
/// there is no such connection, or one to the very endpoint.
fn serving(pool: &Pool, before: &Key, asked: &Arc<Endpoint>) -> Option<Arc<Endpoint>> {
    let mut own = before.clone();
    own.push(KeyPart::Host(asked.clone()));
    if pool.connections.peek(&own).is_some_and(|connection| is_usable(&connection)) {
        return None;
    }
    let serving = |(key, weak): (Key, WeakConnection)| {
        let (KeyPart::Host(held), steps) = key.split_last()? else { return None };
        let connection = Some(weak).filter(is_usable)?.upgrade()?;
        let serves = steps == before.as_slice() && held.serves(asked, &connection);
        serves.then(|| held.clone())
    };
    pool.connections.entries().into_iter().find_map(serving)
}
