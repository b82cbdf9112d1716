//! A program that the user's master runs for this process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::{ProgramSetup, Question};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::sync::{mpsc, watch};

use super::{Outgoing, master_has_ended, received, to_bytes};
use crate::caller::Ask;
use crate::control::{ClientMessage, OutputName, ProgramEnd, Reply, StartRequest, encode_answer};
use crate::error::Error;
use crate::socket::Socket;

pub(crate) use crate::control::Program;

/// A program that the user's master runs for this process. Dropped, it is hung up.
#[derive(Debug)]
pub(crate) struct SharedSession {
    orders: mpsc::UnboundedSender<ClientMessage>,
    progress: watch::Receiver<Progress>,
}

/// How far a program is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Whether all of standard output and standard error was written to their pipes.
    whole: [bool; 2],
    outcome: Option<Result<ExitStatus, Error>>,
}

impl SharedSession {
    /// A program that is to be started in a context of this name.
    pub(super) fn new(
        name: &str,
        program: Program,
        [stdin, stdout, stderr]: [OwnedFd; 3],
        setup: ProgramSetup,
        ask: Arc<dyn Ask>,
    ) -> Result<(SharedSession, Outgoing), Error> {
        let failed = |error: io::Error| Error::of_stream(name, &error);
        let kind = SocketType::SEQPACKET;
        let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
        let (near, far) = pair.map_err(|error| failed(error.into()))?;
        let near = Socket::new(near).map_err(failed)?;
        let ProgramSetup { environment, directory, terminal: _, agent: _ } = setup;
        let variables = environment.into_iter();
        let environment = variables.map(|(name, value)| (name.into(), value.into())).collect();
        let directory = (!directory.is_empty()).then(|| directory.into());
        let request = StartRequest { program, environment, directory };
        let start = ClientMessage::Start(Box::new(request));
        let starting =
            Outgoing { message: to_bytes(&start), descriptors: vec![far, stdin, stdout, stderr] };
        let (orders, waiting) = mpsc::unbounded_channel();
        let (tell, progress) = watch::channel(Progress::default());
        let listener = Listener { name: name.to_owned(), socket: near, ask, tell };
        // It ends, and with it the program, when the session is dropped.
        tokio::spawn(listener.listen(waiting));
        Ok((SharedSession { orders, progress }, starting))
    }

    /// Gives an order. A program that has ended gets none.
    fn order(&self, message: ClientMessage) {
        let _ = self.orders.send(message);
    }

    pub(crate) fn signal(&self, number: u8) {
        self.order(ClientMessage::Signal(number));
    }

    /// Lets the program run on when this is dropped.
    pub(crate) fn detach(&self) {
        self.order(ClientMessage::Detach);
    }

    /// Cuts standard input before it is closed.
    pub(crate) fn cutter(&self) -> InputCutter {
        InputCutter(self.orders.downgrade())
    }

    /// Tells the end of an output from its loss.
    pub(crate) fn end_of(&self, output: OutputName) -> EndOfOutput {
        EndOfOutput { output, progress: self.progress.clone() }
    }

    /// Waits for the end of the program. Cancel safe.
    pub(crate) async fn outcome(&mut self, name: &str) -> Result<ExitStatus, Error> {
        match self.progress.wait_for(|progress| progress.outcome.is_some()).await {
            Ok(progress) => progress.outcome.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| Err(master_has_ended(name)))
    }
}

/// Cuts the standard input of a program.
#[derive(Debug)]
pub(crate) struct InputCutter(mpsc::WeakUnboundedSender<ClientMessage>);

impl InputCutter {
    pub(crate) fn cut(&self) {
        if let Some(orders) = self.0.upgrade() {
            let _ = orders.send(ClientMessage::Abort);
        }
    }
}

/// Tells the end of an output from its loss.
#[derive(Clone, Debug)]
pub(crate) struct EndOfOutput {
    output: OutputName,
    progress: watch::Receiver<Progress>,
}

impl EndOfOutput {
    /// Whether the end of the pipe that was just found is that of the output. Cancel safe.
    pub(crate) async fn whole(mut self) -> bool {
        let output = self.output as usize;
        let is_known = |progress: &Progress| progress.whole[output] || progress.outcome.is_some();
        self.progress.wait_for(is_known).await.is_ok_and(|progress| progress.whole[output])
    }
}

/// Speaks with the master about one program.
struct Listener {
    name: String,
    socket: Socket,
    ask: Arc<dyn Ask>,
    tell: watch::Sender<Progress>,
}

impl Listener {
    /// Passes orders on and takes note of what the master says, until the program has ended or its
    /// session is dropped.
    async fn listen(self, mut orders: mpsc::UnboundedReceiver<ClientMessage>) {
        loop {
            let reply = tokio::select! {
                biased;
                order = orders.recv() => match order {
                    // A master that is gone is noticed by the next receive.
                    Some(order) => {
                        let _ = self.socket.send(&to_bytes(&order), &[]).await;
                        continue;
                    }
                    None => return,
                },
                reply = received(&self.socket) => reply,
            };
            let outcome = match reply {
                Ok(Reply::Ask { kind, text, hop }) => {
                    if self.ask(Reply::question(&kind, text, hop), &mut orders).await {
                        continue;
                    }
                    return;
                }
                Ok(Reply::Notice(notice)) => {
                    self.ask.notice(notice).await;
                    continue;
                }
                Ok(Reply::Whole(output)) => {
                    self.tell.send_modify(|progress| progress.whole[output as usize] = true);
                    continue;
                }
                Ok(Reply::Done(value)) => match serde_json::from_value::<ProgramEnd>(value) {
                    Ok(end) => Ok(end.into()),
                    Err(error) => Err(Error::lost(&self.name, &error)),
                },
                Ok(Reply::Failed(failure) | Reply::Lost(failure)) => {
                    Err(Error::of_failure(&self.name, failure))
                }
                Ok(Reply::Ending) | Err(_) => Err(master_has_ended(&self.name)),
            };
            self.tell.send_modify(|progress| progress.outcome = Some(outcome));
            return;
        }
    }

    /// Asks, and passes orders on meanwhile. Says whether the session is still there.
    async fn ask(
        &self,
        question: Question,
        orders: &mut mpsc::UnboundedReceiver<ClientMessage>,
    ) -> bool {
        let mut answer = std::pin::pin!(self.ask.ask(question));
        loop {
            tokio::select! {
                answer = &mut answer => {
                    let _ = self.socket.send(&encode_answer(answer.as_ref()), &[]).await;
                    return true;
                }
                order = orders.recv() => match order {
                    Some(order) => drop(self.socket.send(&to_bytes(&order), &[]).await),
                    None => return false,
                },
            }
        }
    }
}
