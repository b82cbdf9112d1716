//! What keys and signatures must be like, whatever is recorded about them: `RequiredRSASize`,
//! `CASignatureAlgorithms` and `PubkeyAcceptedAlgorithms`.

use std::fmt;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, HashAlg};

/// Fewest bits of any RSA key, as in ssh; `RequiredRSASize` can only ask for more.
const MIN_RSA_BITS: u32 = 1024;

/// Signatures of authorities that count if the user has set none (OpenSSH's own list).
const AUTHORITY_SIGNATURES: [&str; 8] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// The rules of one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRules {
    /// Fewest bits of an RSA key of the host or the user (`RequiredRSASize`).
    pub required_rsa_size: u32,
    /// Algorithms by which an authority may have signed a host's certificate
    /// (`CASignatureAlgorithms`).
    pub authority_signatures: Vec<String>,
    /// Algorithms by which the user's keys may sign, most preferred first
    /// (`PubkeyAcceptedAlgorithms`); `None` for all that are not weak.
    pub user_signatures: Option<Vec<String>>,
}

impl Default for KeyRules {
    fn default() -> KeyRules {
        KeyRules {
            required_rsa_size: MIN_RSA_BITS,
            authority_signatures: AUTHORITY_SIGNATURES.map(str::to_owned).to_vec(),
            user_signatures: None,
        }
    }
}

/// An RSA key has too few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortRsa {
    /// How many it has.
    pub bits: u32,
    /// How many it must have.
    pub required: u32,
}

impl fmt::Display for ShortRsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an RSA key of {} bits, and RequiredRSASize is {}", self.bits, self.required)
    }
}

impl KeyRules {
    /// Whether a key of the host or the user is an RSA key that is too short.
    ///
    /// # Errors
    /// [`ShortRsa`].
    pub fn check_size(&self, key: &KeyData) -> Result<(), ShortRsa> {
        check_size(key, self.required_rsa_size.max(MIN_RSA_BITS))
    }

    /// The same for the key of an authority. `RequiredRSASize` says nothing about those, as in
    /// ssh.
    ///
    /// # Errors
    /// [`ShortRsa`].
    pub fn check_authority_size(&self, key: &KeyData) -> Result<(), ShortRsa> {
        check_size(key, MIN_RSA_BITS)
    }

    /// Whether an authority's signature by this algorithm counts. One with SHA-1 does not, even if
    /// the list has it: whoever can make collisions can make such a certificate.
    pub fn allows_authority_signature(&self, algorithm: &Algorithm) -> bool {
        let is_sha1 = matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa);
        !is_sha1 && self.authority_signatures.iter().any(|name| name == algorithm.as_str())
    }

    /// The hashes with which a key of the user's may sign, most preferred first. Keys other than
    /// RSA have no choice: `None` stands for their only hash. Empty if the key may not be used.
    pub fn user_hashes(&self, algorithm: &Algorithm, certificate: bool) -> Vec<Option<HashAlg>> {
        let sha2 = [HashAlg::Sha512, HashAlg::Sha256].map(|hash| (Some(hash), rsa(hash)));
        let known = match algorithm {
            Algorithm::Rsa { .. } => sha2.to_vec(),
            other => vec![(None, other.clone())],
        };
        let name = |algorithm: &Algorithm| match certificate {
            true => algorithm.to_certificate_type(),
            false => algorithm.as_str().to_owned(),
        };
        let Some(accepted) = &self.user_signatures else {
            return known.into_iter().map(|(hash, _)| hash).collect();
        };
        let find = |accepted: &String| known.iter().find(|(_, known)| name(known) == *accepted);
        accepted.iter().filter_map(find).map(|(hash, _)| *hash).collect()
    }
}

fn rsa(hash: HashAlg) -> Algorithm {
    Algorithm::Rsa { hash: Some(hash) }
}

fn check_size(key: &KeyData, required: u32) -> Result<(), ShortRsa> {
    match key.rsa().map(|rsa| rsa.key_size()) {
        Some(bits) if bits < required => Err(ShortRsa { bits, required }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_authority_may_sign_with_sha1() {
        let rules = KeyRules::default();
        assert!(rules.allows_authority_signature(&Algorithm::Ed25519));
        assert!(rules.allows_authority_signature(&rsa(HashAlg::Sha256)));
        assert!(!rules.allows_authority_signature(&Algorithm::Rsa { hash: None }));
        assert!(!rules.allows_authority_signature(&Algorithm::Dsa));
        let asked_for = vec!["ssh-rsa".to_owned()];
        let rules = KeyRules { authority_signatures: asked_for, ..rules };
        assert!(!rules.allows_authority_signature(&Algorithm::Rsa { hash: None }));
    }

    #[test]
    fn the_order_of_the_list_is_the_order_of_the_hashes() {
        let rsa = Algorithm::Rsa { hash: None };
        let hashes = |list: &[&str], certificate| {
            let list = Some(list.iter().map(|&name| name.to_owned()).collect());
            let rules = KeyRules { user_signatures: list, ..KeyRules::default() };
            rules.user_hashes(&rsa, certificate)
        };
        let (sha256, sha512) = (Some(HashAlg::Sha256), Some(HashAlg::Sha512));
        assert_eq!(KeyRules::default().user_hashes(&rsa, true), [sha512, sha256]);
        assert_eq!(hashes(&["rsa-sha2-256", "ssh-rsa", "rsa-sha2-512"], false), [sha256, sha512]);
        assert_eq!(hashes(&["rsa-sha2-256"], true), []);
        assert_eq!(hashes(&["rsa-sha2-512-cert-v01@openssh.com"], true), [sha512]);
        assert_eq!(hashes(&["ssh-rsa"], false), [], "SHA-1 is not to be had");
    }

    #[test]
    fn other_keys_are_named_by_themselves() {
        let list = Some(vec!["ssh-ed25519".to_owned()]);
        let rules = KeyRules { user_signatures: list, ..KeyRules::default() };
        assert_eq!(rules.user_hashes(&Algorithm::Ed25519, false), [None]);
        assert_eq!(rules.user_hashes(&Algorithm::Ed25519, true), []);
        assert_eq!(rules.user_hashes(&Algorithm::SkEd25519, false), []);
    }
}
