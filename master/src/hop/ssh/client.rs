//! What a server may ask of us or tell us while a connection is up.

use std::sync::{Arc, Mutex, PoisonError};

use fakessh_protocol::printable::one_line;
use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Names};
use thiserror::Error;
use tokio::sync::watch;

use crate::caller::Caller;
use crate::notice_relay::NoticeRelay;
use crate::ssh_config::Resolved;

use super::error::describe;
use super::forwarded::{Forwarded, ForwardedAt};
use super::host_key_rotation::Announcement;
use super::proof::{Exchange, ProofError};
use super::worth::Worth;

/// An error that the handler returns: it ends the connection.
#[derive(Debug, Error)]
pub(super) enum HandlerError {
    #[error(transparent)]
    Protocol(#[from] russh::Error),
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// The caller of the attempt to connect, until the attempt is over. The connection lives longer: it
/// must keep neither the environment of its first caller nor the socket to that person.
#[derive(Clone)]
pub(super) struct AttemptCaller(Arc<Mutex<Option<Caller>>>);

impl AttemptCaller {
    pub(super) fn new(caller: Caller) -> AttemptCaller {
        AttemptCaller(Arc::new(Mutex::new(Some(caller))))
    }

    /// The caller; `None` after the login.
    pub(super) fn get(&self) -> Option<Caller> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the caller, in all clones.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The server's own words for the last channel that it did not open. Where several fail at once,
/// one may be told the words for another.
#[derive(Clone, Default)]
pub(super) struct LastRefusal(Arc<Mutex<String>>);

impl LastRefusal {
    fn set(&self, words: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    /// The words, which are forgotten by that.
    pub(super) fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes the host's key, passes banners on, and notes how the connection ended. A channel that the
/// server wants to open is refused, unless it is that of a forward.
pub(super) struct ClientHandler {
    pub(super) resolved: Arc<Resolved>,
    pub(super) attempt_caller: AttemptCaller,
    pub(super) exchange: Exchange,
    pub(super) ended: watch::Sender<Option<String>>,
    pub(super) refusal: LastRefusal,
    /// Shows the server's banners.
    pub(super) relay: Arc<NoticeRelay>,
    pub(super) worth: Worth,
    pub(super) forwarded: Forwarded,
    /// Takes what the server tells of its host keys.
    pub(super) announcement: Announcement,
}

impl Handler for ClientHandler {
    type Error = HandlerError;

    /// Nothing is decided here: the library tells no signature. Whoever connects decides before it
    /// logs in, and until then the library takes nothing but extensions from the server.
    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, HandlerError> {
        self.exchange.set_key(shown);
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        names: &Names,
        _: &mut Session,
    ) -> Result<(), HandlerError> {
        self.worth.keys_exchanged(names.kex.as_ref());
        if let Some(caller) = self.attempt_caller.get() {
            let (kex, cipher) = (names.kex.as_ref(), names.cipher.as_ref());
            let (key, mac) = (names.key.as_str(), names.client_mac.as_ref());
            let text = || {
                format!("key exchange {kex}, host key {key}, cipher {cipher}, MAC of others {mac}")
            };
            caller.detail(2, text).await;
        }
        Ok(self.exchange.finished(&names.key)?)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), HandlerError> {
        let quiet = ["QUIET", "FATAL", "ERROR"].contains(&self.resolved.log_level.as_str());
        if !quiet && let Some(caller) = self.attempt_caller.get() {
            self.relay.show(banner, &*caller.ask).await;
        }
        Ok(())
    }

    async fn openssh_ext_host_keys_announced(
        &mut self,
        keys: Vec<PublicKey>,
        _: &mut Session,
    ) -> Result<(), HandlerError> {
        self.announcement.made(keys);
        Ok(())
    }

    async fn channel_open_failure(
        &mut self,
        _: ChannelId,
        _: ChannelOpenFailure,
        description: &str,
        _: &str,
        _: &mut Session,
    ) -> Result<(), HandlerError> {
        self.refusal.set(one_line(description));
        Ok(())
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<HandlerError>,
    ) -> Result<(), HandlerError> {
        let (message, result) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                let message = match info.message.trim() {
                    "" if matches!(info.reason_code, Disconnect::ByApplication) => {
                        "the server ended it".to_owned()
                    }
                    "" => format!("the server ended it ({:?})", info.reason_code),
                    message => one_line(message),
                };
                (message, Ok(()))
            }
            DisconnectReason::Error(HandlerError::Protocol(error)) => {
                (describe(&error), Err(HandlerError::Protocol(error)))
            }
            DisconnectReason::Error(error) => (error.to_string(), Err(error)),
        };
        self.ended.send_replace(Some(message));
        result
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        address: &str,
        port: u32,
        from: &str,
        from_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), HandlerError> {
        let from = format!("{from}:{from_port}");
        let at = ForwardedAt::Port(address.to_owned(), port);
        self.forwarded.take(at, channel, from, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), HandlerError> {
        let at = ForwardedAt::Path(path.to_owned());
        self.forwarded.take(at, channel, String::new(), reply).await;
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), HandlerError> {
        self.forwarded.take(ForwardedAt::Agent, channel, String::new(), reply).await;
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), HandlerError> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), HandlerError> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), HandlerError> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), HandlerError> {
        drop(reply);
        Ok(())
    }
}
