//! Forwards: takes connections at one end of a context and passes them on at the other.
//!
//! Where a connection comes in here, a [`Connection`] is opened there, as for any stream. Where one
//! comes in there, the context's slave or SSH server tells ([`Context::listen`]), and whoever asked
//! for the forward connects here. `join` moves the bytes, and `socks` finds out where to.

mod agent;
mod join;
mod local;
mod remote;
mod socks;

use std::sync::Arc;

use fakessh_protocol::forward::{Forward, ForwardOptions, ForwardSide};

pub(crate) use agent::serve as serve_agent;

use crate::context::Context;
use crate::fd_limit;
use crate::open_forwards::{
    Connections, Connectors, OpenForward, OpenForwards, Serving, Sockets, UsedForward,
};

/// Opens a forward through a context. If the same one is open already, it is shared: on the target
/// at once, and here if it can't be had a second time. Whoever asks may live in a network of its own,
/// in which the first one's port is not there.
///
/// # Errors
/// Why it can't be had, in one line. Cancelled, nothing is left.
pub(crate) async fn open(
    table: &OpenForwards,
    context: &Arc<Context>,
    forward: &Forward,
    options: &ForwardOptions,
    sockets: &Arc<dyn Sockets>,
) -> Result<UsedForward, String> {
    fd_limit::check().map_err(|failure| failure.message)?;
    let number = context.id().number();
    let _turn = table.turn(number, forward).await;
    let shared = || {
        let open = table.find(number, forward)?;
        open.connectors.add(sockets);
        Some(UsedForward::of(open))
    };
    let connectors = Connectors::default();
    connectors.add(sockets);
    let connections = Connections::new();
    let listen = options.listen(forward);
    let (port, serving) = match forward.side {
        ForwardSide::Local => {
            let listener = match sockets.listen(listen).await {
                Ok(listener) => listener,
                Err(why) => return shared().ok_or(why),
            };
            let port = listener.sockets.first().and_then(local::port).unwrap_or(0);
            let (context, to, all) = (context.clone(), forward.to.clone(), connections.clone());
            let serve = |listening| local::serve(context, listener, to, all, listening);
            (port, Serving::spawn(serve))
        }
        ForwardSide::Remote => {
            if let Some(open) = shared() {
                return Ok(open);
            }
            let listener = context.listen(listen).await.map_err(|failure| failure.message)?;
            let port = listener.port;
            let to = match &forward.to {
                Some(peer) => remote::To::Peer(peer.clone()),
                None => remote::To::Socks(options.permit_remote_open.clone()),
            };
            let (connectors, all) = (connectors.clone(), connections.clone());
            let serve = |listening| remote::serve(listener, to, connectors, all, listening);
            (port, Serving::spawn(serve))
        }
    };
    let open = Arc::new(OpenForward {
        id: OpenForward::next_id(),
        context: (number, context.name().to_owned()),
        forward: forward.clone(),
        port,
        connections,
        connectors,
        serving,
        users: Arc::default(),
    });
    table.add(&open);
    Ok(UsedForward::of(open))
}
