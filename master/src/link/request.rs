//! What sessions and the link's users ask of the link's task.

use std::sync::Arc;

use fakessh_protocol::handles::{SessionHandles, Stream};
use fakessh_protocol::message::Spawn;
use fakessh_protocol::wire::Handle;
use tokio::sync::{mpsc, oneshot};

use super::ends::{Carrier, CarrierIo, ControlRequest, StreamRequest};
use super::incoming::ListenRequest;
use super::reverse::ReverseSession;

/// One request. They are served in the order in which they were made.
#[derive(Debug)]
pub(super) enum LinkRequest {
    Open(Box<Open>),
    Stream(Handle, StreamRequest),
    Control(Handle, ControlRequest),
    Listen(Box<ListenRequest>),
    StopListening(Handle),
    Probe,
    /// To say when there is a sign of life.
    Ask(oneshot::Sender<()>),
    Close,
}

/// A session to be opened.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) spawn: Spawn,
    pub(super) io: CarrierIo,
    /// Takes the reverse sessions of the program, if it may start any.
    pub(super) reverse: Option<mpsc::UnboundedSender<ReverseSession>>,
}

/// Carries one session over the link.
#[derive(Debug)]
pub(super) struct LinkCarrier {
    handles: SessionHandles,
    requests: mpsc::UnboundedSender<LinkRequest>,
}

impl LinkCarrier {
    pub(super) fn new(
        handles: SessionHandles,
        requests: mpsc::UnboundedSender<LinkRequest>,
    ) -> Arc<LinkCarrier> {
        Arc::new(LinkCarrier { handles, requests })
    }
}

impl Carrier for LinkCarrier {
    fn stream(&self, stream: Stream, request: StreamRequest) -> bool {
        let handle = self.handles.stream(stream);
        self.requests.send(LinkRequest::Stream(handle, request)).is_ok()
    }

    fn control(&self, request: ControlRequest) {
        let _ = self.requests.send(LinkRequest::Control(self.handles.control, request));
    }
}
