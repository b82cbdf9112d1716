//! A time limit that stands still while a person is asked something.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fakessh_protocol::message::{Notice, Question, Secret};

use crate::caller::{Ask, Caller};

/// How long the other end may be silent. People may take as long as they like.
pub(crate) struct Patience {
    limit: Duration,
    asking: AtomicBool,
    answers: AtomicU64,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Arc<Patience> {
        let (asking, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        Arc::new(Patience { limit, asking, answers })
    }

    /// Whether a person was asked something.
    pub(crate) fn has_asked(&self) -> bool {
        self.answers.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// `None` where the limit passed with nobody being asked in it. Cancel safe where `work` is.
    pub(crate) async fn wait<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let answers = self.answers.load(Ordering::Relaxed);
            if let Ok(done) = tokio::time::timeout(self.limit, work.as_mut()).await {
                return Some(done);
            }
            let answered = answers != self.answers.load(Ordering::Relaxed);
            if !answered && !self.asking.load(Ordering::Relaxed) {
                return None;
            }
        }
    }

    /// The same caller, whose answers may take as long as they like.
    pub(crate) fn caller(self: &Arc<Patience>, caller: &Caller) -> Caller {
        let ask = Arc::new(PatientAsk { inner: caller.ask.clone(), patience: self.clone() });
        Caller { ask, ..caller.clone() }
    }
}

struct PatientAsk {
    inner: Arc<dyn Ask>,
    patience: Arc<Patience>,
}

#[async_trait]
impl Ask for PatientAsk {
    async fn ask(&self, question: Question) -> Option<Secret> {
        /// Ends also where the question is dropped.
        struct Asking<'a>(&'a Patience);
        impl Drop for Asking<'_> {
            fn drop(&mut self) {
                self.0.answers.fetch_add(1, Ordering::Relaxed);
                self.0.asking.store(false, Ordering::Relaxed);
            }
        }
        self.patience.asking.store(true, Ordering::Relaxed);
        let _asking = Asking(&self.patience);
        self.inner.ask(question).await
    }

    fn may_answer(&self) -> bool {
        self.inner.may_answer()
    }

    fn who(&self) -> Option<crate::audit::Who> {
        self.inner.who()
    }

    async fn notice(&self, notice: Notice) {
        self.inner.notice(notice).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use fakessh_protocol::message::QuestionKind;
    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    /// Answers after several limits.
    struct Slow;

    #[async_trait]
    impl Ask for Slow {
        async fn ask(&self, _: Question) -> Option<Secret> {
            sleep(5 * LIMIT).await;
            Some(Secret("yes".into()))
        }
    }

    async fn ask(patience: &Arc<Patience>) -> Option<Secret> {
        let caller = Caller { environment: Vec::new(), directory: "/".into(), ask: Arc::new(Slow) };
        let question = Question { kind: QuestionKind::Confirm, text: "well?".into(), hop: None };
        patience.caller(&caller).ask.ask(question).await
    }

    #[tokio::test]
    async fn the_limit_stands_still_while_a_person_is_asked() {
        let patience = Patience::new(LIMIT);
        assert_eq!(patience.wait(ask(&patience)).await, Some(Some(Secret("yes".into()))));
    }

    #[tokio::test]
    async fn silence_is_its_end_and_the_time_behind_an_answer_is_a_whole_one() {
        let patience = Patience::new(LIMIT);
        assert_eq!(patience.wait(pending::<()>()).await, None);
        let answered = std::cell::Cell::new(None);
        let work = async {
            ask(&patience).await;
            answered.set(Some(Instant::now()));
            pending::<()>().await
        };
        assert_eq!(patience.wait(work).await, None);
        assert!(answered.get().expect("it is answered").elapsed() >= LIMIT);
    }
}
