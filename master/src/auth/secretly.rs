//! Work with secret keys that leaves nothing behind.

use std::hint::black_box;

use tokio::task::{JoinError, spawn_blocking};
use zeroize::Zeroize;

use crate::sys::scrub::SecretAbout;

/// Bytes of stack that are wiped. Reading an encrypted key and signing take less than a tenth, and
/// a thread of tokio has 2 MiB.
const WIPED: usize = 256 * 1024;

/// Does some work that has keys or passphrases on its stack. Values that are moved leave copies
/// there, and a thread of the pool keeps its stack as long as it lives.
///
/// What the work returns must hold its secrets on the heap, behind a type that wipes them.
///
/// # Errors
/// Where the work panics, or the runtime ends.
pub(super) async fn secretly<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let work = move || {
        let _secret = SecretAbout::new();
        let done = apart(work);
        wipe_stack();
        done
    };
    spawn_blocking(work).await
}

/// In a frame of its own, which lies where [`wipe_stack`] has its own then.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe_stack() {
    let mut stack = [0_u8; WIPED];
    stack.zeroize();
    black_box(&stack);
}
