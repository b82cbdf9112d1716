//! What a person is told of the way to a context, who looks for a fault (`ssh -v`).

use std::path::PathBuf;

use crate::caller::Caller;
use crate::ssh_config::Resolved;

use super::path::Host;
use super::pool::{Pool, is_usable};
use super::segment::{Hops, KeyPart, Walk};

/// Tells what the configuration says of the hosts of a walk.
pub(super) async fn configuration(walk: &Walk, caller: &Caller) {
    for Host { resolved, .. } in hosts(walk) {
        let Resolved { host, hostname, port, user, .. } = resolved;
        let text = || format!("{host} is {hostname}, port {port}, as {user} (ssh_config)");
        caller.detail(1, text).await;
        caller.detail(2, || settings(resolved)).await;
        caller.detail(3, || algorithms(resolved)).await;
    }
}

/// Tells which connections are held to the last host of a walk, and serve it not.
pub(super) async fn unserving(walk: &Walk, pool: &Pool, caller: &Caller) {
    let Some(host) = hosts(walk).last() else { return };
    for (key, weak) in pool.connections.entries() {
        let Some(KeyPart::Host(held)) = key.last() else { continue };
        if !is_usable(&weak) || *held == host.endpoint {
            continue;
        }
        if let Some(differences) = held.differences(&host.endpoint) {
            let host = &host.resolved.host;
            let differences = if differences.is_empty() {
                "the way there".to_owned()
            } else {
                differences.join(", ")
            };
            let text = || {
                format!(
                    "a connection to {host} is held that is not for this command: it differs in {differences}"
                )
            };
            caller.detail(1, text).await;
        }
    }
}

fn hosts(walk: &Walk) -> impl Iterator<Item = &Host> {
    walk.0.iter().flat_map(|segment| match &segment.hops {
        Hops::Ssh(hosts) => hosts.as_slice(),
        Hops::Helper(_) => &[],
    })
}

fn settings(resolved: &Resolved) -> String {
    let files = |files: &[PathBuf]| {
        let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        if files.is_empty() { "none".to_owned() } else { files.join(" ") }
    };
    let agent = resolved.identity_agent.as_ref();
    format!(
        "{}: keys {}; agent {}{}; known hosts {} {}; StrictHostKeyChecking {:?}; methods {:?}{}",
        resolved.host,
        files(&resolved.identity_files),
        agent.map_or_else(|| "none".to_owned(), |agent| agent.display().to_string()),
        if resolved.identities_only { " (IdentitiesOnly)" } else { "" },
        files(&resolved.user_known_hosts_files),
        files(&resolved.global_known_hosts_files),
        resolved.strict_host_key_checking,
        resolved.methods(),
        if resolved.batch_mode { "; BatchMode" } else { "" },
    )
}

fn algorithms(resolved: &Resolved) -> String {
    let own = &resolved.algorithms;
    let list = |list: &Option<Vec<String>>| {
        list.as_ref().map_or_else(|| "ours".to_owned(), |list| list.join(","))
    };
    format!(
        "{}: Ciphers {}; MACs {}; KexAlgorithms {}; HostKeyAlgorithms {}",
        resolved.host,
        list(&own.ciphers),
        list(&own.macs),
        list(&own.kex),
        list(&own.host_keys),
    )
}
