//! Work on a descriptor that can keep its thread waiting for as long as somebody likes: a file of a
//! file system that does not answer, a device, a socket with `SO_LINGER` that is closed.

use std::io;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Most threads that descriptors of tools occupy at a time: half of tokio's blocking pool. The other
/// half is left for the master's own files, so that no tool holds up another one's login.
pub(super) const MOST: usize = 256;

static FREE: Semaphore = Semaphore::const_new(MOST);

/// Does the work on the blocking pool. Cancelled, the work goes on if it has begun.
///
/// # Errors
/// Where the work panics, or the runtime ends.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let free = FREE.acquire().await.map_err(io::Error::other)?;
    let done = spawn_blocking(move || {
        let done = work();
        drop(free);
        done
    });
    done.await.map_err(io::Error::other)
}

/// What may take as long as somebody likes to be dropped. Dropped itself, it has that done on the
/// blocking pool, and waits for nothing.
#[derive(Debug)]
pub(crate) struct Aside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Aside<T> {
    pub(crate) fn new(inner: T) -> Aside<T> {
        Aside(Some(inner))
    }

    /// Waits until it is dropped. Cancelled, it is dropped all the same.
    pub(crate) async fn dropped(mut self) {
        if let Some(inner) = self.0.take() {
            let _ = blocking(move || drop(inner)).await;
        }
    }
}

impl<T: Send + 'static> Drop for Aside<T> {
    fn drop(&mut self) {
        if let (Some(inner), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(blocking(move || drop(inner)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn descriptors_that_never_answer_leave_threads_for_others() {
        let (release, stuck) = std::sync::mpsc::channel::<()>();
        let stuck = std::sync::Arc::new(std::sync::Mutex::new(stuck));
        let waiting: Vec<_> = (0..2 * MOST)
            .map(|_| {
                let stuck = stuck.clone();
                // All of them wait for the one that holds the lock, and that one for us.
                tokio::spawn(blocking(move || stuck.lock().map(|stuck| stuck.recv()).is_ok()))
            })
            .collect();
        tokio::task::yield_now().await;
        let other = tokio::time::timeout(std::time::Duration::from_secs(60), spawn_blocking(|| ()));
        other.await.expect("it hangs").unwrap();
        drop(release);
        for one in waiting {
            assert!(one.await.unwrap().unwrap());
        }
    }
}
