//! Has the slave listen for a forward.

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::forward::Listen;
use fakessh_protocol::printable::one_line;
use fakessh_protocol::wire::Handle;
use tokio::sync::{mpsc, oneshot};

use super::Link;
use super::incoming::{ListenRequest, Listener};
use super::request::LinkRequest;

/// Has the slave listen no more when it is dropped.
struct StopListening {
    control: Handle,
    requests: mpsc::UnboundedSender<LinkRequest>,
}

impl Drop for StopListening {
    fn drop(&mut self) {
        let _ = self.requests.send(LinkRequest::StopListening(self.control));
    }
}

impl Link {
    /// Has the slave listen for a forward.
    ///
    /// # Errors
    /// Why it can't be listened, or that the link is lost. Cancelled, nothing is listened on.
    pub(crate) async fn listen(&self, listen: Listen) -> Result<Listener, Failure> {
        let lost = || Failure::new(FailureKind::ConnectionLost, self.why_lost().to_string());
        let control = self.handles.pick().control;
        let (answer, answered) = oneshot::channel();
        let (sender, incoming) = mpsc::unbounded_channel();
        let request = ListenRequest { control, listen, answer, incoming: sender };
        let request = LinkRequest::Listen(Box::new(request));
        self.requests.send(request).map_err(|_| lost())?;
        let stop = StopListening { control, requests: self.requests.clone() };
        match answered.await {
            Ok(Ok(port)) => Ok(Listener { port, incoming, _stop: Box::new(stop) }),
            Ok(Err(refusal)) => {
                // The host's words stand in a line of ours.
                Err(Failure::new(refusal.reason.into(), one_line(&refusal.message)))
            }
            Err(_) => Err(lost()),
        }
    }
}
