//! Moves bytes between descriptors that are not ours and handles of a link.
//!
//! `O_NONBLOCK` belongs to the open file description, which the tool and the user's shell share.
//! So it is never set on what we were given: pipes and terminals are opened anew through
//! `/proc/self/fd`, sockets are used with `MSG_DONTWAIT`, what belongs to another user and can't
//! be opened is waited for and then used without blocking, and what can't be waited for is read
//! and written at once or on the blocking pool. A pipe that blocks never holds a thread.

mod descriptor;
mod file;
mod shared;
mod sink;
mod source;
#[cfg(test)]
mod tests;

pub use sink::Sink;
pub use source::Source;

use std::io;

use bytes::Bytes;

use crate::link::{Chunk, Receiver, Sender};

/// Most bytes that are read from a descriptor in one piece. Together with a frame's header it
/// fills two of sshd's packets.
const PIECE: usize = fakessh_protocol::wire::MAX_DATA - fakessh_protocol::wire::HEADER_LEN;

/// How the sending of a descriptor came to its end.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Its end was read, and sent.
    Whole,
    /// The program wants no more.
    Unwanted,
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

/// Reads a descriptor to its end and sends what it gives; the end is sent, too.
///
/// Stops early where the program wants no more; the descriptor is closed then, so that whoever
/// writes to it learns of it. It reads ahead of the program, so a descriptor that can't be read
/// (a directory, a broken file) fails also where the program would never have looked at it: a
/// failure that was taken for the end would leave a truncated copy that counts as complete.
/// Cancelled, it cuts the stream.
pub(crate) async fn send(source: io::Result<Source>, sender: Sender) -> Sent {
    let mut source = match source {
        Ok(source) => source,
        Err(error) => return Sent::Failed(error),
    };
    loop {
        if sender.ready().await.is_err() {
            return Sent::Unwanted;
        }
        let piece = tokio::select! {
            biased;
            piece = source.read_piece(PIECE) => piece,
            () = sender.stopped() => return Sent::Unwanted,
        };
        match piece {
            Ok(piece) if piece.len() == 0 => {
                sender.finish();
                return Sent::Whole;
            }
            Ok(piece) => {
                if sender.send_piece(piece).await.is_err() {
                    return Sent::Unwanted;
                }
            }
            Err(error) => return Sent::Failed(error),
        }
    }
}

/// Writes what a handle gives to a descriptor, and closes it at the end.
///
/// Where the descriptor's reader is gone, or writing fails, the program is told to stop, and gets
/// SIGPIPE or EPIPE as it would without us. A descriptor that can't be written counts as failed
/// only when there is something to write. Cancelled, it tells the program to stop.
pub(crate) async fn receive(mut receiver: Receiver, sink: io::Result<Sink>) -> Received {
    let mut sink = match sink {
        Ok(sink) => sink,
        Err(error) if reader_left(&error) => return Received::Unwanted,
        Err(error) => {
            return match receiver.receive().await {
                Chunk::Data(_) => Received::Failed(error),
                Chunk::End => Received::Whole,
                Chunk::Cut => Received::Cut,
            };
        }
    };
    loop {
        match receiver.receive().await {
            Chunk::Data(bytes) => {
                let len = bytes.len();
                match write(&mut sink, bytes).await {
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

/// Whether writing failed because nobody reads.
fn reader_left(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

async fn write(sink: &mut Sink, mut bytes: Bytes) -> io::Result<()> {
    while !bytes.is_empty() {
        sink.write(&mut bytes).await?;
    }
    Ok(())
}
