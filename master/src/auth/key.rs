//! Trying keys: offer the public one, and sign only what the server accepts.

use std::collections::VecDeque;

use fakessh_protocol::message::Question;
use russh::client::{AuthResult, Handler};
use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey};
use thiserror::Error;

use crate::caller::Caller;

use super::agent::{Agent, AgentKey};
use super::identity::{self, Candidate, KeyFile, KeySource};
use super::secretly::secretly;
use super::{Login, LoginStep, Stop, shown};

/// Tries for one passphrase, as in ssh.
const PASSPHRASE_TRIES: usize = 3;

/// Why a key that the server would have accepted did not sign.
#[derive(Debug, Error)]
pub(super) enum SignError {
    #[error("the connection ended")]
    Lost,
    #[error("no passphrase was given")]
    NoPassphrase,
    #[error("its passphrase was wrong {PASSPHRASE_TRIES} times")]
    WrongPassphrase,
    #[error("the agent did not sign: {0}")]
    Agent(russh::keys::Error),
    #[error("cannot sign with it: {0}")]
    Key(String),
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> SignError {
        SignError::Lost
    }
}

/// The keys of a login. Each is offered once; after another proof was accepted, those that were
/// refused before they signed are offered once more.
pub(super) struct KeyQueue {
    left: VecDeque<Candidate>,
    refused: Vec<Candidate>,
}

impl KeyQueue {
    /// Has the refused keys tried again, after those that were not tried yet.
    pub(super) fn start_over(&mut self) {
        self.left.extend(self.refused.drain(..));
    }
}

impl<H: Handler> Login<'_, H> {
    /// Tries the keys that are left, until one is accepted.
    pub(super) async fn public_keys(&mut self) -> Result<LoginStep, Stop> {
        if self.keys.is_none() {
            self.collect_keys().await;
        }
        while let Some(candidate) = self.keys.as_mut().and_then(|keys| keys.left.pop_front()) {
            let again = candidate.clone();
            let (answer, has_signed) = Box::pin(self.try_key(candidate)).await?;
            match answer {
                Some(AuthResult::Success) => return Ok(LoginStep::Done),
                Some(AuthResult::Failure { remaining_methods, partial_success: true }) => {
                    self.note("(accepted, and more is wanted)");
                    return Ok(LoginStep::Partial(remaining_methods));
                }
                Some(AuthResult::Failure { remaining_methods, .. }) => {
                    self.failed(remaining_methods)?;
                    // Nobody types a passphrase, or confirms, twice for a server that refuses the key.
                    self.keys.iter_mut().filter(|_| !has_signed).for_each(|keys| {
                        keys.refused.push(again.clone());
                    });
                }
                None => {}
            }
        }
        if self.offered == 0 && self.tried.is_empty() {
            self.note("no key was found");
        }
        Ok(LoginStep::Exhausted)
    }

    async fn collect_keys(&mut self) {
        let mut agent_keys = Vec::new();
        if let Some(socket) = &self.resolved.identity_agent {
            match Agent::open(socket, self.handle.agent_session_binding()).await {
                Ok((agent, keys)) => {
                    self.agent = Some(agent);
                    agent_keys = keys;
                }
                Err(error) => {
                    let socket = socket.display();
                    self.note(format!("agent {socket} (not reached: {error})"));
                }
            }
        }
        let (keys, problems) = identity::candidates(self.resolved, agent_keys, &self.caller).await;
        self.tried.extend(problems);
        self.keys = Some(KeyQueue { left: keys.into(), refused: Vec::new() });
    }

    /// The answer, and whether the key was used to sign. No answer if the key could not be
    /// used.
    async fn try_key(&mut self, candidate: Candidate) -> Result<(Option<AuthResult>, bool), Stop> {
        let Candidate { name, public, certificate, signer } = candidate;
        let mut signer = match signer {
            KeySource::Agent(key) => match &mut self.agent {
                Some(agent) => Signer::Agent { agent, key, has_signed: false },
                None => return Ok((None, false)),
            },
            KeySource::File(file) => {
                Signer::File { file, key: None, caller: self.caller.clone(), has_signed: false }
            }
        };
        let public = match (public, &mut signer) {
            (Some(public), _) => public,
            (None, Signer::Agent { .. }) => return Ok((None, false)),
            // Nothing but the key itself says which one it is.
            (None, Signer::File { file, key, caller, has_signed }) => {
                match decrypt(file, caller).await {
                    Ok(decrypted) => {
                        *has_signed = true;
                        key.insert(decrypted).public_key().clone()
                    }
                    Err(error) => {
                        self.unanswered |= matches!(error, SignError::NoPassphrase);
                        self.note(format!("{name} ({error})"));
                        return Ok((None, false));
                    }
                }
            }
        };
        let rules = &self.resolved.key_rules;
        if let Err(short) = rules.check_size(public.key_data()) {
            self.note(format!("{name} ({short})"));
            return Ok((None, false));
        }
        let hashes = rules.user_hashes(&public.algorithm(), certificate.is_some());
        let Some(&preferred) = hashes.first() else {
            self.note(format!("{name} (PubkeyAcceptedAlgorithms does not allow it)"));
            return Ok((None, false));
        };
        let idle_timeout = &self.idle_timeout;
        let hash = if public.algorithm().is_rsa() {
            let sha256 = Some(HashAlg::Sha256);
            match idle_timeout.wait(self.handle.best_supported_rsa_hash()).await {
                None => return Err(Stop::TimedOut),
                Some(Err(_)) => return Err(Stop::Lost),
                Some(Ok(Some(None))) => {
                    self.note(format!("{name} (the server knows RSA only with SHA-1)"));
                    return Ok((None, false));
                }
                // The server knows no better one.
                Some(Ok(Some(Some(HashAlg::Sha256)))) if hashes.contains(&sha256) => sha256,
                Some(Ok(Some(Some(HashAlg::Sha256)))) => {
                    self.note(format!(
                        "{name} (the server knows RSA only with SHA-256, which \
                         PubkeyAcceptedAlgorithms does not allow)"
                    ));
                    return Ok((None, false));
                }
                // A server that does not say is asked with what all of this decade know.
                Some(Ok(_)) => preferred,
            }
        } else {
            None
        };
        self.offered += 1;
        let user = self.resolved.user.clone();
        let shown = certificate.clone();
        let answer = match certificate {
            Some(certificate) => {
                let login =
                    self.handle.authenticate_certificate_with(user, certificate, hash, &mut signer);
                idle_timeout.wait(login).await
            }
            None => {
                let login =
                    self.handle.authenticate_publickey_with(user, public, hash, &mut signer);
                idle_timeout.wait(login).await
            }
        };
        let (Signer::Agent { has_signed, .. } | Signer::File { has_signed, .. }) = signer;
        match answer {
            None => Err(Stop::TimedOut),
            Some(Err(SignError::Lost)) => Err(Stop::Lost),
            Some(Err(error)) => {
                self.unanswered |= matches!(error, SignError::NoPassphrase);
                self.note(format!("{name} ({error})"));
                Ok((None, false))
            }
            Some(Ok(answer)) => {
                if !matches!(answer, AuthResult::Failure { partial_success: false, .. }) {
                    self.proof.accepted.push(name.clone());
                    shown.iter().for_each(|certificate| self.proof.add_certificate(certificate));
                    self.note(name);
                } else {
                    self.note(format!("{name} (refused)"));
                }
                Ok((Some(answer), has_signed))
            }
        }
    }
}

/// Signs when the server has accepted the public key, and asks for a passphrase only then.
enum Signer<'a> {
    Agent { agent: &'a mut Agent, key: Box<AgentKey>, has_signed: bool },
    File { file: KeyFile, key: Option<Box<PrivateKey>>, caller: Caller, has_signed: bool },
}

impl russh::Signer for Signer<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        match self {
            Signer::Agent { agent, key, has_signed } => {
                *has_signed = true;
                agent.sign(key, hash, data).await.map_err(SignError::Agent)
            }
            Signer::File { file, key, caller, has_signed } => {
                *has_signed = true;
                let key = match key.take() {
                    Some(key) => key,
                    None => decrypt(file, caller).await?,
                };
                // RSA takes milliseconds.
                let signed = secretly(move || sign(&key, hash, data)).await;
                signed.map_err(|error| SignError::Key(error.to_string()))?
            }
        }
    }
}

/// `data` with the signature behind it (RFC 4252 section 7).
fn sign(key: &PrivateKey, hash: Option<HashAlg>, mut data: Vec<u8>) -> Result<Vec<u8>, SignError> {
    let wrong = |error: &dyn std::fmt::Display| SignError::Key(error.to_string());
    let signature = match key.key_data() {
        KeypairData::Rsa(pair) => (pair, hash).try_sign(&data).map_err(|error| wrong(&error))?,
        pair => pair.try_sign(&data).map_err(|error| wrong(&error))?,
    };
    let mut encoded = Vec::new();
    signature.encode(&mut encoded).map_err(|error| wrong(&error))?;
    encoded.encode(&mut data).map_err(|error| wrong(&error))?;
    Ok(data)
}

/// The key of a file. Asks for the passphrase where it is encrypted.
async fn decrypt(file: &KeyFile, caller: &Caller) -> Result<Box<PrivateKey>, SignError> {
    if !file.encrypted {
        let text = file.text.clone();
        let decode = move || russh::keys::decode_secret_key(&text, None).map(Box::new);
        return match secretly(decode).await {
            Ok(key) => key.map_err(|error| SignError::Key(error.to_string())),
            Err(error) => Err(SignError::Key(error.to_string())),
        };
    }
    let name = shown(&file.path, caller);
    let mut text = format!("Enter passphrase for key '{name}': ");
    for _ in 0..PASSPHRASE_TRIES {
        let question = Question::secret(text);
        let passphrase = caller.ask.ask(question).await.ok_or(SignError::NoPassphrase)?;
        if passphrase.0.is_empty() {
            return Err(SignError::NoPassphrase);
        }
        let encrypted = file.text.clone();
        // Made slow on purpose: a tenth of a second and more.
        let decrypt =
            move || russh::keys::decode_secret_key(&encrypted, Some(&passphrase.0)).map(Box::new);
        match secretly(decrypt).await {
            Ok(Ok(key)) => return Ok(key),
            Ok(Err(_)) => text = format!("Bad passphrase, try again for key '{name}': "),
            Err(error) => return Err(SignError::Key(error.to_string())),
        }
    }
    Err(SignError::WrongPassphrase)
}
