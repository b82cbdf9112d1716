//! The files that `RevokedHostKeys` names: keys that no host may show (`ssh_config(5)`).

use std::io;
use std::path::Path;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, PublicKey, PublicKeyOrCertificate};

use super::krl::{self, Krl};
use super::read_file;

/// The content of a file.
#[derive(Clone, Debug)]
pub(super) enum Revoked {
    /// A public key on each line.
    Lines(String),
    /// A binary list.
    Krl(Krl),
}

/// Where a key stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// On this line, from 1.
    Line(usize),
    /// Somewhere in a binary list.
    InList,
}

/// Reads the file.
///
/// # Errors
/// If there is no such file, or if it is not understood: then nothing is known to be good.
pub(super) fn read(file: &Path) -> io::Result<Revoked> {
    let bytes = read_file(file)?.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "RevokedHostKeys names it and there is no such file",
        )
    })?;
    if bytes.starts_with(krl::MAGIC) {
        let krl = Krl::parse(&bytes);
        return krl.map(Revoked::Krl).map_err(|error| io::Error::other(error.to_string()));
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let is_empty = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
    match text.lines().position(|line| !is_empty(line) && key_of(line).is_none()) {
        Some(index) => Err(io::Error::other(format!("line {} holds no key", index + 1))),
        None => Ok(Revoked::Lines(text)),
    }
}

impl Revoked {
    /// What revokes a key; or a certificate, its key, or its authority.
    pub(super) fn find(&self, shown: &PublicKeyOrCertificate) -> Option<Found> {
        match self {
            Revoked::Lines(text) => find(text, shown).map(Found::Line),
            Revoked::Krl(krl) => krl.revokes(shown).then_some(Found::InList),
        }
    }
}

/// Whether a binary list revokes a key.
pub(crate) fn by_krl(bytes: &[u8], shown: &PublicKeyOrCertificate) -> Result<bool, String> {
    let krl = Krl::parse(bytes).map_err(|error| error.to_string())?;
    Ok(krl.revokes(shown))
}

/// The line, from 1, that revokes a key, or the key or authority of a certificate. Lines that hold
/// no key are passed over; [`read`] takes no file with such a line.
pub(crate) fn find(text: &str, shown: &PublicKeyOrCertificate) -> Option<usize> {
    let mut keys = vec![shown.public_key()];
    if let PublicKeyOrCertificate::Certificate(certificate) = shown {
        keys.push(PublicKey::from(certificate.signature_key().clone()));
    }
    text.lines()
        .position(|line| {
            let listed = key_of(line);
            listed.is_some_and(|listed| keys.iter().any(|key| *key.key_data() == listed))
        })
        .map(|index| index + 1)
}

/// The key on a line. A certificate stands for the key that is in it, as for ssh.
fn key_of(line: &str) -> Option<KeyData> {
    let mut fields = line.split_ascii_whitespace();
    let text = format!("{} {}", fields.next()?, fields.next()?);
    if let Ok(key) = PublicKey::from_openssh(&text) {
        return Some(key.key_data().clone());
    }
    let certificate = Certificate::from_openssh(&text).ok()?;
    Some(certificate.public_key().clone())
}
