//! What moves bytes between a program and descriptors of this process.

use std::panic::resume_unwind;

use tokio::task::JoinSet;

use crate::error::Error;

/// The pumps of one program. Dropped, they stop.
#[derive(Debug, Default)]
pub(crate) struct Pumps {
    running: JoinSet<Result<(), Error>>,
    /// Why the first of them failed.
    failed: Option<Error>,
}

impl Pumps {
    /// Starts one more. Must be called in a tokio runtime.
    pub(crate) fn spawn(&mut self, pump: impl Future<Output = Result<(), Error>> + Send + 'static) {
        self.running.spawn(pump);
    }

    /// Waits until all of them have ended. Cancel safe: the next call waits for the rest, and every
    /// call gives the same answer.
    ///
    /// # Errors
    /// Why the first of them failed.
    pub(crate) async fn end(&mut self) -> Result<(), Error> {
        while let Some(ended) = self.running.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => drop(self.failed.get_or_insert(error)),
                // Its bytes are lost, which nobody may take for a good end.
                Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                // The runtime ends, and this future with it.
                Err(_) => {}
            }
        }
        self.failed.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use tokio::sync::oneshot;

    use super::*;
    use crate::ErrorKind;

    #[tokio::test]
    async fn a_wait_that_was_given_up_loses_no_failure() {
        let mut pumps = Pumps::default();
        let (finish, finished) = oneshot::channel::<()>();
        pumps.spawn(async { Err(Error::output_cut("web1")) });
        pumps.spawn(async {
            let _ = finished.await;
            Ok(())
        });
        // The first has ended when the wait is given up.
        tokio::task::yield_now().await;
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(pumps.end()).poll(&mut context).is_pending());
        assert_eq!(pumps.running.len(), 1);
        finish.send(()).unwrap();
        for _ in 0..2 {
            assert_eq!(pumps.end().await.unwrap_err().kind(), ErrorKind::OutputCut);
        }
    }

    #[tokio::test]
    async fn pumps_that_have_moved_all_end_well() {
        let mut pumps = Pumps::default();
        assert!(pumps.end().await.is_ok());
        pumps.spawn(async { Ok(()) });
        pumps.spawn(async { Ok(()) });
        assert!(pumps.end().await.is_ok());
        assert!(pumps.running.is_empty());
    }

    #[tokio::test]
    #[should_panic(expected = "a mistake")]
    async fn a_mistake_of_a_pump_is_no_good_end() {
        let mut pumps = Pumps::default();
        pumps.spawn(async { panic!("a mistake") });
        let _ = pumps.end().await;
    }
}
