//! The refusals of one run: so many are noted, and the rest is counted. A tool that has itself
//! refused again and again would else push everything older out of the logs.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Audit, Event};

/// Most refusals of one run that are noted. More than any tool has to do with that works, and a
/// hundredth of what the logs hold.
const MOST_NOTED: u64 = 200;

/// What is noted of a run's refusals. Dropped, it notes how many were not.
#[derive(Debug)]
pub(crate) struct Refusals {
    audit: Audit,
    seen: AtomicU64,
}

impl Refusals {
    pub(crate) fn new(audit: Audit) -> Refusals {
        Refusals { audit, seen: AtomicU64::new(0) }
    }

    /// Notes one in the audit log, if it still is to be noted.
    pub(crate) fn note(&self, refused: &Event) {
        if self.is_noted() {
            self.audit.note(refused);
        }
    }

    /// Counts one, and says whether it is to be noted.
    pub(crate) fn is_noted(&self) -> bool {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        if seen == MOST_NOTED {
            tracing::warn!("a run is refused again and again: the rest is counted only");
        }
        seen < MOST_NOTED
    }
}

impl Drop for Refusals {
    fn drop(&mut self) {
        let records = self.seen.get_mut().saturating_sub(MOST_NOTED);
        if records > 0 {
            self.audit.note(&Event::Dropped { records });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Settings;

    #[tokio::test]
    async fn what_is_refused_without_end_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.jsonl");
        let (audit, writing) =
            Audit::start(&Settings { file: Some(file.clone()), ..Settings::default() });
        let refusals = Refusals::new(audit.clone());
        for _ in 0..MOST_NOTED + 30 {
            refusals.note(&Event::Refused { what: "x".into(), why: "y".into(), by: None });
        }
        drop((refusals, writing, audit));
        let text = std::fs::read_to_string(&file).unwrap();
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len() as u64, MOST_NOTED + 1);
        let last = events.last().unwrap();
        assert_eq!((&last["event"], &last["records"]), (&"dropped".into(), &30.into()));
    }
}
