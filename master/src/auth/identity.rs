//! Which keys there are to try, and in which order.
//!
//! As ssh does it: certificates, keys of the agent that are configured, other keys of the agent,
//! keys that are only in files.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

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
#[derive(Clone)]
pub(super) struct Candidate {
    /// How it is called in messages.
    pub(super) name: String,
    /// `None` where the file says nothing about it before it is decrypted.
    pub(super) public: Option<PublicKey>,
    /// The certificate to show instead of the bare key.
    pub(super) certificate: Option<Certificate>,
    pub(super) signer: KeySource,
}

/// A candidate with its public parts as bytes. A public key is made where a private one was read, and
/// what fills it up to its size in memory may be a part of that one. Bytes have no such rest.
struct Written {
    name: String,
    public: Option<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    signer: KeySource,
}

impl Written {
    fn of(candidate: Candidate) -> Written {
        let Candidate { name, public, certificate, signer } = candidate;
        let public = public.and_then(|public| public.to_bytes().ok());
        let certificate = certificate.and_then(|certificate| certificate.to_bytes().ok());
        Written { name, public, certificate, signer }
    }

    fn read(self) -> Candidate {
        let Written { name, public, certificate, signer } = self;
        let public = public.and_then(|bytes| PublicKey::from_bytes(&bytes).ok());
        let certificate = certificate.and_then(|bytes| Certificate::from_bytes(&bytes).ok());
        Candidate { name, public, certificate, signer }
    }
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
    /// Certificates of the key, and the files that they stand in.
    certificates: Vec<(PathBuf, Certificate)>,
    /// Whether a certificate stands in the place of the public key. Then the key is not tried
    /// without it, as with ssh.
    is_certified: bool,
}

/// The keys to try, in order, and what is wrong with those that can't be.
pub(super) async fn candidates(
    resolved: &Resolved,
    agent: Vec<AgentKey>,
    caller: &Caller,
) -> (Vec<Candidate>, Vec<String>) {
    let (resolved, caller) = (resolved.clone(), caller.clone());
    let read = secretly(move || {
        let mut problems = Vec::new();
        let identities = read_identities(&resolved, &caller, &mut problems);
        let certificates = read_certificates(&resolved, &caller, &mut problems);
        let found = order(&resolved, identities, certificates, agent, &caller, &mut problems);
        (found.into_iter().map(Written::of).collect::<Vec<_>>(), problems)
    });
    match read.await {
        Ok((found, problems)) => (found.into_iter().map(Written::read).collect(), problems),
        Err(error) => (Vec::new(), vec![format!("cannot read any key: {error}")]),
    }
}

/// The keys that only the agent has: no file that is configured, or looked for by default, has
/// the same. As fingerprints, in order.
pub(super) async fn of_agent_alone(resolved: &Resolved, agent: Vec<AgentKey>) -> Vec<String> {
    let files = resolved.identity_files.clone();
    let read = secretly(move || {
        let in_files = files.iter().filter_map(|path| read_identity(path, false).ok()?.public);
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
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let same = |key: &PublicKey, other: &PublicKey| key.key_data() == other.key_data();
    let beside: Vec<_> =
        identities.iter().flat_map(|identity| identity.certificates.clone()).collect();
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
        if let Some(problem) = unusable(&certificate, SystemTime::now()) {
            problems.push(format!("{name} ({problem})"));
            continue;
        }
        match in_agent.or_else(in_file) {
            Some(signer) => candidates.push(Candidate {
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
    let usable = agent.iter().filter(|key| {
        let problem = key.certificate.as_ref().and_then(|it| unusable(it, SystemTime::now()));
        if let Some(problem) = problem {
            problems.push(format!("{} ({problem})", name_of(key)));
        }
        problem.is_none()
    });
    let (first, others): (Vec<_>, Vec<_>) = usable.cloned().partition(configured);
    let others = if resolved.identities_only { Vec::new() } else { others };
    for key in first.into_iter().chain(others) {
        candidates.push(Candidate {
            name: name_of(&key),
            public: Some(key.public.clone()),
            certificate: key.certificate.clone(),
            signer: KeySource::Agent(Box::new(key)),
        });
    }
    for identity in identities {
        let in_agent = identity.public.as_ref().is_some_and(|public| {
            agent.iter().any(|key| key.certificate.is_none() && same(&key.public, public))
        });
        let bare = !in_agent && !identity.is_certified;
        let Some(private) = identity.private.filter(|_| bare) else { continue };
        candidates.push(Candidate {
            name: format!("key {}", shown(&identity.path, caller)),
            public: identity.public,
            certificate: None,
            signer: KeySource::File(private),
        });
    }
    candidates
}

/// How a key of the agent is called in messages.
fn name_of(key: &AgentKey) -> String {
    let kind = if key.certificate.is_some() { "certificate" } else { "key" };
    match key.comment.as_str() {
        "" => format!("agent {kind} {}", key.public.fingerprint(Default::default())),
        comment => format!("agent {kind} {comment}"),
    }
}

/// Why a certificate can open no door, so that it is not offered: each offer may be one of the few
/// that a server allows. One that is not yet valid is offered, since clocks differ.
fn unusable(certificate: &Certificate, now: SystemTime) -> Option<&'static str> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if certificate.cert_type().is_host() {
        return Some("it is a host's certificate, and not a user's");
    }
    let is_over = now >= certificate.valid_before();
    is_over.then_some("it has expired; get a new one, or look at this machine's clock")
}

fn read_identities(
    resolved: &Resolved,
    caller: &Caller,
    problems: &mut Vec<String>,
) -> Vec<Identity> {
    let mut identities = Vec::new();
    for path in &resolved.identity_files {
        match read_identity(path, resolved.certificate_files.is_empty()) {
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
/// file itself or beside it. A certificate may stand in the place of a public key, or `beside` it.
fn read_identity(path: &Path, beside: bool) -> io::Result<Identity> {
    let named = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut certificates: Vec<(PathBuf, Certificate)> = Vec::new();
    let (pub_file, cert_file) = (named(".pub"), named("-cert.pub"));
    let public_beside = match read(&pub_file).ok().and_then(|text| Public::parse(&text)) {
        Some(Public::Certificate(certificate)) => {
            let public = PublicKey::from(certificate.public_key().clone());
            certificates.push((pub_file, *certificate));
            Some(public)
        }
        Some(Public::Key(key)) => Some(key),
        None => None,
    };
    let is_certified = !certificates.is_empty();
    if let Ok(text) = read(&cert_file)
        && let Some(Public::Certificate(certificate)) = Public::parse(&text)
        && beside
    {
        certificates.push((cert_file, *certificate));
    }
    let path = path.to_owned();
    let identity = |path, public, private| Identity {
        path,
        public,
        private,
        certificates: certificates.clone(),
        is_certified,
    };
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && public_beside.is_some() => {
            return Ok(identity(path, public_beside, None));
        }
        Err(error) => return Err(error),
    };
    match Public::parse(&text) {
        Some(Public::Key(public)) => return Ok(identity(path, Some(public), None)),
        Some(Public::Certificate(certificate)) => {
            let public = Some(PublicKey::from(certificate.public_key().clone()));
            let certificates = vec![(path.clone(), *certificate)];
            return Ok(Identity { path, public, private: None, certificates, is_certified: true });
        }
        None => {}
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
    Ok(identity(path, public, private))
}

/// The public half of a key, as a file holds it.
enum Public {
    Key(PublicKey),
    Certificate(Box<Certificate>),
}

impl Public {
    fn parse(text: &str) -> Option<Public> {
        let text = text.trim();
        match PublicKey::from_openssh(text) {
            Ok(key) => Some(Public::Key(key)),
            Err(_) => {
                let certificate = Certificate::from_openssh(text).ok()?;
                Some(Public::Certificate(Box::new(certificate)))
            }
        }
    }
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
