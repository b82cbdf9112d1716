//! Is the key that a host shows the one that is recorded for it?
//!
//! [`KnownHosts`] holds what the files say, and answers without any effect ([`KnownHosts::check`]).
//! [`decide()`] acts on the answer as `StrictHostKeyChecking` wants it: it asks, records, or refuses.

mod certificate;
mod command;
mod decide;
mod krl;
mod line;
mod revoked;
mod update;

pub use certificate::CertificateProblem;
pub use command::{KnownHostsCommandError, Purpose};
pub use decide::{HostKeyError, decide, fingerprint};
pub(crate) use revoked::{by_krl as revoked_by_krl, find as find_revoked};
pub(crate) use update::{Announced, KeyChange};

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fakessh_protocol::printable::one_line;
use russh::keys::{Algorithm, Certificate, PublicKey, PublicKeyOrCertificate};

use crate::caller::Caller;
use crate::ssh_config::{KeyRules, Resolved, ShortRsa};

use revoked::{Found, Revoked};

/// Largest file that is read. Beyond it are some hundred thousand hosts, and no sane file.
const MAX_FILE: u64 = 64 << 20;

/// What stands for the file of records that `KnownHostsCommand` has printed.
const COMMAND: &str = "KnownHostsCommand";

/// Where something is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None` if it is no file of lines (a list of revoked keys may be none).
    pub line: Option<usize>,
}

/// `file:line`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file.display()),
            None => self.file.display().fmt(f),
        }
    }
}

impl Place {
    /// What to do if the record is out of date.
    fn how_to_forget(&self, name: &str) -> String {
        match self.file.display() {
            _ if self.file == Path::new(COMMAND) => format!("{COMMAND} has to print the new key"),
            file => format!("remove the old key with: ssh-keygen -f '{file}' -R '{name}'"),
        }
    }
}

/// What the records say about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is recorded for the host, or a recorded authority vouches for it.
    Trusted,
    /// Nothing is recorded for the host.
    Unknown,
    /// Other keys are recorded for the host, and not this one.
    Changed(Place),
    /// It is marked as revoked, or the authority that vouches for it is.
    Revoked(Place),
    /// It is a certificate with a wrong signature; or an authority recorded for the host has signed
    /// it, and yet it is not to be trusted.
    BadCertificate(CertificateProblem),
    /// It is too short, whatever is recorded.
    TooShort(ShortRsa),
    /// No authority that is recorded for the host vouches for it, and `HostKeyAlgorithms` does not
    /// allow it without one.
    NotAllowed(Algorithm),
}

/// Whom a key is looked up for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// `HostKeyAlias`, else the name that is connected to.
    host: String,
    /// The name in the records.
    recorded: String,
}

impl HostName {
    /// The name of a host. An alias stands for itself, whatever the port is.
    pub fn new(hostname: &str, port: u16, alias: Option<&str>) -> HostName {
        match alias {
            Some(alias) => {
                let alias = alias.to_ascii_lowercase();
                HostName { host: alias.clone(), recorded: alias }
            }
            None => HostName {
                host: hostname.to_ascii_lowercase(),
                recorded: line::recorded_name(hostname, port),
            },
        }
    }

    /// The name of the host of a configuration.
    pub fn of(resolved: &Resolved) -> HostName {
        let alias = resolved.host_key_alias.as_deref();
        HostName::new(&resolved.hostname, resolved.port, alias)
    }

    /// The name in the records, and the bare one where that is another.
    fn both(&self) -> impl Iterator<Item = &str> {
        let bare = (self.host != self.recorded).then_some(&self.host);
        std::iter::once(&self.recorded).chain(bare).map(String::as_str)
    }

    /// The name as it stands in a record: `host`, or `[host]:port`.
    pub fn recorded(&self) -> &str {
        &self.recorded
    }
}

/// The content of some `known_hosts` files, and what a key must be like besides.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts {
    files: Vec<(PathBuf, String)>,
    /// What `KnownHostsCommand` has printed.
    told: String,
    /// Whether it can vouch for certificates that nobody has asked it about.
    may_vouch: bool,
    /// What `RevokedHostKeys` names, whatever the host.
    revoked: Vec<(PathBuf, Revoked)>,
    rules: KeyRules,
    /// `HostKeyAlgorithms`, if the user has set it.
    allowed: Option<Vec<String>>,
}

impl KnownHosts {
    /// Files with this content.
    pub fn new(files: Vec<(PathBuf, String)>) -> KnownHosts {
        KnownHosts { files, ..KnownHosts::default() }
    }

    /// Reads the files of a configuration. Those that do not exist are passed over.
    ///
    /// # Errors
    /// Where a file exists and can't be read: what is recorded in it must not be ignored. The file
    /// of revoked keys must exist, as with ssh, and be a list that is understood.
    /// Cancel safe.
    pub async fn read(resolved: &Resolved) -> Result<KnownHosts, (PathBuf, io::Error)> {
        let files = resolved.user_known_hosts_files.iter();
        let files: Vec<PathBuf> =
            files.chain(&resolved.global_known_hosts_files).cloned().collect();
        let revoked = resolved.revoked_host_keys.clone();
        let rules = resolved.key_rules.clone();
        let allowed = resolved.algorithms.host_keys.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read_revoked = |file: PathBuf| match revoked::read(&file) {
                Ok(revoked) => Ok((file, revoked)),
                Err(error) => Err((file, error)),
            };
            let revoked = revoked.into_iter().map(read_revoked).collect::<Result<_, _>>()?;
            let read = |file: PathBuf| match read_file(&file) {
                Ok(bytes) => Ok(bytes.map(|bytes| (file, text(&bytes)))),
                Err(error) => Err((file, error)),
            };
            let files = files.into_iter().filter_map(|file| read(file).transpose());
            let files = files.collect::<Result<_, _>>()?;
            Ok(KnownHosts { files, revoked, rules, allowed, ..KnownHosts::default() })
        });
        let lost = |error| (PathBuf::new(), io::Error::other(error));
        read.await.map_err(lost)?
    }

    /// Asks the `KnownHostsCommand` of a configuration, if there is one, before the host shows its
    /// key: which kinds of keys are to be asked for. As with ssh, this does not happen if the user
    /// has chosen them.
    ///
    /// # Errors
    /// [`HostKeyError::Command`]. Cancel safe.
    pub async fn ask_before(
        &mut self,
        resolved: &Resolved,
        caller: &Caller,
    ) -> Result<(), HostKeyError> {
        self.may_vouch = resolved.known_hosts_command.is_some() && self.allowed.is_some();
        if !self.may_vouch {
            self.told = ask_command(Purpose::Order, resolved, caller).await?;
        }
        Ok(())
    }

    /// Asks it about the key that the host has shown. A certificate that nothing vouches for is
    /// asked about once more as the key that is in it.
    ///
    /// # Errors
    /// [`HostKeyError::Command`]. Cancel safe.
    pub async fn ask_about(
        &mut self,
        shown: &PublicKeyOrCertificate,
        resolved: &Resolved,
        caller: &Caller,
    ) -> Result<(), HostKeyError> {
        self.told = ask_command(Purpose::Host(shown), resolved, caller).await?;
        let trusts = |records: &KnownHosts| {
            records.check(&HostName::of(resolved), shown, SystemTime::now()) == Verdict::Trusted
        };
        if shown.certificate().is_some() && !trusts(self) {
            let key = shown.public_key().into();
            self.told += &ask_command(Purpose::Host(&key), resolved, caller).await?;
        }
        Ok(())
    }

    /// Lines about this name, with the files that they are in.
    fn about<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Path, line::Line)> + 'a {
        let files = self.files.iter().map(|(file, text)| (file.as_path(), &**text));
        let told = std::iter::once((Path::new(COMMAND), &*self.told));
        files
            .chain(told)
            .flat_map(move |(file, text)| line::lines(text, name).map(move |line| (file, line)))
    }

    /// What the records say about a key that a host shows, at this time.
    ///
    /// A host on another port than 22 may also be recorded by its bare name; that makes a key
    /// trusted, and never changed or revoked more than the record with the port does, as in ssh.
    pub fn check(
        &self,
        name: &HostName,
        shown: &PublicKeyOrCertificate,
        now: SystemTime,
    ) -> Verdict {
        if let PublicKeyOrCertificate::Certificate(certificate) = shown
            && !certificate::is_signed(certificate)
        {
            return Verdict::BadCertificate(CertificateProblem::BadSignature);
        }
        if let Err(short) = self.rules.check_size(shown.public_key().key_data()) {
            return Verdict::TooShort(short);
        }
        for (file, revoked) in &self.revoked {
            let line = match revoked.find(shown) {
                None => continue,
                Some(Found::Line(line)) => Some(line),
                Some(Found::InList) => None,
            };
            return Verdict::Revoked(Place { file: file.clone(), line });
        }
        let verdict = match shown {
            PublicKeyOrCertificate::Certificate(certificate) => {
                self.check_certificate(name, certificate, now)
            }
            PublicKeyOrCertificate::PublicKey { key, .. } => self.check_key(&name.recorded, key),
        };
        if verdict != Verdict::Unknown || name.recorded == name.host {
            return verdict;
        }
        match self.check_key(&name.host, &shown.public_key()) {
            verdict @ (Verdict::Trusted | Verdict::Revoked(_)) => verdict,
            _ => Verdict::Unknown,
        }
    }

    fn check_key(&self, name: &str, key: &PublicKey) -> Verdict {
        if let Some(place) = self.revoked(name, key) {
            return Verdict::Revoked(place);
        }
        let mut other = None;
        for (file, line) in self.about(name).filter(|(_, line)| line.is_plain()) {
            if line.key.key_data() == key.key_data() {
                return Verdict::Trusted;
            }
            other.get_or_insert(Place { file: file.to_owned(), line: Some(line.number) });
        }
        other.map_or(Verdict::Unknown, Verdict::Changed)
    }

    /// A certificate counts where a recorded authority has signed it. Else the key in it is
    /// looked up as if it had come alone, as ssh does.
    fn check_certificate(
        &self,
        name: &HostName,
        certificate: &Certificate,
        now: SystemTime,
    ) -> Verdict {
        let authority = PublicKey::from(certificate.signature_key().clone());
        let key = PublicKey::from(certificate.public_key().clone());
        for name in name.both() {
            if let Some(place) = self.revoked(name, &authority).or_else(|| self.revoked(name, &key))
            {
                return Verdict::Revoked(place);
            }
        }
        let signed_by_recorded = name.both().any(|name| {
            let mut lines = self.about(name).filter(|(_, line)| line.is_authority());
            lines.any(|(_, line)| line.key.key_data() == authority.key_data())
        });
        let problem = signed_by_recorded
            .then(|| certificate::problem(certificate, &name.host, &self.rules, now));
        if problem == Some(None) {
            return Verdict::Trusted;
        }
        let verdict = match self.allows(&key) {
            true => self.check_key(&name.recorded, &key),
            false => Verdict::NotAllowed(key.algorithm()),
        };
        match (problem.flatten(), verdict) {
            (Some(_), Verdict::Trusted) => Verdict::Trusted,
            (Some(problem), _) => Verdict::BadCertificate(problem),
            (None, verdict) => verdict,
        }
    }

    /// Whether `HostKeyAlgorithms` allows a key that no authority vouches for.
    fn allows(&self, key: &PublicKey) -> bool {
        let algorithm = key.algorithm();
        let names: &[&str] = match algorithm {
            Algorithm::Rsa { .. } => &["rsa-sha2-512", "rsa-sha2-256"],
            _ => &[algorithm.as_str()],
        };
        let Some(allowed) = &self.allowed else { return true };
        allowed.iter().any(|allowed| names.contains(&allowed.as_str()))
    }

    fn revoked(&self, name: &str, key: &PublicKey) -> Option<Place> {
        let mut lines = self.about(name).filter(|(_, line)| line.is_revoked());
        let found = lines.find(|(_, line)| line.key.key_data() == key.key_data());
        found.map(|(file, line)| Place { file: file.to_owned(), line: Some(line.number) })
    }

    /// The algorithms of the keys that are recorded for a host, so that the server can be asked
    /// for one that can be checked.
    pub fn recorded_algorithms(&self, name: &HostName) -> Vec<Algorithm> {
        let recorded = |name| {
            let lines = self.about(name).filter(|(_, line)| line.is_plain());
            lines.map(|(_, line)| line.key.algorithm()).collect::<Vec<_>>()
        };
        let found = recorded(&name.recorded);
        if found.is_empty() && name.host != name.recorded { recorded(&name.host) } else { found }
    }

    /// Whether certificates of this host can be checked.
    pub fn has_authority(&self, name: &HostName) -> bool {
        self.may_vouch
            || name.both().any(|name| self.about(name).any(|(_, line)| line.is_authority()))
    }
}

/// What the `KnownHostsCommand` prints; nothing if there is none. Its last line may lack its end.
async fn ask_command(
    purpose: Purpose<'_>,
    resolved: &Resolved,
    caller: &Caller,
) -> Result<String, HostKeyError> {
    let Some(command) = &resolved.known_hosts_command else { return Ok(String::new()) };
    match command::ask(command, purpose, resolved, caller).await {
        Ok(told) => Ok(told + "\n"),
        Err(error) => Err(HostKeyError::Command {
            name: HostName::of(resolved).recorded,
            command: one_line(command),
            error,
        }),
    }
}

/// The content of a file; `None` where there is none, or what is there is no file (`/dev/null`).
fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other(format!("the file has more than {MAX_FILE} bytes")));
    }
    Ok(Some(std::fs::read(path)?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
