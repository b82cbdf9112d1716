//! Answers that come back over a socket.

use std::io;

use fakessh_protocol::message::Secret;
use tokio::sync::mpsc;

/// Answers that may wait. There is one question at a time; more answers than that are nobody's.
const WAITING: usize = 16;

/// What comes back from a shim or a client: one answer for each question, in order.
pub(crate) struct Answers {
    receiver: mpsc::Receiver<Option<Secret>>,
    /// Questions that were sent and not answered. Above one, the older ones were withdrawn, and
    /// their answers are nobody's: what was typed for one must not be sent for another.
    open: usize,
}

impl Answers {
    /// What comes is to be put into the sender.
    pub(crate) fn new() -> (Answers, mpsc::Sender<Option<Secret>>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Answers { receiver, open: 0 }, sender)
    }

    /// Asks in this way, and waits for the answer to that; `None` also where the other side is
    /// gone. Cancel safe.
    pub(crate) async fn ask(
        &mut self,
        ask: impl Future<Output = io::Result<()>>,
    ) -> Option<Secret> {
        self.forget();
        ask.await.ok()?;
        self.open += 1;
        self.last().await
    }

    /// The answer to the last question.
    async fn last(&mut self) -> Option<Secret> {
        loop {
            let answer = self.receiver.recv().await?;
            self.open = self.open.saturating_sub(1);
            if self.open == 0 {
                return answer;
            }
        }
    }

    /// Throws away what came for questions that were withdrawn, and what nobody asked for.
    fn forget(&mut self) {
        while self.receiver.try_recv().is_ok() {
            self.open = self.open.saturating_sub(1);
        }
    }
}
