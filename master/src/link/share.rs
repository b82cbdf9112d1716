//! What a link may take of the master's thread.

use fakessh_protocol::wire::HEADER_LEN;
use tokio::time::Instant;

use crate::allowance::Allowance;

/// Frames that a slave may send at once: those of a thousand short sessions. They take about a
/// millisecond.
const BURST: u64 = 8192;

/// Frames that a slave may send in a second for as long as it likes, which take some hundredths of
/// the thread. A thousand short commands have ten thousand, and bulk at a gigabyte a second has thirty
/// thousand.
const PER_SECOND: u64 = 100_000;

/// Frames that a message counts for: it is decoded.
const MESSAGE: u64 = 8;

/// Frames that a session counts for which is raised: it is served, or refused in four frames. A tool
/// may start some thousand in a second.
pub(super) const RAISE: u64 = 64;

/// Bytes of a message that take as long as a frame: they are copied and zeroed.
const MESSAGE_BYTES: usize = 64;

/// Frames that are taken in before others have their turn: a twentieth of a millisecond.
pub(super) const TURN: u64 = 512;

/// Bytes that are looked at at once for frames: as many as there can be in a turn.
pub(super) const TURN_BYTES: usize = TURN as usize * HEADER_LEN;

/// What a link has left.
pub(super) fn new() -> Allowance {
    Allowance::new(BURST, PER_SECOND, Instant::now())
}

/// For how many frames a message of so many bytes counts beside its own.
pub(super) fn of_message(len: usize) -> u64 {
    MESSAGE + (len / MESSAGE_BYTES) as u64
}
