//! Moves bytes between descriptors that are not ours and handles of a link.
//!
//! `O_NONBLOCK` belongs to the open file description, which the tool and the user's shell share.
//! So it is never set on what we were given: pipes and terminals are opened anew through
//! `/proc/self/fd`, sockets are used with `MSG_DONTWAIT`, and everything that can't be waited for
//! is read and written on the blocking pool.

mod descriptor;
mod sink;
mod source;

pub use sink::Sink;
pub use source::Source;

use std::io;

use bytes::Bytes;

use crate::link::{Chunk, Receiver, Sender};

/// Most bytes that are read from a descriptor in one piece. Together with a frame's header it
/// fills two of sshd's packets.
const PIECE: usize = fakessh_protocol::wire::MAX_DATA - fakessh_protocol::wire::HEADER_LEN;

/// Reads a descriptor to its end and sends what it gives; the end is sent, too.
///
/// Stops early where the program wants no more; the descriptor is closed then, so that whoever
/// writes to it learns of it. Where reading fails the stream is cut. Cancelled, it cuts the stream.
pub(crate) async fn send(source: io::Result<Source>, sender: Sender) {
    let Ok(mut source) = source else { return };
    loop {
        if sender.ready().await.is_err() {
            return;
        }
        let piece = tokio::select! {
            biased;
            piece = source.read(PIECE) => piece,
            () = sender.stopped() => return,
        };
        match piece {
            Ok(piece) if piece.is_empty() => return sender.finish(),
            Ok(piece) => {
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "reading standard input failed");
                return;
            }
        }
    }
}

/// Writes what a handle gives to a descriptor, and closes it at the end.
///
/// Where the descriptor's reader is gone, the program is told to stop, and gets SIGPIPE or EPIPE
/// as it would without us. Says whether the stream was complete as far as it was wanted.
/// Cancelled, it tells the program to stop.
pub(crate) async fn receive(mut receiver: Receiver, sink: io::Result<Sink>) -> bool {
    let Ok(mut sink) = sink else { return true };
    loop {
        match receiver.receive().await {
            Chunk::Data(bytes) => {
                let len = bytes.len();
                if let Err(error) = write(&mut sink, bytes).await {
                    tracing::debug!(%error, "writing output failed");
                    return true;
                }
                receiver.consumed(len);
            }
            Chunk::End => return true,
            Chunk::Cut => return false,
        }
    }
}

async fn write(sink: &mut Sink, mut bytes: Bytes) -> io::Result<()> {
    while !bytes.is_empty() {
        sink.write(&mut bytes).await?;
    }
    Ok(())
}
