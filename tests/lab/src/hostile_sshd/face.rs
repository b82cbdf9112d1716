//! What a hostile server shows, and how it signs.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use russh::keys::signature::Signer;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Certificate, HashAlg, PrivateKey};

use super::KEXINIT;
use super::wire::Out;

const SECURITY_KEY: &str = "sk-ssh-ed25519@openssh.com";

/// What a security key's key is for.
const APPLICATION: &str = "ssh:";

/// A host key, and how it is used in an exchange of keys.
#[derive(Debug)]
pub struct Signs {
    /// The algorithm for host keys that is offered, the only one.
    pub offers: &'static str,
    /// The key or certificate that is shown, as it goes over the wire.
    pub shown: Vec<u8>,
    /// The key that signs.
    pub key: PrivateKey,
    /// With which hash, if it is an RSA key: `None` is SHA-1.
    pub hash: Option<HashAlg>,
    /// Whether it signs as a security key does.
    pub is_security_key: bool,
}

/// A server's behaviour.
#[derive(Debug)]
pub struct Face {
    /// The host key of the first exchange.
    pub signs: Signs,
    /// The host key when keys are renewed, which is before the first command; `None` if they are
    /// not.
    pub renewed: Option<Signs>,
    /// Host keys that are told after the login: what is told, and what signs to prove it. Commands wait
    /// until they were to be proved.
    pub announced: Vec<Signs>,
    /// The cipher that is offered, the only one.
    pub cipher: &'static str,
    /// How many banners are sent during the login.
    pub banners: usize,
    /// A banner.
    pub banner: String,
}

impl Signs {
    /// With the private key of this file, which shows itself.
    ///
    /// # Panics
    /// If the file holds no key that can be read.
    pub fn with_key(file: &Path, offers: &'static str, hash: Option<HashAlg>) -> Signs {
        let key = russh::keys::load_secret_key(file, None).expect("a private key");
        let shown = key.public_key().to_bytes().expect("a public key");
        Signs { offers, shown, key, hash, is_security_key: false }
    }

    /// Shows a certificate of the key: a file as `ssh-keygen` writes it.
    ///
    /// # Panics
    /// If the file holds no certificate.
    #[must_use]
    pub fn showing(mut self, certificate: &Path) -> Signs {
        let certificate = Certificate::read_file(certificate).expect("a certificate");
        self.shown = certificate.to_bytes().expect("a certificate");
        self
    }

    /// Makes an Ed25519 key one of a security key (PROTOCOL.u2f of OpenSSH).
    ///
    /// # Panics
    /// If it is another kind of key.
    #[must_use]
    pub fn as_security_key(mut self) -> Signs {
        let KeypairData::Ed25519(pair) = self.key.key_data() else { panic!("no Ed25519 key") };
        self.offers = SECURITY_KEY;
        let shown = Out::default().string(SECURITY_KEY).string(pair.public.0);
        self.shown = shown.string(APPLICATION).0;
        self.is_security_key = true;
        self
    }

    fn sign_as_security_key(&self, hash: &[u8]) -> Vec<u8> {
        let (flags, counter) = (1, 9);
        let mut signed = digest(&SHA256, APPLICATION.as_bytes()).as_ref().to_vec();
        signed.extend(Out::default().byte(flags).number(counter).0);
        signed.extend(digest(&SHA256, hash).as_ref());
        let signature = self.key.key_data().try_sign(&signed).expect("a signature");
        let out = Out::default().string(SECURITY_KEY).string(signature.as_bytes());
        out.byte(flags).number(counter).0
    }

    pub(super) fn sign(&self, hash: &[u8]) -> Vec<u8> {
        if self.is_security_key {
            return self.sign_as_security_key(hash);
        }
        let signature = match self.key.key_data() {
            KeypairData::Rsa(pair) => (pair, self.hash).try_sign(hash),
            pair => pair.try_sign(hash),
        };
        let mut encoded = Vec::new();
        signature.expect("a signature").encode(&mut encoded).expect("a signature");
        encoded
    }
}

impl Face {
    /// A server that does nothing wrong but what this key does.
    pub fn new(signs: Signs) -> Face {
        let (cipher, banner) = ("aes128-gcm@openssh.com", String::new());
        Face { signs, renewed: None, announced: Vec::new(), cipher, banners: 0, banner }
    }

    /// The first message of an exchange of keys (RFC 4253 section 7.1).
    pub(super) fn init(&self, signs: &Signs) -> Out {
        let mut init = Out::message(KEXINIT);
        init.0.extend([7; 16]);
        let cipher = self.cipher;
        for names in
            ["curve25519-sha256", signs.offers, cipher, cipher, "hmac-sha2-256", "hmac-sha2-256"]
        {
            init = init.string(names);
        }
        init.string("none").string("none").string("").string("").byte(0).number(0)
    }
}
