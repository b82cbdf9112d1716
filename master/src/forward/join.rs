//! Joins a socket here to a connection at the other end of a context.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_protocol::message::ToShim;
use fakessh_protocol::report::Report;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{Shutdown, shutdown};

use super::socks::Client;
use crate::child::ChildStderr;
use crate::context::SessionCount;
use crate::link::{
    Chunk, Control, Incoming, IncomingEnd, Receiver, ReverseShim, Sender, SessionIo,
};
use crate::pump::{self, Foreign, Gathered, Input, Output, Received, Sent, Sink, Source};
use crate::report_reader::{ReportReader, UNORDERED};

/// A socket here.
pub(super) struct LocalEnd {
    /// For what is no reading and no writing.
    socket: Foreign,
    source: Source,
    sink: Sink,
}

impl LocalEnd {
    pub(super) fn new(socket: Foreign) -> Result<LocalEnd, Failure> {
        let new = || -> std::io::Result<LocalEnd> {
            let source = Source::take(&mut Some(socket.try_clone()?))?;
            let sink = Sink::take(&mut Some(socket.try_clone()?))?;
            Ok(LocalEnd { source, sink, socket })
        };
        new().map_err(|error| Failure::other(error.to_string()))
    }

    /// Sends a request that is behind its length, and reads an answer of that form, which is thrown
    /// away.
    ///
    /// # Errors
    /// That there is no answer, or one of more than so many bytes.
    pub(super) async fn ask(&mut self, request: &[u8], most: usize) -> Result<(), Failure> {
        let len = u32::try_from(request.len()).map_err(|_| cut("the request is too long"))?;
        let bytes = [&len.to_be_bytes()[..], request].concat();
        let sent = self.sink.write_all(Gathered::from(Bytes::from(bytes))).await;
        sent.map_err(|error| cut(&error.to_string()))?;
        let mut answer = self.exactly(4).await?;
        let len = answer.get_u32() as usize;
        if len > most {
            return Err(cut("the answer is too long"));
        }
        self.exactly(len).await.map(drop)
    }

    /// Reads so many bytes.
    async fn exactly(&mut self, len: usize) -> Result<BytesMut, Failure> {
        let mut bytes = BytesMut::with_capacity(len);
        while bytes.len() < len {
            match self.source.read(len - bytes.len()).await {
                Ok(more) if more.is_empty() => return Err(cut("it has ended")),
                Ok(more) => bytes.extend_from_slice(&more),
                Err(error) => return Err(cut(&error.to_string())),
            }
        }
        Ok(bytes)
    }

    /// Moves bytes both ways until both directions have ended. An end is passed on as soon as it
    /// comes. If bytes are missing from one side, the other side's connection is reset.
    ///
    /// # Errors
    /// Why bytes are missing.
    pub(super) async fn join(self, far: FarEnd) -> Result<(), Failure> {
        let LocalEnd { socket, source, sink } = self;
        let FarEnd { sender, receiver, mut peer, rest, _running } = far;
        // Until there is a good end, closing the socket is a reset, also if we are killed: whoever
        // reads there must not take what it got for the whole.
        let _ = set_socket_linger(&socket, Some(Duration::ZERO));
        let (mut input, mut output) = (Input::Descriptor(Ok(source)), Output::Descriptor(Ok(sink)));
        let up = async {
            match pump::send(&mut input, sender).await {
                Sent::Failed(error) => Err(cut(&error.to_string())),
                Sent::Whole | Sent::Unwanted | Sent::Over => Ok(()),
            }
        };
        let down = async {
            if !rest.is_empty() && !write(&mut output, rest).await {
                return Ok(());
            }
            match pump::receive(receiver, &mut output).await {
                Received::Whole => {
                    peer.ended().await?;
                    let _ = shutdown(&socket, Shutdown::Write);
                    Ok(())
                }
                Received::Unwanted => Ok(()),
                Received::Cut => Err(peer.ended().await.err().unwrap_or_else(|| cut("it was cut"))),
                Received::Failed(error) => Err(cut(&error.to_string())),
            }
        };
        tokio::try_join!(up, down)?;
        peer.over().await;
        let _ = set_socket_linger(&socket, None);
        Ok(())
    }
}

fn cut(why: &str) -> Failure {
    Failure::new(FailureKind::ConnectionLost, why)
}

async fn write(output: &mut Output, bytes: Bytes) -> bool {
    let Output::Descriptor(Ok(sink)) = output else { return false };
    sink.write_all(Gathered::from(bytes)).await.is_ok()
}

impl Client for LocalEnd {
    async fn read(&mut self, most: usize) -> Option<Bytes> {
        let bytes = self.source.read(most).await.ok()?;
        (!bytes.is_empty()).then_some(bytes)
    }

    async fn write(&mut self, bytes: &'static [u8]) {
        let _ = self.sink.write_all(Gathered::from(Bytes::from_static(bytes))).await;
    }
}

/// A connection at the other end of a context.
pub(super) struct FarEnd {
    sender: Sender,
    receiver: Receiver,
    peer: Peer,
    /// Bytes of the peer that were received and are not yet written.
    rest: Bytes,
    _running: Option<SessionCount>,
}

/// What tells how the peer's bytes end, and is told that all is over.
enum Peer {
    Reported { control: Control, report: ReportReader },
    Slave(ReverseShim),
}

impl FarEnd {
    /// One that was opened there.
    pub(super) fn opened(io: SessionIo, running: SessionCount) -> FarEnd {
        let SessionIo { stdin, stdout, stderr, control } = io;
        let report = ReportReader::new(ChildStderr::of_link(stderr));
        let peer = Peer::Reported { control, report };
        FarEnd {
            sender: stdin,
            receiver: stdout,
            peer,
            rest: Bytes::new(),
            _running: Some(running),
        }
    }

    /// One that came in there.
    pub(super) fn incoming(incoming: Incoming) -> FarEnd {
        let Incoming { receiver, sender, end, .. } = incoming;
        let peer = match end {
            IncomingEnd::Slave(shim) => Peer::Slave(shim),
            IncomingEnd::Server { control, report } => {
                let report = ReportReader::new(ChildStderr::of_link(report));
                Peer::Reported { control, report }
            }
        };
        FarEnd { sender, receiver, peer, rest: Bytes::new(), _running: None }
    }

    /// Waits until a connection that is being opened is there.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) async fn connected(&mut self) -> Result<(), Failure> {
        let Peer::Reported { report, .. } = &mut self.peer else { return Ok(()) };
        match report.next().await {
            Some(Report::Connected) => Ok(()),
            Some(Report::Failed(failure)) => Err(failure),
            Some(Report::Reset(why) | Report::Cut(why)) => Err(cut(&why)),
            Some(Report::End) => Err(cut(UNORDERED)),
            None => Err(cut("the connection was lost")),
        }
    }
}

impl Client for FarEnd {
    async fn read(&mut self, most: usize) -> Option<Bytes> {
        while self.rest.is_empty() {
            match self.receiver.receive().await {
                Chunk::Data(bytes) => {
                    self.receiver.consumed(bytes.len());
                    self.rest = bytes;
                }
                Chunk::End | Chunk::Cut => return None,
            }
        }
        Some(self.rest.split_to(most.min(self.rest.len())))
    }

    async fn write(&mut self, bytes: &'static [u8]) {
        let _ = self.sender.send(Bytes::from_static(bytes)).await;
    }
}

impl Peer {
    /// The peer's bytes have ended.
    ///
    /// # Errors
    /// Why that is no good end.
    async fn ended(&mut self) -> Result<(), Failure> {
        let Peer::Reported { report, .. } = self else { return Ok(()) };
        loop {
            return match report.next().await {
                Some(Report::Connected) => continue,
                Some(Report::End) => Ok(()),
                Some(Report::Failed(failure)) => Err(failure),
                Some(Report::Reset(why) | Report::Cut(why)) => Err(cut(&why)),
                None => Err(cut("the connection was lost")),
            };
        }
    }

    /// Both directions have ended. What was sent to the peer may still be on its way.
    async fn over(self) {
        match self {
            Peer::Reported { mut control, .. } => drop(control.outcome().await),
            Peer::Slave(shim) => shim.send(ToShim::Exited(ExitStatus::Code(0))),
        }
    }
}
