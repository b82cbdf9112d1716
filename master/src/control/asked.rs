//! A client that is asked and told over a socket.

use std::io;
use std::os::fd::BorrowedFd;

use async_trait::async_trait;
use fakessh_protocol::message::{Notice, Question, Secret};
use tokio::sync::{Mutex, mpsc};

use super::Reply;
use crate::audit::Who;
use crate::caller::{Answers, Ask};
use crate::socket::Socket;

/// A client at the other end of a socket, which can be asked.
pub(crate) struct AskedClient {
    socket: Socket,
    /// What it answers. Whoever asks holds this until the answer is there.
    answers: Mutex<Answers>,
}

impl AskedClient {
    /// What the client answers is to be put into the sender.
    pub(crate) fn new(socket: Socket) -> (AskedClient, mpsc::Sender<Option<Secret>>) {
        let (answers, sender) = Answers::new();
        (AskedClient { socket, answers: Mutex::new(answers) }, sender)
    }

    /// Where its messages come from.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Tells the client something.
    ///
    /// # Errors
    /// Failures of the system; the client is gone.
    pub(crate) async fn reply(&self, reply: &Reply) -> io::Result<()> {
        let no_descriptors: [BorrowedFd<'_>; 0] = [];
        self.socket.send(&serde_json::to_vec(reply)?, &no_descriptors).await
    }
}

#[async_trait]
impl Ask for AskedClient {
    async fn ask(&self, question: Question) -> Option<Secret> {
        let mut answers = self.answers.lock().await;
        answers.ask(self.reply(&Reply::ask(&question))).await
    }

    fn who(&self) -> Option<Who> {
        self.socket.peer()
    }

    async fn notice(&self, notice: Notice) {
        let _ = self.reply(&Reply::Notice(notice)).await;
    }
}
