//! Which keys there are to try, and in which order.
//!
//! As ssh does it: certificates, keys of the agent that are configured, other keys of the agent,
//! keys that are only in files.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key;
use russh::keys::{Certificate, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::caller::Caller;
use crate::ssh_config::Resolved;

use super::agent::AgentKey;
use super::secretly::secretly;
use super::shown;

/// Largest file that is taken for a key or a certificate.
const MAX_FILE: u64 = 256 * 1024;

/// A key to try.
pub(super) struct Candidate {
    /// How it is called in messages.
    pub(super) name: String,
    /// `None` where the file says nothing about it before it is decrypted.
    pub(super) public: Option<PublicKey>,
    /// The certificate to show instead of the bare key.
    pub(super) certificate: Option<Certificate>,
    pub(super) signer: KeySource,
}

/// What signs for a key.
#[derive(Clone)]
pub(super) enum KeySource {
    Agent(Box<AgentKey>),
    File(KeyFile),
}

/// A private key's file.
#[derive(Clone)]
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    /// The file's content; the key in it may be encrypted.
    pub(super) text: Zeroizing<String>,
    pub(super) encrypted: bool,
}

/// An identity file, as far as it can be read.
struct Identity {
    path: PathBuf,
    public: Option<PublicKey>,
    private: Option<KeyFile>,
    certificate: Option<Certificate>,
}

/// The keys to try, in order, and what is wrong with those that can't be.
pub(super) async fn candidates(
    resolved: &Resolved,
    agent: Vec<AgentKey>,
    caller: &Caller,
) -> (VecDeque<Candidate>, Vec<String>) {
    let (resolved, caller) = (resolved.clone(), caller.clone());
    let read = secretly(move || {
        let mut problems = Vec::new();
        let identities = read_identities(&resolved, &caller, &mut problems);
        let certificates = read_certificates(&resolved, &caller, &mut problems);
        let found = order(&resolved, identities, certificates, agent, &caller, &mut problems);
        (found, problems)
    });
    match read.await {
        Ok(read) => read,
        Err(error) => (VecDeque::new(), vec![format!("cannot read any key: {error}")]),
    }
}

/// The keys that only the agent has: no file that is configured, or looked for by default, has
/// the same. As fingerprints, in order.
pub(super) async fn of_agent_alone(resolved: &Resolved, agent: Vec<AgentKey>) -> Vec<String> {
    let files = resolved.identity_files.clone();
    let read = secretly(move || {
        let in_files = files.iter().filter_map(|path| read_identity(path).ok()?.public);
        let in_files: Vec<PublicKey> = in_files.collect();
        let foreign = agent.iter().filter(|key| {
            !in_files.iter().any(|public| public.key_data() == key.public.key_data())
        });
        foreign.map(|key| key.public.fingerprint(Default::default()).to_string()).collect()
    });
    let mut fingerprints: Vec<String> = read.await.unwrap_or_default();
    fingerprints.sort_unstable();
    fingerprints.dedup();
    fingerprints
}

fn order(
    resolved: &Resolved,
    identities: Vec<Identity>,
    certificates: Vec<(PathBuf, Certificate)>,
    agent: Vec<AgentKey>,
    caller: &Caller,
    problems: &mut Vec<String>,
) -> VecDeque<Candidate> {
    let mut candidates = VecDeque::new();
    let same = |key: &PublicKey, other: &PublicKey| key.key_data() == other.key_data();
    let beside = identities
        .iter()
        .filter_map(|identity| Some((identity.path.clone(), identity.certificate.clone()?)));
    for (path, certificate) in certificates.into_iter().chain(beside) {
        let public = PublicKey::from(certificate.public_key().clone());
        let in_agent = agent
            .iter()
            .find(|key| key.certificate.is_none() && same(&key.public, &public))
            .map(|key| KeySource::Agent(Box::new(key.clone())));
        let in_file = || {
            let found = identities.iter().find(|identity| {
                identity.private.is_some()
                    && identity.public.as_ref().is_some_and(|key| same(key, &public))
            });
            found.and_then(|identity| identity.private.clone()).map(KeySource::File)
        };
        let name = format!("certificate {}", shown(&path, caller));
        match in_agent.or_else(in_file) {
            Some(signer) => candidates.push_back(Candidate {
                name,
                public: Some(public),
                certificate: Some(certificate),
                signer,
            }),
            None => problems.push(format!("{name} (its private key is not there)")),
        }
    }
    let configured = |key: &AgentKey| {
        let mut public = identities.iter().filter_map(|identity| identity.public.as_ref());
        public.any(|public| same(public, &key.public))
    };
    let (first, others): (Vec<_>, Vec<_>) = agent.iter().cloned().partition(configured);
    let others = if resolved.identities_only { Vec::new() } else { others };
    for key in first.into_iter().chain(others) {
        let name = match key.comment.as_str() {
            "" => format!("agent key {}", key.public.fingerprint(Default::default())),
            comment => format!("agent key {comment}"),
        };
        candidates.push_back(Candidate {
            name,
            public: Some(key.public.clone()),
            certificate: key.certificate.clone(),
            signer: KeySource::Agent(Box::new(key)),
        });
    }
    for identity in identities {
        let in_agent = identity.public.as_ref().is_some_and(|public| {
            agent.iter().any(|key| key.certificate.is_none() && same(&key.public, public))
        });
        let Some(private) = identity.private.filter(|_| !in_agent) else { continue };
        candidates.push_back(Candidate {
            name: format!("key {}", shown(&identity.path, caller)),
            public: identity.public,
            certificate: None,
            signer: KeySource::File(private),
        });
    }
    candidates
}

fn read_identities(
    resolved: &Resolved,
    caller: &Caller,
    problems: &mut Vec<String>,
) -> Vec<Identity> {
    let mut identities = Vec::new();
    for path in &resolved.identity_files {
        match read_identity(path) {
            Ok(identity) => identities.push(identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !resolved.default_identities {
                    problems.push(format!("key {} (there is no such file)", shown(path, caller)));
                }
            }
            Err(error) => problems.push(format!("key {} ({error})", shown(path, caller))),
        }
    }
    identities
}

/// Reads a private key; or the public key of one that an agent holds, which may stand in the
/// file itself or beside it.
fn read_identity(path: &Path) -> io::Result<Identity> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let public_beside =
        read(&beside(".pub")).ok().and_then(|text| PublicKey::from_openssh(text.trim()).ok());
    let certificate = read(&beside("-cert.pub")).ok();
    let certificate = certificate.and_then(|text| Certificate::from_openssh(text.trim()).ok());
    let path = path.to_owned();
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && public_beside.is_some() => {
            return Ok(Identity { path, public: public_beside, private: None, certificate });
        }
        Err(error) => return Err(error),
    };
    if let Ok(public) = PublicKey::from_openssh(text.trim()) {
        return Ok(Identity { path, public: Some(public), private: None, certificate });
    }
    let metadata = path.metadata()?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.uid() == rustix::process::getuid().as_raw() && mode & 0o077 != 0 {
        let path = path.display();
        return Err(io::Error::other(format!(
            "ignored: its permissions {mode:04o} are too open; run: chmod 600 {path}"
        )));
    }
    let (public, encrypted) = match PrivateKey::from_openssh(text.as_bytes()) {
        Ok(key) => (Some(key.public_key().clone()), key.is_encrypted()),
        Err(_) => match russh::keys::decode_secret_key(&text, None) {
            Ok(key) => (Some(key.public_key().clone()), false),
            Err(_) if looks_encrypted(&text) => (public_beside, true),
            Err(error) => return Err(io::Error::other(format!("not a key we can read: {error}"))),
        },
    };
    let private = Some(KeyFile { path: path.clone(), text, encrypted });
    Ok(Identity { path, public, private, certificate })
}

/// The older forms of key files say it in a header.
fn looks_encrypted(text: &str) -> bool {
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn read_certificates(
    resolved: &Resolved,
    caller: &Caller,
    problems: &mut Vec<String>,
) -> Vec<(PathBuf, Certificate)> {
    let mut certificates = Vec::new();
    for path in &resolved.certificate_files {
        let parsed = read(path).map_err(|error| error.to_string()).and_then(|text| {
            Certificate::from_openssh(text.trim())
                .map_err(|error: ssh_key::Error| error.to_string())
        });
        match parsed {
            Ok(certificate) => certificates.push((path.clone(), certificate)),
            Err(error) => problems.push(format!("certificate {} ({error})", shown(path, caller))),
        }
    }
    certificates
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other("too large for a key"));
    }
    std::fs::read_to_string(path).map(Zeroizing::new)
}
