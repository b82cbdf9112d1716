//! Readers of this crate, as fuzz targets reach them. Not for anything else.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fakessh_protocol::message::Secret;
use russh::keys::PublicKeyOrCertificate;

use crate::known_hosts::{HostName, KnownHosts, Verdict};
use crate::route::{Names, NamesError};
use crate::ssh_config::Resolved;

/// A key that a host shows.
pub const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

/// The host of [`ssh_g`].
pub const HOST: &str = "host-as-written";

/// The names in a `config.toml` of this content.
///
/// # Errors
/// [`NamesError`].
pub fn names(file: &Path, text: &str) -> Result<Names, NamesError> {
    Names::read(file, text)
}

fn shown() -> PublicKeyOrCertificate {
    PublicKeyOrCertificate::PublicKey { key: key(), hash_alg: None }
}

#[allow(clippy::expect_used, reason = "it is the constant above")]
fn key() -> russh::keys::PublicKey {
    KEY.parse().expect("a key")
}

/// What a `known_hosts` file of this content says about [`KEY`], in one word.
pub fn known_hosts(text: &str, host: &str, port: u16) -> &'static str {
    let records = KnownHosts::new(vec![(PathBuf::from("/known_hosts"), text.to_owned())]);
    let name = HostName::new(host, port, None);
    let _ = (records.recorded_algorithms(&name), records.has_authority(&name));
    match records.check(&name, &shown(), SystemTime::UNIX_EPOCH) {
        Verdict::Trusted => "trusted",
        Verdict::Unknown => "unknown",
        Verdict::Changed(_) => "changed",
        Verdict::Revoked(_) => "revoked",
        Verdict::BadCertificate(_) => "bad certificate",
        Verdict::TooShort(_) => "too short",
        Verdict::NotAllowed(_) => "not allowed",
    }
}

/// The line of a file of revoked keys that revokes [`KEY`].
pub fn revoked(text: &str) -> Option<usize> {
    crate::known_hosts::find_revoked(text, &shown())
}

/// Whether a binary list revokes [`KEY`], or why it can't be read.
///
/// # Errors
/// One line.
pub fn krl(bytes: &[u8]) -> Result<bool, String> {
    crate::known_hosts::revoked_by_krl(bytes, &shown())
}

/// What `ssh -G host-as-written` means that prints this.
pub fn ssh_g(text: &str) -> Option<Resolved> {
    crate::ssh_config::read_dump(text, HOST)
}

/// The answer in a datagram of a client.
pub fn answer(bytes: &[u8]) -> Option<Secret> {
    crate::control::answer(bytes)
}
