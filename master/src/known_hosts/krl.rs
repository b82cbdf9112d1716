//! Binary lists of revoked keys, as `ssh-keygen -k` makes them (PROTOCOL.krl of OpenSSH).

use std::collections::HashSet;
use std::fmt;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};
use sha1::{Digest, Sha1};

/// How a list begins.
pub(super) const MAGIC: &[u8] = b"SSHKRL\n\0";

/// The only version of the format.
const VERSION: u32 = 1;

const CERTIFICATES: u8 = 1;
const KEYS: u8 = 2;
const SHA1_FINGERPRINTS: u8 = 3;
const SHA256_FINGERPRINTS: u8 = 5;
const EXTENSION: u8 = 255;

const SERIAL_LIST: u8 = 0x20;
const SERIAL_RANGE: u8 = 0x21;
const SERIAL_BITMAP: u8 = 0x22;
const KEY_IDS: u8 = 0x23;
const CERTIFICATE_EXTENSION: u8 = 0x39;

/// A list that was read. It takes no more memory than some times its file.
#[derive(Clone, Debug, Default)]
pub(super) struct Krl {
    keys: HashSet<Vec<u8>>,
    sha1: HashSet<Vec<u8>>,
    sha256: HashSet<Vec<u8>>,
    certificates: Vec<Certificates>,
}

/// Revoked certificates of one authority.
#[derive(Clone, Debug, Default)]
struct Certificates {
    /// The authority's key, as it goes over the wire; empty for all authorities.
    authority: Vec<u8>,
    /// The first and the last of a row of serial numbers.
    ranges: Vec<(u64, u64)>,
    /// A serial number, and a number whose lowest bit stands for it, the next for the next.
    bitmaps: Vec<(u64, Vec<u8>)>,
    ids: HashSet<Vec<u8>>,
}

/// Why a list can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KrlError {
    Malformed,
    Version(u32),
    /// A part that says more than this reader knows.
    Section(u8),
}

impl fmt::Display for KrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KrlError::Malformed => f.write_str("the list of revoked keys (KRL) is damaged"),
            KrlError::Version(version) => {
                write!(f, "the list of revoked keys (KRL) has the unknown version {version}")
            }
            KrlError::Section(number) => write!(
                f,
                "the list of revoked keys (KRL) has a part that is not supported ({number})"
            ),
        }
    }
}

impl Krl {
    /// Reads a list.
    ///
    /// # Errors
    /// [`KrlError`], also for extensions that must be understood and signatures, as in ssh.
    pub(super) fn parse(bytes: &[u8]) -> Result<Krl, KrlError> {
        let mut reader = Reader(bytes.strip_prefix(MAGIC).ok_or(KrlError::Malformed)?);
        match reader.number()? {
            VERSION => {}
            other => return Err(KrlError::Version(other)),
        }
        for _version_date_and_flags in 0..3 {
            reader.long()?;
        }
        for _reserved_and_comment in 0..2 {
            reader.string()?;
        }
        let mut krl = Krl::default();
        while let Some(kind) = reader.next_byte() {
            let section = Reader(reader.string()?);
            match kind {
                CERTIFICATES => krl.certificates.push(Certificates::parse(section)?),
                KEYS => section.add_strings(&mut krl.keys)?,
                SHA1_FINGERPRINTS => section.add_strings(&mut krl.sha1)?,
                SHA256_FINGERPRINTS => section.add_strings(&mut krl.sha256)?,
                EXTENSION => section.pass_over_extension(kind)?,
                other => return Err(KrlError::Section(other)),
            }
        }
        Ok(krl)
    }

    /// Whether the list revokes a key; or a certificate, its key, or its authority.
    pub(super) fn revokes(&self, shown: &PublicKeyOrCertificate) -> bool {
        if self.revokes_key(shown.public_key().key_data()) {
            return true;
        }
        let PublicKeyOrCertificate::Certificate(certificate) = shown else { return false };
        self.revokes_key(certificate.signature_key()) || self.revokes_certificate(certificate)
    }

    fn revokes_key(&self, key: &KeyData) -> bool {
        // A key that can't be written down can't be looked up: then nothing is known to be good.
        let Some(blob) = blob(key) else { return true };
        self.keys.contains(&blob)
            || self.sha256.contains(key.fingerprint(HashAlg::Sha256).as_bytes())
            || self.sha1.contains(Sha1::digest(&blob).as_slice())
    }

    fn revokes_certificate(&self, certificate: &Certificate) -> bool {
        let Some(authority) = blob(certificate.signature_key()) else { return true };
        let mut of_authority = self
            .certificates
            .iter()
            .filter(|listed| listed.authority.is_empty() || listed.authority == authority);
        of_authority.any(|listed| {
            listed.ids.contains(certificate.key_id().as_bytes())
                || listed.has_serial(certificate.serial())
        })
    }
}

/// A key as it goes over the wire.
fn blob(key: &KeyData) -> Option<Vec<u8>> {
    PublicKey::from(key.clone()).to_bytes().ok()
}

impl Certificates {
    fn parse(mut reader: Reader<'_>) -> Result<Certificates, KrlError> {
        let mut listed =
            Certificates { authority: reader.string()?.to_vec(), ..Certificates::default() };
        let _reserved = reader.string()?;
        while let Some(kind) = reader.next_byte() {
            let mut section = Reader(reader.string()?);
            match kind {
                SERIAL_LIST => {
                    while !section.0.is_empty() {
                        let serial = section.long()?;
                        listed.ranges.push((serial, serial));
                    }
                }
                SERIAL_RANGE => {
                    listed.ranges.push((section.long()?, section.long()?));
                    section.end()?;
                }
                SERIAL_BITMAP => {
                    listed.bitmaps.push((section.long()?, section.string()?.to_vec()));
                    section.end()?;
                }
                KEY_IDS => section.add_strings(&mut listed.ids)?,
                CERTIFICATE_EXTENSION => section.pass_over_extension(kind)?,
                other => return Err(KrlError::Section(other)),
            }
        }
        Ok(listed)
    }

    /// 0 is what certificates have that were given no number, and is never listed.
    fn has_serial(&self, serial: u64) -> bool {
        let in_range = |(first, last): &(u64, u64)| (*first..=*last).contains(&serial);
        let in_bitmap = |(first, bits): &(u64, Vec<u8>)| {
            let Some(index) = serial.checked_sub(*first) else { return false };
            let byte = usize::try_from(index / 8).unwrap_or(usize::MAX);
            bits.iter().rev().nth(byte).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
        };
        serial != 0 && (self.ranges.iter().any(in_range) || self.bitmaps.iter().any(in_bitmap))
    }
}

/// The data types of RFC 4251.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next_byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Result<u32, KrlError> {
        let (number, rest) = self.0.split_first_chunk().ok_or(KrlError::Malformed)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn long(&mut self) -> Result<u64, KrlError> {
        let (number, rest) = self.0.split_first_chunk().ok_or(KrlError::Malformed)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*number))
    }

    fn string(&mut self) -> Result<&'a [u8], KrlError> {
        let len = usize::try_from(self.number()?).map_err(|_| KrlError::Malformed)?;
        let (string, rest) = self.0.split_at_checked(len).ok_or(KrlError::Malformed)?;
        self.0 = rest;
        Ok(string)
    }

    fn end(&self) -> Result<(), KrlError> {
        if self.0.is_empty() { Ok(()) } else { Err(KrlError::Malformed) }
    }

    fn add_strings(mut self, set: &mut HashSet<Vec<u8>>) -> Result<(), KrlError> {
        while !self.0.is_empty() {
            set.insert(self.string()?.to_vec());
        }
        Ok(())
    }

    /// An extension may be passed over unless it says that it must not.
    fn pass_over_extension(mut self, kind: u8) -> Result<(), KrlError> {
        self.string()?;
        match self.next_byte() {
            Some(0) => {}
            Some(_) => return Err(KrlError::Section(kind)),
            None => return Err(KrlError::Malformed),
        }
        self.string()?;
        self.end()
    }
}

#[cfg(test)]
mod tests;
