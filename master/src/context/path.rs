//! The path to a host: every SSH connection on it, and what makes two connections the same.

use std::path::PathBuf;
use std::sync::Arc;

use crate::auth::keys_of_agent_alone;
use crate::caller::Caller;
use crate::hop::ssh::SshConnection;
use crate::ssh_config::{
    self, AddressFamily, Algorithms, KeyRules, MAX_JUMPS, Method, Resolved, StrictHostKeyChecking,
    Target, expand_proxy_command, known_hosts_command, parse_proxy_jump,
};

use super::ContextError;

/// One host on a path.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) resolved: Resolved,
    pub(super) endpoint: Arc<Endpoint>,
}

/// What makes two connections to one host the same, given the same path to it: who logs in where,
/// with which keys, and by which records the host's own key was believed.
///
/// A caller who trusts less must not get the connection of a caller who trusts more. So strictness,
/// the files of known hosts and revoked keys, and the demands on keys and algorithms count. At hosts
/// of git repositories the key alone says which account it is. So the keys count; of the agent
/// those that no file has ([`keys_of_agent_alone`]).
///
/// Of some options the held connection shows whether the caller's own would have led to it
/// ([`Endpoint::serves`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    user: String,
    hostname: String,
    port: u16,
    /// `Any` if it is not we who look the host up.
    address_family: AddressFamily,
    bind_address: Option<String>,
    bind_interface: Option<String>,
    proxy_command: Option<String>,
    host_key_alias: Option<String>,
    strict_host_key_checking: StrictHostKeyChecking,
    known_hosts_files: Vec<PathBuf>,
    revoked_host_keys: Vec<PathBuf>,
    known_hosts_command: Option<Vec<String>>,
    key_rules: KeyRules,
    algorithms: Algorithms,
    identity_files: Vec<PathBuf>,
    certificate_files: Vec<PathBuf>,
    identities_only: bool,
    agent_keys: Vec<String>,
    methods: Vec<Method>,
}

impl Endpoint {
    /// Whether a connection that was made to this endpoint would have come about by the options of
    /// the other one, too. The methods of the login and the address of the host were allowed, and
    /// the host's key was believed as strictly or more.
    pub(super) fn serves(&self, other: &Endpoint, connection: &SshConnection) -> bool {
        let as_strict = self.strict_host_key_checking <= other.strict_host_key_checking;
        let allowed = |method| other.methods.contains(method);
        let peer = connection.addresses().map(|addresses| addresses.peer.ip());
        as_strict
            && connection.methods().iter().all(allowed)
            && peer.is_none_or(|peer| other.address_family.has(peer))
            && *other
                == Endpoint {
                    address_family: other.address_family,
                    strict_host_key_checking: other.strict_host_key_checking,
                    methods: other.methods.clone(),
                    ..self.clone()
                }
    }
}

impl Endpoint {
    /// The options in which this differs from another endpoint of the same account at the same host;
    /// `None` for another account or host.
    pub(super) fn differences(&self, other: &Endpoint) -> Option<Vec<&'static str>> {
        let is_same =
            self.user == other.user && self.hostname == other.hostname && self.port == other.port;
        let keys = self.identity_files != other.identity_files
            || self.certificate_files != other.certificate_files
            || self.identities_only != other.identities_only
            || self.agent_keys != other.agent_keys;
        let differences = [
            ("AddressFamily", self.address_family != other.address_family),
            ("BindAddress", self.bind_address != other.bind_address),
            ("BindInterface", self.bind_interface != other.bind_interface),
            ("ProxyCommand", self.proxy_command != other.proxy_command),
            ("HostKeyAlias", self.host_key_alias != other.host_key_alias),
            (
                "StrictHostKeyChecking",
                self.strict_host_key_checking != other.strict_host_key_checking,
            ),
            ("files of known hosts", self.known_hosts_files != other.known_hosts_files),
            ("RevokedHostKeys", self.revoked_host_keys != other.revoked_host_keys),
            ("demands on keys", self.key_rules != other.key_rules),
            ("algorithms", self.algorithms != other.algorithms),
            ("keys", keys),
            ("methods of authentication", self.methods != other.methods),
        ];
        let found = differences.into_iter().filter(|(_, differs)| *differs);
        is_same.then(|| found.map(|(name, _)| name).collect())
    }
}

/// Finds the hosts that a row of `ssh` steps leads through, the nearest first. The last host is
/// where the row leads; there is always one.
///
/// The first step is reached as its own configuration says, unless the row is `behind` another
/// context. Each of the other steps is reached through the step before it.
///
/// # Errors
/// [`ContextError`], also if the path leads in a circle or through too many hosts.
pub(super) async fn path(
    targets: &[Target],
    behind: bool,
    caller: &Caller,
) -> Result<Vec<Host>, ContextError> {
    let mut hosts = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        if index == 0 && !behind {
            hosts = configured(target, caller).await?;
        } else {
            hosts.push(behind_another(target.clone(), caller).await?);
        }
    }
    Ok(hosts)
}

/// Finds a destination, and the hosts before it that `ssh_config` names.
///
/// The first host of a `ProxyJump` is reached as its own configuration says, which may name
/// further ones; each of the others through the one before it.
async fn configured(target: &Target, caller: &Caller) -> Result<Vec<Host>, ContextError> {
    let (destination, mut jumps) = first(target.clone(), caller).await?;
    let mut names = vec![destination.resolved.host.clone()];
    let mut passed = vec![destination.asked()];
    let mut backwards = vec![destination];
    while !jumps.is_empty() {
        // The destination is among them, and no jump.
        if backwards.len() - 1 + jumps.len() > MAX_JUMPS {
            return Err(ContextError::TooManyJumps(MAX_JUMPS));
        }
        let nearest = jumps.remove(0);
        for jump in jumps.into_iter().rev() {
            backwards.push(behind_another(jump, caller).await?);
        }
        let (host, further) = first(nearest, caller).await?;
        names.push(host.resolved.host.clone());
        // The same host with the same jumps before it: it would go on for ever.
        if passed.contains(&host.asked()) {
            return Err(ContextError::JumpLoop(names.join(" > ")));
        }
        passed.push(host.asked());
        backwards.push(host);
        jumps = further;
    }
    backwards.reverse();
    Ok(backwards)
}

/// Finds a host that is reached as its own configuration says, and the jump hosts that this names.
async fn first(target: Target, caller: &Caller) -> Result<(Host, Vec<Target>), ContextError> {
    let mut resolved = resolve(&target, caller).await?;
    let jumps = match &resolved.proxy_jump {
        Some(list) => parse_proxy_jump(&resolved, list)?,
        None => Vec::new(),
    };
    if !jumps.is_empty() {
        resolved.proxy_command = None;
    }
    Ok((Host::new(resolved, !jumps.is_empty(), caller).await, jumps))
}

/// Finds a host that is reached through another, whatever its own configuration says of that.
async fn behind_another(target: Target, caller: &Caller) -> Result<Host, ContextError> {
    let mut resolved = resolve(&target, caller).await?;
    resolved.proxy_jump = None;
    resolved.proxy_command = None;
    Ok(Host::new(resolved, true, caller).await)
}

async fn resolve(target: &Target, caller: &Caller) -> Result<Resolved, ContextError> {
    let resolved = ssh_config::resolve(target, caller).await;
    resolved.map_err(|error| ContextError::Config(error.into()))
}

/// `KnownHostsCommand` as far as it is known before there is a connection.
fn decided_command(resolved: &Resolved, caller: &Caller) -> Option<Vec<String>> {
    let command = resolved.known_hosts_command.as_ref()?;
    let later = ['H', 'I', 'K', 'f', 't'].map(|token| (token, ""));
    let words = known_hosts_command(command, resolved, caller, &later);
    Some(words.unwrap_or_else(|_| vec![command.clone()]))
}

impl Host {
    /// `is_behind` says whether it is reached through another host.
    async fn new(resolved: Resolved, is_behind: bool, caller: &Caller) -> Host {
        let command = resolved.proxy_command.as_ref();
        let is_direct = command.is_none() && !is_behind;
        let files = resolved.user_known_hosts_files.iter();
        let endpoint = Endpoint {
            user: resolved.user.clone(),
            hostname: resolved.hostname.clone(),
            port: resolved.port,
            address_family: if is_direct { resolved.address_family } else { AddressFamily::Any },
            bind_address: resolved.bind_address.clone().filter(|_| is_direct),
            bind_interface: resolved.bind_interface.clone().filter(|_| is_direct),
            proxy_command: command.map(|command| expand_proxy_command(command, &resolved, caller)),
            host_key_alias: resolved.host_key_alias.clone(),
            strict_host_key_checking: resolved.strict_host_key_checking,
            known_hosts_files: files.chain(&resolved.global_known_hosts_files).cloned().collect(),
            revoked_host_keys: resolved.revoked_host_keys.clone(),
            known_hosts_command: decided_command(&resolved, caller),
            key_rules: resolved.key_rules.clone(),
            algorithms: resolved.algorithms.clone(),
            identity_files: resolved.identity_files.clone(),
            certificate_files: resolved.certificate_files.clone(),
            identities_only: resolved.identities_only,
            agent_keys: keys_of_agent_alone(&resolved).await,
            methods: resolved.methods(),
        };
        Host { resolved, endpoint: Arc::new(endpoint) }
    }

    /// What decides how the path to it goes on.
    fn asked(&self) -> (Arc<Endpoint>, Option<String>) {
        (self.endpoint.clone(), self.resolved.proxy_jump.clone())
    }
}
