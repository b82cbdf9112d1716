//! Moves bytes between descriptors that are not ours and handles of a link.
//!
//! `O_NONBLOCK` belongs to the open file description, which the tool and the user's shell share.
//! So it is never set on what we were given: pipes and terminals are opened anew through
//! `/proc/self/fd`, sockets are used with `MSG_DONTWAIT`, what belongs to another user and can't
//! be opened is waited for and then used without blocking, and what can't be waited for is read
//! and written at once or on the blocking pool. A pipe that blocks never holds a thread.

mod blocking;
mod descriptor;
mod file;
mod foreign;
mod gathered;
mod shared;
mod sink;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use blocking::{Aside, blocking};
pub(crate) use foreign::Foreign;
pub use gathered::Gathered;
pub use sink::Sink;
pub use source::Source;

use std::io;

use bytes::Buf;
use fakessh_protocol::wire::MAX_DATA;

use tokio::sync::watch;

use crate::link::{Chunk, Receiver, Sender};

/// How the sending of a descriptor came to its end.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Its end was read, and sent.
    Whole,
    /// The program wants no more.
    Unwanted,
    /// The session is over.
    Over,
    /// It can't be read any more; the stream is cut.
    Failed(io::Error),
}

/// How the writing to a descriptor came to its end.
#[derive(Debug)]
pub(crate) enum Received {
    /// All that the program said was written.
    Whole,
    /// The descriptor's reader left: it wanted no more, as a pipe's reader may.
    Unwanted,
    /// The stream was cut: bytes are missing.
    Cut,
    /// Some of it could not be written.
    Failed(io::Error),
}

/// Where an invoker's input comes from.
#[derive(Debug)]
pub(crate) enum Input {
    /// A descriptor that a local shim handed over, where it can be read.
    Descriptor(io::Result<Source>),
    /// A handle of a slave whose tool called `ssh`.
    Handle(Receiver),
    /// Nowhere any more.
    Closed,
}

/// Where a program's output goes.
#[derive(Debug)]
pub(crate) enum Output {
    /// A descriptor that a local shim handed over, where it can be written.
    Descriptor(io::Result<Sink>),
    /// A handle of a slave whose tool called `ssh`.
    Handle(Sender),
    /// Nowhere any more.
    Closed,
}

/// Sends an invoker's input to its end; the end is sent, too.
///
/// The input is closed at its end, and where the program wants no more, so that whoever writes to
/// it learns of that. At any other end, and where this is cancelled, it stays open: a tool that can
/// write no more may end its `ssh` before that has said why. It reads ahead of the program, so a descriptor that can't be read (a
/// directory, a broken file) fails also where the program would never have looked at it: a failure
/// that was taken for the end would leave a truncated copy that counts as complete. Cancelled, it
/// cuts the stream.
pub(crate) async fn send(input: &mut Input, sender: Sender) -> Sent {
    let sent = match input {
        Input::Descriptor(Ok(source)) => send_source(source, sender).await,
        Input::Descriptor(Err(error)) => Sent::Failed(std::mem::replace(error, closed())),
        Input::Handle(receiver) => match pass(receiver, &sender).await {
            Received::Whole => {
                sender.finish();
                Sent::Whole
            }
            Received::Unwanted => stopped(&sender),
            Received::Cut => Sent::Failed(io::ErrorKind::UnexpectedEof.into()),
            Received::Failed(error) => Sent::Failed(error),
        },
        Input::Closed => Sent::Failed(closed()),
    };
    if let Sent::Whole | Sent::Unwanted = sent {
        *input = Input::Closed;
    }
    sent
}

/// What a descriptor that is closed already would say.
fn closed() -> io::Error {
    rustix::io::Errno::BADF.into()
}

/// How it ends that no more may be sent.
fn stopped(sender: &Sender) -> Sent {
    if sender.is_over() { Sent::Over } else { Sent::Unwanted }
}

async fn send_source(source: &mut Source, sender: Sender) -> Sent {
    loop {
        if sender.ready().await.is_err() {
            return stopped(&sender);
        }
        let piece = tokio::select! {
            biased;
            piece = source.read_piece(MAX_DATA) => piece,
            () = sender.stopped() => return stopped(&sender),
        };
        match piece {
            Ok(piece) if piece.len() == 0 => {
                sender.finish();
                return Sent::Whole;
            }
            Ok(piece) => {
                if sender.send_piece(piece).await.is_err() {
                    return stopped(&sender);
                }
            }
            Err(error) => return Sent::Failed(error),
        }
    }
}

/// Writes what a handle gives to an output. The output stays open: the caller closes it
/// ([`Output::close`]) if the end is a good one, or its reader is gone.
///
/// Where the output's reader is gone, or writing fails, the program is told to stop, and gets
/// SIGPIPE or EPIPE as it would without us. A descriptor that can't be written counts as failed
/// only when there is something to write. Cancelled, it tells the program to stop.
pub(crate) async fn receive(receiver: Receiver, output: &mut Output) -> Received {
    receive_while(receiver, output, watch::Sender::new(true).subscribe()).await
}

/// As [`receive`]. A descriptor is written only while `shows` is true, or nobody is left to change it.
pub(crate) async fn receive_while(
    mut receiver: Receiver,
    output: &mut Output,
    shows: watch::Receiver<bool>,
) -> Received {
    match output {
        Output::Descriptor(Ok(sink)) => receive_into(receiver, sink, shows).await,
        Output::Handle(sender) => pass(&mut receiver, sender).await,
        Output::Descriptor(Err(error)) if !reader_left(error) => match receiver.receive().await {
            Chunk::Data(_) => Received::Failed(std::mem::replace(error, closed())),
            Chunk::End => Received::Whole,
            Chunk::Cut => Received::Cut,
        },
        Output::Descriptor(Err(_)) | Output::Closed => Received::Unwanted,
    }
}

impl Output {
    /// Closes the output at a good end, or if its reader is gone. At any other end it stays open: its
    /// reader would take the end for a good one.
    pub(crate) fn close(&mut self, received: &Received) {
        if let Received::Whole | Received::Unwanted = received
            && let Output::Handle(sender) = std::mem::replace(self, Output::Closed)
            && let Received::Whole = received
        {
            sender.finish();
        }
    }
}

async fn receive_into(
    mut receiver: Receiver,
    sink: &mut Sink,
    mut shows: watch::Receiver<bool>,
) -> Received {
    loop {
        match receiver.receive().await {
            Chunk::Data(bytes) => {
                let mut gathered = Gathered::from(bytes);
                while !gathered.is_full()
                    && let Some(bytes) = receiver.more()
                {
                    gathered.push(bytes);
                }
                let len = gathered.remaining();
                let _ = shows.wait_for(|shows| *shows).await;
                match sink.write_all(gathered).await {
                    Ok(()) => receiver.consumed(len),
                    Err(error) if reader_left(&error) => return Received::Unwanted,
                    Err(error) => return Received::Failed(error),
                }
            }
            Chunk::End => return Received::Whole,
            Chunk::Cut => return Received::Cut,
        }
    }
}

/// Joins two handles, perhaps of two links: what one gives the other sends. The end is left to the
/// caller.
///
/// Bytes count as consumed when the other link has taken them, so that each holds no more than its
/// credit.
async fn pass(receiver: &mut Receiver, sender: &Sender) -> Received {
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = receiver.receive() => chunk,
            () = sender.stopped() => return Received::Unwanted,
        };
        match chunk {
            Chunk::Data(bytes) => {
                let len = bytes.len();
                if sender.send(bytes).await.is_err() {
                    return Received::Unwanted;
                }
                receiver.consumed(len);
            }
            Chunk::End => return Received::Whole,
            Chunk::Cut => return Received::Cut,
        }
    }
}

/// Whether writing failed because nobody reads.
fn reader_left(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
