//! The login's idle timeout: it stands still while a person is asked something.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fakessh_protocol::message::{Notice, Question, QuestionKind, Secret};

use crate::caller::{Ask, Caller};

/// How long the other end may be silent. People may take as long as they like.
pub(crate) struct IdleTimeout {
    limit: Duration,
    asking: AtomicBool,
    answers: AtomicU64,
    /// What was typed in secret. Wiped with this.
    secrets: Mutex<Vec<Secret>>,
}

/// Secrets of fewer characters are not looked for in texts: they would be found in any word.
const SHORTEST_HIDDEN: usize = 4;

/// What stands in the place of a secret.
const HIDDEN: &str = "[hidden]";

impl IdleTimeout {
    pub(crate) fn new(limit: Duration) -> Arc<IdleTimeout> {
        let (asking, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        Arc::new(IdleTimeout { limit, asking, answers, secrets: Mutex::default() })
    }

    /// Whether a person was asked something.
    pub(crate) fn has_asked(&self) -> bool {
        self.answers.load(Ordering::Relaxed) > 0
    }

    /// A text of the other end, without the secrets that were typed for it: it goes to screens and
    /// logs. An end that means to show a secret can write it otherwise; most only repeat it.
    pub(crate) fn without_secrets(&self, text: &str) -> String {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let secrets = secrets.iter().filter(|secret| secret.0.chars().count() >= SHORTEST_HIDDEN);
        secrets.fold(text.to_owned(), |text, secret| text.replace(&secret.0, HIDDEN))
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Waits for `work`; `None` if the limit passed and nobody was asked meanwhile. Cancel safe if
    /// `work` is.
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

    /// The same caller; while it answers a question, this timeout stands still.
    pub(crate) fn caller(self: &Arc<IdleTimeout>, caller: &Caller) -> Caller {
        let ask = Arc::new(PausingAsk { inner: caller.ask.clone(), idle_timeout: self.clone() });
        Caller { ask, ..caller.clone() }
    }
}

struct PausingAsk {
    inner: Arc<dyn Ask>,
    idle_timeout: Arc<IdleTimeout>,
}

#[async_trait]
impl Ask for PausingAsk {
    async fn ask(&self, question: Question) -> Option<Secret> {
        /// Ends the pause, also if the question is dropped.
        struct Asking<'a>(&'a IdleTimeout);
        impl Drop for Asking<'_> {
            fn drop(&mut self) {
                self.0.answers.fetch_add(1, Ordering::Relaxed);
                self.0.asking.store(false, Ordering::Relaxed);
            }
        }
        self.idle_timeout.asking.store(true, Ordering::Relaxed);
        let _asking = Asking(&self.idle_timeout);
        let is_secret = question.kind == QuestionKind::Secret;
        let answer = self.inner.ask(question).await;
        if let Some(answer) = answer.as_ref().filter(|_| is_secret) {
            let mut secrets =
                self.idle_timeout.secrets.lock().unwrap_or_else(PoisonError::into_inner);
            secrets.push(answer.clone());
        }
        answer
    }

    fn may_answer(&self) -> bool {
        self.inner.may_answer()
    }

    fn who(&self) -> Option<crate::audit::Who> {
        self.inner.who()
    }

    fn details(&self) -> Option<crate::caller::Details> {
        self.inner.details()
    }

    async fn notice(&self, notice: Notice) {
        let text = self.idle_timeout.without_secrets(&notice.text);
        self.inner.notice(Notice { text, ..notice }).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

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

    async fn ask(idle_timeout: &Arc<IdleTimeout>) -> Option<Secret> {
        let caller = Caller { environment: Vec::new(), directory: "/".into(), ask: Arc::new(Slow) };
        let question = Question { kind: QuestionKind::Confirm, text: "well?".into(), hop: None };
        idle_timeout.caller(&caller).ask.ask(question).await
    }

    #[tokio::test]
    async fn the_limit_stands_still_while_a_person_is_asked() {
        let idle_timeout = IdleTimeout::new(LIMIT);
        assert_eq!(idle_timeout.wait(ask(&idle_timeout)).await, Some(Some(Secret("yes".into()))));
    }

    #[tokio::test]
    async fn a_secret_that_was_typed_is_taken_out_of_texts() {
        struct Typed;
        #[async_trait]
        impl Ask for Typed {
            async fn ask(&self, _: Question) -> Option<Secret> {
                Some(Secret("tr0ub4dor".into()))
            }
        }
        let idle_timeout = IdleTimeout::new(LIMIT);
        let caller =
            Caller { environment: Vec::new(), directory: "/".into(), ask: Arc::new(Typed) };
        let text = "you typed tr0ub4dor, wrong";
        assert_eq!(idle_timeout.without_secrets(text), text);
        idle_timeout.caller(&caller).ask.ask(Question::secret("?")).await;
        assert_eq!(idle_timeout.without_secrets(text), "you typed [hidden], wrong");
    }

    #[tokio::test]
    async fn silence_is_its_end_and_the_time_behind_an_answer_is_a_whole_one() {
        let idle_timeout = IdleTimeout::new(LIMIT);
        assert_eq!(idle_timeout.wait(pending::<()>()).await, None);
        let answered = std::cell::Cell::new(None);
        let work = async {
            ask(&idle_timeout).await;
            answered.set(Some(Instant::now()));
            pending::<()>().await
        };
        assert_eq!(idle_timeout.wait(work).await, None);
        assert!(answered.get().expect("it is answered").elapsed() >= LIMIT);
    }
}
