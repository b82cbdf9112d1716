//! The file that `RevokedHostKeys` names: keys that no host may show (`ssh_config(5)`).

use std::io;
use std::path::Path;

use russh::keys::{PublicKey, PublicKeyOrCertificate};

use super::read_file;

/// How a binary list begins (PROTOCOL.krl).
const KRL: &str = "SSHKRL\n";

/// Reads the file.
///
/// # Errors
/// Where there is no such file: then nothing is known to be good. And where it is a binary list,
/// which is not understood.
pub(super) fn read(file: &Path) -> io::Result<String> {
    let text = read_file(file)?.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "RevokedHostKeys names it and there is no such file",
        )
    })?;
    if text.starts_with(KRL) {
        return Err(io::Error::other(
            "it is a binary list (KRL), which is not supported for RevokedHostKeys; \
             name a file with one public key on each line",
        ));
    }
    Ok(text)
}

/// The line, from 1, that revokes a key, or the key or authority of a certificate. Lines that hold
/// no key are passed over, as ssh does.
pub(super) fn find(text: &str, shown: &PublicKeyOrCertificate) -> Option<usize> {
    let mut keys = vec![shown.public_key()];
    if let PublicKeyOrCertificate::Certificate(certificate) = shown {
        keys.push(PublicKey::from(certificate.signature_key().clone()));
    }
    text.lines()
        .position(|line| {
            let listed = PublicKey::from_openssh(line.trim());
            listed.is_ok_and(|listed| keys.iter().any(|key| key.key_data() == listed.key_data()))
        })
        .map(|index| index + 1)
}
