//! How a host has proved that its key is its own.
//!
//! russh verifies the signature over the key exchange, but takes any algorithm that fits the key:
//! a server that was asked for `rsa-sha2-512` may sign with SHA-1, or show a key of another kind.
//! OpenSSH takes only what was negotiated. Here the rest of its checks is made up for.

use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::{Algorithm, PublicKeyOrCertificate};
use thiserror::Error;

/// Longest name of an algorithm that is quoted. RFC 4251 section 6 allows 64 characters.
const MAX_NAME: usize = 64;

/// The proof is not the one that was agreed on.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum ProofError {
    #[error("it showed no host key")]
    None,
    #[error("it agreed on a host key for {negotiated} and showed one of the kind {shown}")]
    Key { negotiated: Algorithm, shown: Algorithm },
    #[error(
        "it agreed to prove its host key with {negotiated} and signed with {used}; somebody may be \
         listening in, or its SSH server is broken"
    )]
    Signature { negotiated: Algorithm, used: String },
    #[error("it agreed on {first} for its host key at first, and on {now} when keys were renewed")]
    Renewed { first: Algorithm, now: Algorithm },
}

/// What the first exchange of keys has shown. Nothing of it is believed yet.
#[derive(Clone, Default)]
pub(super) struct Exchange(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    key: Option<PublicKeyOrCertificate>,
    negotiated: Option<Algorithm>,
}

impl Exchange {
    /// Notes the host's key.
    pub(super) fn set_key(&self, shown: &PublicKeyOrCertificate) {
        let shown = match shown {
            PublicKeyOrCertificate::PublicKey { key, hash_alg } => {
                PublicKeyOrCertificate::PublicKey { key: key.clone(), hash_alg: *hash_alg }
            }
            PublicKeyOrCertificate::Certificate(certificate) => certificate.clone().into(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).key = Some(shown);
    }

    /// Notes the end of an exchange, and what was negotiated for it.
    ///
    /// # Errors
    /// [`ProofError::Renewed`] if it is another algorithm than at first. The library verifies the
    /// signature of a later exchange, and does not say for which key. The connection's peer is
    /// known by then: only who holds the keys of the first exchange can speak in a later one.
    pub(super) fn finished(&self, negotiated: &Algorithm) -> Result<(), ProofError> {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &shown.negotiated {
            None => shown.negotiated = Some(negotiated.clone()),
            Some(first) if first == negotiated => {}
            Some(first) => {
                return Err(ProofError::Renewed { first: first.clone(), now: negotiated.clone() });
            }
        }
        Ok(())
    }

    /// The key, if it and the signature are of the kind that was negotiated.
    ///
    /// # Errors
    /// [`ProofError`].
    pub(super) fn proved(&self, signature: &[u8]) -> Result<PublicKeyOrCertificate, ProofError> {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The key may be large with its certificate, and is not needed any more.
        let (Some(key), Some(negotiated)) = (shown.key.take(), &shown.negotiated) else {
            return Err(ProofError::None);
        };
        check(negotiated, &key.public_key().algorithm(), signature)?;
        Ok(key)
    }
}

fn check(negotiated: &Algorithm, shown: &Algorithm, signature: &[u8]) -> Result<(), ProofError> {
    let same_kind = match (negotiated, shown) {
        // The hash belongs to the signature and not to the key.
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        (negotiated, shown) => negotiated == shown,
    };
    let negotiated = negotiated.clone();
    if !same_kind {
        return Err(ProofError::Key { negotiated, shown: shown.clone() });
    }
    let used = algorithm_of(signature);
    if used != negotiated.as_str().as_bytes() {
        let used = String::from_utf8_lossy(&used[..used.len().min(MAX_NAME)]);
        let used = used.chars().filter(char::is_ascii_graphic).collect();
        return Err(ProofError::Signature { negotiated, used });
    }
    Ok(())
}

/// The algorithm that a signature names: a string of SSH (RFC 4253 section 6.6). Empty if there is
/// none.
fn algorithm_of(signature: &[u8]) -> &[u8] {
    let name = signature.split_first_chunk().and_then(|(len, rest)| {
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        rest.get(..len)
    });
    name.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use russh::keys::HashAlg;

    use super::*;

    const SHA512: Algorithm = Algorithm::Rsa { hash: Some(HashAlg::Sha512) };
    const RSA: Algorithm = Algorithm::Rsa { hash: None };

    fn signature(name: &str) -> Vec<u8> {
        let len = u32::try_from(name.len()).unwrap().to_be_bytes();
        [&len[..], name.as_bytes(), &[0, 0, 0, 1, 7]].concat()
    }

    #[test]
    fn only_the_negotiated_algorithm_is_a_proof() {
        assert_eq!(check(&SHA512, &RSA, &signature("rsa-sha2-512")), Ok(()));
        assert_eq!(
            check(&Algorithm::Ed25519, &Algorithm::Ed25519, &signature("ssh-ed25519")),
            Ok(())
        );
        for other in ["ssh-rsa", "rsa-sha2-256", "rsa-sha2-5122", "", "ssh-ed25519"] {
            let error = check(&SHA512, &RSA, &signature(other)).unwrap_err();
            assert_eq!(error, ProofError::Signature { negotiated: SHA512, used: other.into() });
        }
        let error = check(&Algorithm::Ed25519, &RSA, &signature("ssh-rsa")).unwrap_err();
        assert_eq!(error, ProofError::Key { negotiated: Algorithm::Ed25519, shown: RSA });
    }

    #[test]
    fn an_exchange_that_showed_no_key_is_no_proof() {
        let exchange = Exchange::default();
        assert_eq!(exchange.finished(&SHA512), Ok(()));
        let error = exchange.proved(&signature("rsa-sha2-512")).unwrap_err();
        assert_eq!(error, ProofError::None);
    }

    #[test]
    fn keys_are_renewed_with_the_algorithm_of_the_first_exchange() {
        let exchange = Exchange::default();
        assert_eq!(exchange.finished(&SHA512), Ok(()));
        assert_eq!(exchange.finished(&SHA512), Ok(()));
        let error = exchange.finished(&Algorithm::Ed25519).unwrap_err();
        assert_eq!(error, ProofError::Renewed { first: SHA512, now: Algorithm::Ed25519 });
    }

    proptest! {
        #[test]
        fn no_signature_is_too_odd_to_be_refused(signature: Vec<u8>) {
            let named = signature.get(4..16) == Some(b"rsa-sha2-512");
            match check(&SHA512, &RSA, &signature) {
                Ok(()) => prop_assert!(named && signature[..4] == [0, 0, 0, 12]),
                Err(error) => prop_assert!(error.to_string().chars().all(|char| !char.is_control())),
            }
        }
    }
}
