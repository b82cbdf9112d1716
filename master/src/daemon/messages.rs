//! What goes back and forth with a client after its request.

use std::os::fd::OwnedFd;

use fakessh_protocol::failure::Failure;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::control::{ClientMessage, Reply};

/// What a client says after its request, beside answers, and the descriptors that came along.
pub(super) type Messages = mpsc::Receiver<(ClientMessage, Vec<OwnedFd>)>;

/// The reply that something is done, with what was asked for.
pub(super) fn done<T: Serialize>(value: &T) -> Result<Reply, Failure> {
    let value = serde_json::to_value(value);
    value.map(Reply::Done).map_err(|error| Failure::other(error.to_string()))
}
