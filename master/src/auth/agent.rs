//! The caller's ssh-agent.

use std::io;
use std::path::Path;
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::AgentSessionBinding;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Certificate, HashAlg, PublicKey};
use tokio::net::UnixStream;

/// Longest that an agent may take to say which keys it has. Signing may take longer: some agents
/// ask a person, or wait for a touch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to an agent.
pub(super) struct Agent {
    client: AgentClient<UnixStream>,
}

/// A key that an agent holds.
#[derive(Clone)]
pub(super) struct AgentKey {
    pub(super) public: PublicKey,
    pub(super) certificate: Option<Certificate>,
    pub(super) comment: String,
}

impl Agent {
    /// Connects, and asks which keys there are.
    ///
    /// The agent is told which session the signatures are for, so that keys that are restricted
    /// to some destinations can be used (`ssh-add -h`); an agent that does not know of it says no,
    /// which does no harm.
    pub(super) async fn open(
        socket: &Path,
        binding: Option<&AgentSessionBinding>,
    ) -> io::Result<(Agent, Vec<AgentKey>)> {
        let open = async {
            let mut client = AgentClient::connect(UnixStream::connect(socket).await?);
            if let Some(binding) = binding
                && let Err(error) = client.bind_session(binding, false).await
            {
                tracing::debug!(%error, "the agent does not bind sessions");
            }
            let identities = client.request_identities().await.map_err(io::Error::other)?;
            Ok((Agent { client }, identities.into_iter().map(AgentKey::from).collect()))
        };
        tokio::time::timeout(TIMEOUT, open).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// `data` with the signature behind it.
    pub(super) async fn sign(
        &mut self,
        key: &AgentKey,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, russh::keys::Error> {
        // Agents hold a certificate's key under the certificate, and a certificate from a file
        // under the bare key.
        let comment = key.comment.clone();
        let identity = match key.certificate.clone() {
            Some(certificate) => AgentIdentity::Certificate { certificate, comment },
            None => AgentIdentity::PublicKey { key: key.public.clone(), comment },
        };
        self.client.sign_request(&identity, hash, data).await
    }
}

impl From<AgentIdentity> for AgentKey {
    fn from(identity: AgentIdentity) -> AgentKey {
        let comment = identity.comment().to_owned();
        let public = identity.public_key().into_owned();
        let certificate = match identity {
            AgentIdentity::Certificate { certificate, .. } => Some(certificate),
            AgentIdentity::PublicKey { .. } => None,
        };
        AgentKey { public, certificate, comment }
    }
}
