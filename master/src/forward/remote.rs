//! Connections that come in there, and are passed on here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::Peer;
use tokio::task::JoinSet;

use super::join::{FarEnd, LocalEnd};
use super::socks::{Client as _, destination};
use crate::fd_limit;
use crate::link::{Incoming, Listener};
use crate::open_forwards::{Connections, Connectors, Listening};

/// How long a client may take to name the host that it wants to reach.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// Where connections lead.
#[derive(Clone)]
pub(super) enum To {
    Peer(Peer),
    /// Wherever each says by SOCKS, if these words of `PermitRemoteOpen` permit it.
    Socks(Vec<String>),
}

/// Takes connections until it is to stop or the connection to the target is lost, and serves them to
/// their end. Cancelled, it ends them.
pub(super) async fn serve(
    mut listener: Listener,
    to: To,
    connectors: Connectors,
    connections: Arc<Connections>,
    mut listening: Listening,
) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            () = listening.stopped() => break,
            incoming = listener.incoming.recv() => {
                let Some(incoming) = incoming else { break };
                let (to, connectors, open) = (to.clone(), connectors.clone(), connections.begin());
                tasks.spawn(async move {
                    let _open = open;
                    let from = incoming.from.clone();
                    if let Err(failure) = pass_on(incoming, to, connectors).await {
                        tracing::info!(from, why = failure.message, "a forwarded connection failed");
                    }
                });
            }
            Some(_) = tasks.join_next() => {}
        }
    }
    drop((listener, listening));
    while tasks.join_next().await.is_some() {}
}

/// Passes one connection on.
async fn pass_on(incoming: Incoming, to: To, connectors: Connectors) -> Result<(), Failure> {
    let mut far = FarEnd::incoming(incoming);
    let (peer, reply) = match to {
        To::Peer(peer) => (peer, None),
        To::Socks(permitted) => {
            let asked = tokio::time::timeout(HANDSHAKE, destination(&mut far)).await;
            let Ok(Some((peer, reply))) = asked else { return Ok(()) };
            if !permits(&permitted, &peer) {
                far.write(reply.failed(FailureKind::Refused)).await;
                let why = format!("PermitRemoteOpen does not name {peer}");
                return Err(Failure::new(FailureKind::Refused, why));
            }
            (peer, Some(reply))
        }
    };
    fd_limit::check()?;
    let gone = || Failure::other("nobody is left who connects");
    let sockets = connectors.first().ok_or_else(gone)?;
    match sockets.connect(peer).await {
        Ok(socket) => {
            drop(sockets);
            if let Some(reply) = reply {
                far.write(reply.connected()).await;
            }
            LocalEnd::new(socket)?.join(far).await
        }
        Err(why) => {
            if let Some(reply) = reply {
                far.write(reply.failed(FailureKind::Connect)).await;
            }
            Err(Failure::new(FailureKind::Connect, why))
        }
    }
}

/// Whether the words of `PermitRemoteOpen` (`ssh_config(5)`) name this destination. No word is any.
fn permits(words: &[String], peer: &Peer) -> bool {
    let Peer::Tcp { host, port } = peer else { return false };
    let is_named = |word: &String| {
        let (name, its_port) = match word.rsplit_once(':') {
            Some((name, its_port)) => (name, its_port),
            None => return false,
        };
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let is_host = name == "*" || name.eq_ignore_ascii_case(host) || is_same(name, host);
        is_host && (its_port == "*" || its_port.parse() == Ok(*port))
    };
    match words {
        [] => true,
        [word] if word.eq_ignore_ascii_case("any") => true,
        [word] if word.eq_ignore_ascii_case("none") => false,
        words => words.iter().any(is_named),
    }
}

/// Whether two texts are one address.
fn is_same(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_permitted_is_opened() {
        let permits = |words: &[&str], host: &str| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            permits(&words, &Peer::Tcp { host: host.to_owned(), port: 80 })
        };
        assert!(permits(&[], "a") && permits(&["any"], "a") && !permits(&["none"], "a"));
        assert!(permits(&["b:80", "a:80"], "A") && permits(&["a:*"], "a"));
        assert!(permits(&["*:80"], "a") && permits(&["[::1]:80"], "0:0:0:0:0:0:0:1"));
        assert!(!permits(&["a:81"], "a") && !permits(&["a"], "a") && !permits(&["b:80"], "a"));
    }
}
