//! `UpdateHostKeys`: a server tells of its host keys after the login, and proves the new ones
//! (`hostkeys-00@openssh.com` and `hostkeys-prove-00@openssh.com`, PROTOCOL of OpenSSH).

use std::time::Duration;

use fakessh_protocol::message::{Notice, Question, QuestionKind};
use russh::keys::signature::Verifier;
use russh::keys::ssh_encoding::{Decode as _, Encode as _};
use russh::keys::{Algorithm, PublicKey, ssh_key::Signature};
use tokio::sync::oneshot;

use crate::caller::Caller;
use crate::known_hosts::{Announced, KeyChange};
use crate::ssh_config::Resolved;

use super::SshConnection;

const PROVE: &str = "hostkeys-prove-00@openssh.com";

/// Most keys that a server may tell of. OpenSSH has four kinds, and some servers two of each.
const MOST_KEYS: usize = 32;

/// Longest that the server may take to prove its keys, or to say that it has told of none.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often an answer that is none is asked again, as in ssh.
const ANSWERS: usize = 3;

/// Where the connection's handler puts what the server tells first.
pub(super) struct Announcement(Option<oneshot::Sender<Vec<PublicKey>>>);

impl Announcement {
    /// Both ends. Nothing is listened to unless `wanted`.
    pub(super) fn new(wanted: bool) -> (Announcement, oneshot::Receiver<Vec<PublicKey>>) {
        let (sender, receiver) = oneshot::channel();
        (Announcement(wanted.then_some(sender)), receiver)
    }

    /// Notes what the server tells. Only the first time counts.
    pub(super) fn made(&mut self, keys: Vec<PublicKey>) {
        if let Some(sender) = self.0.take()
            && keys.len() <= MOST_KEYS
        {
            let _ = sender.send(keys);
        }
    }
}

/// Learns of the server's keys without a question, whenever it tells of them.
pub(super) fn learn(
    connection: &SshConnection,
    resolved: &Resolved,
    used: PublicKey,
    told: oneshot::Receiver<Vec<PublicKey>>,
) {
    let (connection, resolved) = (connection.downgrade(), resolved.clone());
    tokio::spawn(async move {
        let Ok(keys) = told.await else { return };
        let Some(change) = find(&resolved, Announced { used, keys }).await else { return };
        let Some(connection) = connection.upgrade() else { return };
        if prove(&connection, &change.new).await {
            write(&resolved, change).await;
        }
    });
}

/// Asks the person whether what the server has told may be recorded. Waits until the server has
/// told something, or has answered without that.
pub(super) async fn learn_asking(
    connection: &SshConnection,
    resolved: &Resolved,
    used: PublicKey,
    mut told: oneshot::Receiver<Vec<PublicKey>>,
    caller: &Caller,
) {
    // Servers tell of their keys right behind the login, and so before this answer.
    if tokio::time::timeout(TIMEOUT, connection.0.handle.send_ping()).await.is_err() {
        return;
    }
    let Ok(keys) = told.try_recv() else { return };
    let Some(change) = find(resolved, Announced { used, keys }).await else { return };
    if !prove(connection, &change.new).await {
        return;
    }
    let introduction = format!(
        "The server has updated its host keys.\nThese changes were verified by the server's existing \
         trusted key.\n{}",
        change.lines()
    );
    caller.ask.notice(Notice::ours(introduction)).await;
    for _ in 0..ANSWERS {
        let text = "Accept updated hostkeys? (yes/no): ".to_owned();
        let question = Question { kind: QuestionKind::Line, text, hop: None };
        let Some(answer) = caller.ask.ask(question).await else { return };
        match answer.0.trim() {
            answer if answer.eq_ignore_ascii_case("yes") => return write(resolved, change).await,
            answer if answer.eq_ignore_ascii_case("no") => return,
            _ => {}
        }
    }
}

async fn find(resolved: &Resolved, announced: Announced) -> Option<KeyChange> {
    let (resolved, host) = (resolved.clone(), resolved.host.clone());
    let find = move || KeyChange::find(&resolved, &announced);
    match tokio::task::spawn_blocking(find).await {
        Ok(Ok(change)) => change,
        Ok(Err(error)) => {
            tracing::warn!(%host, %error, "cannot read known_hosts to update it");
            None
        }
        Err(_) => None,
    }
}

async fn write(resolved: &Resolved, change: KeyChange) {
    let (resolved, host) = (resolved.clone(), resolved.host.clone());
    let lines = change.lines();
    let written = tokio::task::spawn_blocking(move || change.write(&resolved)).await;
    match written {
        Ok(Ok(())) => {
            tracing::info!(%host, changes = %lines.trim_end().replace('\n', "; "), "host keys updated")
        }
        Ok(Err(error)) => tracing::warn!(%host, %error, "cannot update known_hosts"),
        Err(_) => {}
    }
}

/// Whether the server has all of these keys: it signs for this connection with each of them.
async fn prove(connection: &SshConnection, keys: &[PublicKey]) -> bool {
    if keys.is_empty() {
        return true;
    }
    let handle = &connection.0.handle;
    let blobs: Option<Vec<Vec<u8>>> = keys.iter().map(|key| key.to_bytes().ok()).collect();
    let (Some(blobs), Some(binding)) = (blobs, handle.agent_session_binding()) else {
        return false;
    };
    let mut request = Vec::new();
    for blob in &blobs {
        if blob.encode(&mut request).is_err() {
            return false;
        }
    }
    let reply = handle.send_global_request(PROVE, &request, true);
    let Ok(Ok(Some(reply))) = tokio::time::timeout(TIMEOUT, reply).await else {
        tracing::warn!(host = connection.host(), "the server does not prove its new host keys");
        return false;
    };
    let mut reply: &[u8] = &reply;
    let proved = keys.iter().zip(&blobs).all(|(key, blob)| {
        let signature = Vec::<u8>::decode(&mut reply).ok();
        signature.is_some_and(|signature| is_signed(key, blob, binding.session_id(), &signature))
    });
    if !proved || !reply.is_empty() {
        tracing::warn!(
            host = connection.host(),
            "the server's proof of its new host keys is wrong"
        );
        return false;
    }
    true
}

/// Whether a key has signed for its use as the host's, in the connection with this id. The library
/// can check this, too, and takes SHA-1 for a good signature.
fn is_signed(key: &PublicKey, blob: &[u8], session: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = Signature::try_from(signature) else { return false };
    let fits = match (key.algorithm(), signature.algorithm()) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { hash }) => hash.is_some(),
        (key, used) => key == used,
    };
    let mut signed = Vec::new();
    let written = PROVE
        .encode(&mut signed)
        .and_then(|()| session.encode(&mut signed))
        .and_then(|()| blob.encode(&mut signed));
    fits && written.is_ok() && Verifier::verify(key, &signed, &signature).is_ok()
}
