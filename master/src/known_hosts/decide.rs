//! What follows from a verdict: go on, ask, record, or refuse.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fakessh_protocol::message::{Notice, Question, QuestionKind};
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};
use thiserror::Error;

use crate::caller::Caller;
use crate::ssh_config::{Resolved, ShortRsa, StrictHostKeyChecking};

use super::{
    CertificateProblem, HostName, KnownHosts, KnownHostsCommandError, Place, Verdict, line,
};

/// How often an answer that is none is asked again. ssh never stops; a program that answers with
/// rubbish would keep us for ever.
const ANSWERS: usize = 5;

/// The host is not who it should be, or nobody could say so. The text begins as ssh's own does, since
/// programs look for that.
#[derive(Debug, Error)]
pub enum HostKeyError {
    /// The key is not recorded, and nobody could be asked, or nobody may.
    #[error(
        "Host key verification failed. The {algorithm} host key of {name} is not known, {reason} (fingerprint {fingerprint}); \
         check the fingerprint and record the key with: \
         ssh-keyscan {scan} >> {}", file.display()
    )]
    Unknown {
        /// The host as it is recorded.
        name: String,
        /// The kind of key, as ssh names it to people.
        algorithm: String,
        /// `SHA256:...`.
        fingerprint: String,
        /// Why it could not be accepted.
        reason: &'static str,
        /// Whether a question was wanted, and only this caller could not be asked.
        unanswered: bool,
        /// What to give to `ssh-keyscan`.
        scan: String,
        /// Where the key belongs.
        file: PathBuf,
    },
    /// The person said no.
    #[error(
        "Host key verification failed. The {algorithm} host key of {name} was not accepted \
         (fingerprint {fingerprint})"
    )]
    Declined {
        /// The host as it is recorded.
        name: String,
        /// The kind of key.
        algorithm: String,
        /// `SHA256:...`.
        fingerprint: String,
    },
    /// Another key is recorded.
    #[error(
        "Host key verification failed. REMOTE HOST IDENTIFICATION HAS CHANGED: somebody may be \
         listening in, or {name} was installed anew; it shows the {algorithm} key {fingerprint}, but {place} has another; \
         if the change is right, {}", place.how_to_forget(name)
    )]
    Changed {
        /// The host as it is recorded.
        name: String,
        /// The kind of key that the host shows.
        algorithm: String,
        /// `SHA256:...` of the key that the host shows.
        fingerprint: String,
        /// The first record that differs.
        place: Place,
    },
    /// The key, or the authority that signed it, is revoked.
    #[error(
        "Host key verification failed. The {algorithm} host key of {name} is revoked by {place} (fingerprint {fingerprint}); \
         the host must not be trusted until it has another key"
    )]
    Revoked {
        /// The host as it is recorded.
        name: String,
        /// The kind of key.
        algorithm: String,
        /// `SHA256:...`.
        fingerprint: String,
        /// The record.
        place: Place,
    },
    /// The certificate is not good for this host now.
    #[error(
        "Host key verification failed. The host certificate of {name} {problem}; ask whoever issued \
         it for a new one"
    )]
    Certificate {
        /// The host as it is recorded.
        name: String,
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// The key is too short.
    #[error(
        "Host key verification failed. The host key of {name} is {short}; the host needs a longer key, or another kind of key"
    )]
    TooShort {
        /// The host as it is recorded.
        name: String,
        /// How long it is, and has to be.
        short: ShortRsa,
    },
    /// Nobody vouches for the key, and by itself it is not of a kind that is allowed.
    #[error(
        "Host key verification failed. No authority that is known for {name} vouches for its {algorithm} host key, and \
         HostKeyAlgorithms does not allow it by itself"
    )]
    NotAllowed {
        /// The host as it is recorded.
        name: String,
        /// The kind of key.
        algorithm: String,
    },
    /// The records can't be read.
    #[error("cannot read the host keys in {}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// What `KnownHostsCommand` says about the host is not known.
    #[error(
        "KnownHostsCommand failed: '{command}': {error}; without it the key of {name} is not checked"
    )]
    Command {
        /// The host as it is recorded.
        name: String,
        /// The command.
        command: String,
        /// What became of it.
        error: KnownHostsCommandError,
    },
}

/// Checks the key that a host shows, asks where that is wanted, and records what was accepted.
///
/// `address` is shown in the question beside the name. Notices (a key that was added, or could
/// not be) go to the caller.
///
/// # Errors
/// [`HostKeyError`]: the connection is not to be used. Cancel safe: a question is withdrawn.
pub async fn decide(
    records: &KnownHosts,
    resolved: &Resolved,
    shown: &PublicKeyOrCertificate,
    address: Option<String>,
    caller: &Caller,
) -> Result<(), HostKeyError> {
    let name = HostName::of(resolved);
    let key = shown.public_key();
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let algorithm = kind_of(&key);
    let recorded = name.recorded().to_owned();
    match records.check(&name, shown, SystemTime::now()) {
        Verdict::Trusted => return Ok(()),
        Verdict::Changed(place) => {
            return Err(HostKeyError::Changed { name: recorded, algorithm, fingerprint, place });
        }
        Verdict::Revoked(place) => {
            return Err(HostKeyError::Revoked { name: recorded, algorithm, fingerprint, place });
        }
        Verdict::BadCertificate(problem) => {
            return Err(HostKeyError::Certificate { name: recorded, problem });
        }
        Verdict::TooShort(short) => {
            return Err(HostKeyError::TooShort { name: recorded, short });
        }
        Verdict::NotAllowed(_) => {
            return Err(HostKeyError::NotAllowed { name: recorded, algorithm });
        }
        Verdict::Unknown => {}
    }
    let unknown = |reason, unanswered| HostKeyError::Unknown {
        name: recorded.clone(),
        algorithm: algorithm.clone(),
        fingerprint: fingerprint.clone(),
        reason,
        unanswered,
        scan: match resolved.port {
            22 => resolved.hostname.clone(),
            port => format!("-p {port} {}", resolved.hostname),
        },
        file: first_file(resolved).map(Path::to_owned).unwrap_or("known_hosts".into()),
    };
    match resolved.strict_host_key_checking {
        StrictHostKeyChecking::Yes => {
            return Err(unknown("and StrictHostKeyChecking allows no others", false));
        }
        StrictHostKeyChecking::Ask if resolved.batch_mode => {
            return Err(unknown("and BatchMode allows no question", true));
        }
        StrictHostKeyChecking::Ask => {
            let text = question(&recorded, address, &algorithm, &fingerprint);
            match confirm(text, &fingerprint, caller).await {
                Some(true) => {}
                Some(false) => {
                    return Err(HostKeyError::Declined { name: recorded, algorithm, fingerprint });
                }
                None => return Err(unknown("and there is nobody to ask", true)),
            }
        }
        StrictHostKeyChecking::AcceptNew | StrictHostKeyChecking::No => {}
    }
    let Some(file) = first_file(resolved) else { return Ok(()) };
    let notice = match record(file, &name, &key, resolved.hash_known_hosts) {
        Ok(()) => {
            format!("Permanently added '{recorded}' ({algorithm}) to the list of known hosts.")
        }
        Err(error) => {
            format!("cannot record the host key of {recorded} in {}: {error}", file.display())
        }
    };
    caller.ask.notice(Notice::ours(notice)).await;
    Ok(())
}

/// The kind and the fingerprint of a host's key, for a person.
pub fn fingerprint(shown: &PublicKeyOrCertificate) -> String {
    let key = shown.public_key();
    format!("{} {}", kind_of(&key), key.fingerprint(HashAlg::Sha256))
}

/// Where new keys go.
fn first_file(resolved: &Resolved) -> Option<&Path> {
    let file = resolved.user_known_hosts_files.first()?;
    (file != Path::new("/dev/null")).then_some(file)
}

/// The kind of a key, as ssh names it to people.
pub(super) fn kind_of(key: &PublicKey) -> String {
    let algorithm = key.algorithm();
    let name = algorithm.as_str();
    let kind = match name {
        "ssh-rsa" => "RSA",
        "ssh-ed25519" => "ED25519",
        "ssh-dss" => "DSA",
        name if name.starts_with("ecdsa-") => "ECDSA",
        name if name.starts_with("sk-ssh-ed25519") => "ED25519-SK",
        name if name.starts_with("sk-ecdsa-") => "ECDSA-SK",
        name => name,
    };
    kind.to_owned()
}

fn question(name: &str, address: Option<String>, algorithm: &str, fingerprint: &str) -> String {
    let address = address.map(|address| format!(" ({address})")).unwrap_or_default();
    format!(
        "The authenticity of host '{name}{address}' can't be established.\n\
         {algorithm} key fingerprint is {fingerprint}.\n\
         Are you sure you want to continue connecting (yes/no/[fingerprint])? "
    )
}

/// `None` where nobody answers.
async fn confirm(text: String, fingerprint: &str, caller: &Caller) -> Option<bool> {
    let mut text = text;
    for _ in 0..ANSWERS {
        let question = Question { kind: QuestionKind::Confirm, text, hop: None };
        let answer = caller.ask.ask(question).await?;
        let answer = answer.0.trim();
        if answer.eq_ignore_ascii_case("yes") || answer == fingerprint {
            return Some(true);
        }
        if answer.is_empty() || answer.eq_ignore_ascii_case("no") {
            return Some(false);
        }
        text = "Please type 'yes', 'no' or the fingerprint: ".to_owned();
    }
    Some(false)
}

/// Adds a line to a file, which is made (0600, its directory 0700) where it is missing. One
/// write at the end of the file, so that two that add at the same time both do.
fn record(file: &Path, name: &HostName, key: &PublicKey, hash: bool) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(file)?;
    let mut added = new_line(name, key, hash)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            added.insert(0, '\n');
        }
    }
    file.write_all(added.as_bytes())
}

/// A line that records a key.
pub(super) fn new_line(name: &HostName, key: &PublicKey, hash: bool) -> io::Result<String> {
    let host = if hash {
        let mut salt = [0; 20];
        rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())?;
        line::hashed_name(name.recorded(), salt).ok_or(io::ErrorKind::InvalidInput)?
    } else {
        name.recorded().to_owned()
    };
    let mut key = key.clone();
    key.set_comment("");
    let key = key.to_openssh().map_err(io::Error::other)?;
    Ok(format!("{host} {}\n", key.trim()))
}

#[cfg(test)]
mod tests;
