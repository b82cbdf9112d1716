//! Questions that a shim asks for us.

use std::sync::Arc;

use async_trait::async_trait;
use fakessh_protocol::message::{Notice, Question, Secret, ToShim};
use tokio::sync::{Mutex, mpsc};

use crate::audit::Who;
use crate::caller::{Answers, Ask, Details};
use crate::socket::Socket;

/// Asks by way of a shim.
pub(super) struct ShimAsk {
    socket: Arc<Socket>,
    details: Option<Details>,
    /// One question at a time: the task that holds this waits for its answer.
    answers: Mutex<Answers>,
}

impl ShimAsk {
    /// Asks over this socket. What the shim answers is to be put into the sender. The shim was given
    /// so many `-v`.
    pub(super) fn new(
        socket: Arc<Socket>,
        verbosity: u8,
    ) -> (ShimAsk, mpsc::Sender<Option<Secret>>) {
        let (answers, sender) = Answers::new();
        let details = Details::of_verbosity(verbosity);
        (ShimAsk { socket, details, answers: Mutex::new(answers) }, sender)
    }
}

#[async_trait]
impl Ask for ShimAsk {
    async fn ask(&self, question: Question) -> Option<Secret> {
        let mut answers = self.answers.lock().await;
        answers.ask(self.socket.send_message(&ToShim::Ask(question), &[])).await
    }

    fn who(&self) -> Option<Who> {
        self.socket.peer()
    }

    fn details(&self) -> Option<Details> {
        self.details
    }

    async fn notice(&self, notice: Notice) {
        let _ = self.socket.send_message(&ToShim::Notice(notice), &[]).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[tokio::test]
    async fn an_answer_to_a_question_that_was_withdrawn_is_nobodys() {
        let (flags, kind) = (SocketFlags::CLOEXEC, SocketType::SEQPACKET);
        let (near, far) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let (ask, answers) = ShimAsk::new(Arc::new(Socket::new(near).unwrap()), 0);
        let shim = Socket::new(far).unwrap();
        let question = |text: &str| Question::secret(text);
        let asked = async || shim.receive_message::<ToShim>().await.unwrap().unwrap().0;
        tokio::select! {
            biased;
            _ = ask.ask(question("first")) => panic!("nobody answers"),
            message = asked() => assert_eq!(message, ToShim::Ask(question("first"))),
        }
        let second = async {
            assert_eq!(asked().await, ToShim::Ask(question("second")));
            for answer in ["to the first", "to the second"] {
                answers.send(Some(Secret(answer.to_owned()))).await.unwrap();
            }
        };
        let (answer, ()) = tokio::join!(ask.ask(question("second")), second);
        assert_eq!(answer, Some(Secret("to the second".to_owned())));
    }
}
