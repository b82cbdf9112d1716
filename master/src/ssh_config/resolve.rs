//! Looks a host up as `ssh` would, and settles what `ssh -G` leaves open.

use std::path::{Path, PathBuf};

use crate::caller::Caller;

use super::defaults::defaults;
use super::resolved::{Dump, Place, Unclear};
use super::ssh_g::{dump, find_ssh, words};
use super::tokens::Tokens;
use super::{ConfigError, Resolved, Target, without_ssh};

/// Looks a host up as `ssh` would, with the environment, the directory and the options of the
/// caller.
///
/// Without an OpenSSH client the built-in defaults of `ssh` are used, with the options `-i`, `-l`
/// and `-p` alone: configuration files are not read then, and a warning says so in the log.
///
/// # Errors
/// [`ConfigError`]. Cancel safe: `ssh` is killed.
pub async fn resolve(target: &Target, caller: &Caller) -> Result<Resolved, ConfigError> {
    let Some(ssh) = find_ssh(caller) else {
        tracing::warn!("no ssh program found: configuration files are not read");
        return resolve_without_ssh(target, caller);
    };
    resolve_with(&ssh, target, caller).await
}

async fn resolve_with(
    ssh: &Path,
    target: &Target,
    caller: &Caller,
) -> Result<Resolved, ConfigError> {
    let words = words(target);
    let own = dump(ssh, &words, &target.host, caller);
    let (own, defaults) = tokio::try_join!(own, defaults(ssh, caller))?;
    settle(&Dump::read(&own), target, &Dump::read(&defaults), caller)
}

/// Looks a host up without a program to ask.
fn resolve_without_ssh(target: &Target, caller: &Caller) -> Result<Resolved, ConfigError> {
    let own = without_ssh::dump(target, caller)?;
    settle(&Dump::read(&own), target, &Dump::read(without_ssh::DEFAULTS), caller)
}

/// Makes the settings of a host from what was printed for it, and from the defaults.
fn settle(
    own: &Dump,
    target: &Target,
    defaults: &Dump,
    caller: &Caller,
) -> Result<Resolved, ConfigError> {
    if let Some(keyword) = own.refused() {
        return Err(ConfigError::Unsupported { host: target.host.clone(), keyword, off: "no" });
    }
    if let Some(text) = own.value("refuseconnection") {
        let message = format!("RefuseConnection says: {text}");
        return Err(ConfigError::Rejected { host: target.host.clone(), message });
    }
    let home = caller.variable("HOME").map(Path::new);
    let place = Place { home, directory: &caller.directory };
    let resolved = own.resolved(target, &place, defaults);
    let resolved = resolved.map_err(|Unclear { keyword, value }| ConfigError::UnclearFiles {
        host: target.host.clone(),
        keyword,
        value,
    })?;
    Ok(finish(resolved, own.value("identityagent"), own.is_disabled("identityagent"), caller))
}

/// Expands what `ssh -G` has left, and settles which agent it is.
fn finish(mut resolved: Resolved, agent: Option<&str>, off: bool, caller: &Caller) -> Resolved {
    let tokens = Tokens::new(&resolved, caller);
    let expand = |files: &[PathBuf]| files.iter().map(|file| tokens.file(file)).collect();
    let identity_files = expand(&resolved.identity_files);
    let certificate_files = expand(&resolved.certificate_files);
    let user_known_hosts_files = expand(&resolved.user_known_hosts_files);
    let global_known_hosts_files = expand(&resolved.global_known_hosts_files);
    let of_environment = |name: &str| caller.variable(name).map(PathBuf::from);
    let identity_agent = match agent {
        _ if off => None,
        None | Some("SSH_AUTH_SOCK") => of_environment("SSH_AUTH_SOCK"),
        Some(name) if name.starts_with('$') && !name.starts_with("${") => {
            of_environment(name.trim_start_matches('$'))
        }
        Some(path) => Some(tokens.file(Path::new(path))),
    };
    let revoked_host_keys = expand(&resolved.revoked_host_keys);
    let identity_agent = identity_agent.filter(|path| !path.as_os_str().is_empty());
    resolved.identity_files = identity_files;
    resolved.certificate_files = certificate_files;
    resolved.user_known_hosts_files = user_known_hosts_files;
    resolved.global_known_hosts_files = global_known_hosts_files;
    resolved.revoked_host_keys = revoked_host_keys;
    resolved.identity_agent = identity_agent;
    resolved
}

impl Dump {
    fn is_disabled(&self, keyword: &str) -> bool {
        self.raw(keyword).is_some_and(|value| value.eq_ignore_ascii_case("none"))
    }
}

#[cfg(test)]
mod tests;
