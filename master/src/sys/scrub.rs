//! An allocator that wipes what is freed while a secret is about.
//!
//! Our own copies of passwords are zeroed when they are dropped. The SSH library copies them into
//! packets and frees those as they are, and the allocator keeps what is freed. So during a login
//! everything small is wiped when it is freed. At other times nothing is, and nothing is slower.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Largest piece that is wiped, in bytes. No packet with a password is longer; bulk that flows
/// during another host's login is.
const MAX_WIPED: usize = 32 * 1024;

/// How many [`SecretAbout`] there are.
static SECRETS: AtomicUsize = AtomicUsize::new(0);

/// While one of these lives, what is freed is wiped, in programs that have the
/// [`ScrubbingAllocator`].
#[derive(Debug)]
pub(crate) struct SecretAbout(());

impl SecretAbout {
    pub(crate) fn new() -> SecretAbout {
        SECRETS.fetch_add(1, Ordering::Relaxed);
        SecretAbout(())
    }
}

impl Drop for SecretAbout {
    fn drop(&mut self) {
        SECRETS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The system's allocator, for programs that log in by this library: memory that the SSH library
/// frees during a login is wiped. It is used as any other:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: fakessh::ScrubbingAllocator = fakessh::ScrubbingAllocator;
/// # fn main() {}
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ScrubbingAllocator;

fn is_wiped(size: usize) -> bool {
    size <= MAX_WIPED && SECRETS.load(Ordering::Relaxed) != 0
}

// SAFETY: every piece comes from the system's allocator and goes back to it with the layout that
// it was made with; what is done besides allocates nothing and does not unwind.
unsafe impl GlobalAlloc for ScrubbingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if is_wiped(layout.size()) {
            // SAFETY: the piece has so many bytes, and nobody uses them any more. Unlike other
            // writes before a free this one is not left out by the compiler.
            unsafe { libc::explicit_bzero(piece.cast(), layout.size()) };
        }
        // SAFETY: the caller keeps the contract of `dealloc`; see `alloc`.
        unsafe { System.dealloc(piece, layout) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_wiped(layout.size()) {
            // SAFETY: the caller keeps the contract of `realloc`; see `alloc`.
            return unsafe { System.realloc(piece, layout, size) };
        }
        // The system would free the old place as it is.
        // SAFETY: the caller of `realloc` guarantees that the size is not 0 and, rounded up to the
        // alignment, no more than `isize::MAX`.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the size is not 0. Both places are as long as what is copied, and are two. The
        // old one is given back with its own layout, and only if there is a new one.
        unsafe {
            let moved = System.alloc(wanted);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(piece, layout.size().min(size));
                self.dealloc(piece, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILL: u8 = 0xa5;

    /// A piece that grows keeps its bytes.
    fn grow(size: usize) {
        let layout = Layout::from_size_align(size, 8).unwrap();
        let grown = Layout::from_size_align(2 * size, 8).unwrap();
        // SAFETY: the layouts are not empty, and the piece is given back once, as it is then.
        unsafe {
            let piece = ScrubbingAllocator.alloc(layout);
            piece.write_bytes(FILL, size);
            let piece = ScrubbingAllocator.realloc(piece, layout, grown.size());
            assert!(std::slice::from_raw_parts(piece, size).iter().all(|byte| *byte == FILL));
            ScrubbingAllocator.dealloc(piece, grown);
        }
    }

    #[test]
    fn what_is_small_is_wiped_as_long_as_a_secret_is_about() {
        let first = SecretAbout::new();
        let second = SecretAbout::new();
        drop(first);
        assert!(is_wiped(100) && !is_wiped(MAX_WIPED + 1));
        grow(100);
        grow(MAX_WIPED + 1);
        drop(second);
        grow(100);
    }
}
