//! The audit log: one line of JSON for each run, login, hop, session, refusal and end.
//!
//! Nobody waits for it: a line is put into a queue of bounded size, and a task writes what has come
//! together. What finds no room is counted, and the count is written.

mod event;
mod refusals;
mod settings;
mod time;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

pub use event::Who;
pub(crate) use event::{End, Event, ForwardEvent, LoggedCommand, SessionEvent};
pub(crate) use refusals::Refusals;
pub use settings::{Commands, Settings};
use writer::Writer;

/// Most bytes of lines that wait to be written: some ten thousand sessions.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// How long lines are gathered before they are written: a write costs more than a line.
const GATHERING: Duration = Duration::from_millis(50);

/// The audit log, or none. Clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Queue>>);

#[derive(Debug)]
struct Queue {
    commands: Commands,
    writer: Mutex<Writer>,
    waiting: Mutex<Waiting>,
    come: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: String,
    /// Lines that found no room since the last write.
    dropped: u64,
}

impl Audit {
    /// Begins a log by these settings, and what writes it: to be polled as long as the log is
    /// used. What waits when the last clone is dropped is written then. `None` where there is to be
    /// no log.
    pub(crate) fn start(settings: &Settings) -> (Audit, Option<impl Future<Output = ()> + use<>>) {
        let Some(path) = settings.path() else { return (Audit::default(), None) };
        let queue = Arc::new(Queue {
            commands: settings.commands,
            writer: Mutex::new(Writer::new(path)),
            waiting: Mutex::default(),
            come: Notify::new(),
        });
        (Audit(Some(queue.clone())), Some(write(queue)))
    }

    /// Notes what has happened: here, and (but for sessions, of which there are many) in the log.
    pub(crate) fn note(&self, event: &Event) {
        if let Some(line) = event.line() {
            tracing::info!("{line}");
        }
        let Some(queue) = &self.0 else { return };
        let record = event::record(event, SystemTime::now());
        let mut waiting = queue.lock();
        if waiting.lines.len() + record.len() > MAX_WAITING {
            waiting.dropped += 1;
            return;
        }
        waiting.lines += &record;
        drop(waiting);
        queue.come.notify_one();
    }

    /// Writes what waits. Blocks as a write does.
    pub(crate) fn flush(&self) {
        if let Some(queue) = &self.0 {
            queue.write();
        }
    }

    /// A command as it is to be noted.
    pub(crate) fn command(&self, command: &[u8]) -> LoggedCommand {
        let commands = self.0.as_ref().map_or(Commands::None, |queue| queue.commands);
        LoggedCommand::new(command, commands)
    }
}

impl Queue {
    /// What is to be written now.
    fn take(&self) -> String {
        let Waiting { mut lines, dropped } = std::mem::take(&mut *self.lock());
        if dropped > 0 {
            tracing::warn!(dropped, "the audit log lacks records: more came than can be written");
            lines += &event::record(&Event::Dropped { records: dropped }, SystemTime::now());
        }
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write(&self.take());
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.write();
    }
}

/// Writes what comes, for as long as it is polled.
async fn write(queue: Arc<Queue>) {
    loop {
        queue.come.notified().await;
        tokio::time::sleep(GATHERING).await;
        let writing = queue.clone();
        if tokio::task::spawn_blocking(move || writing.write()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_the_end_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deep/audit.jsonl");
        let settings = Settings { file: Some(file.clone()), ..Settings::default() };
        let (audit, writing) = Audit::start(&settings);
        let refused = |why: &str| Event::Refused { what: "x".into(), why: why.into(), by: None };
        audit.note(&refused("first"));
        for _ in 0..3 {
            audit.note(&refused(&"y".repeat(MAX_WAITING)));
        }
        drop((writing, audit));
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["event"], &lines[0]["why"]), (&"refused".into(), &"first".into()));
        assert_eq!((&lines[1]["event"], &lines[1]["records"]), (&"dropped".into(), &3.into()));
    }

    #[tokio::test]
    async fn no_log_where_none_is_wanted() {
        let settings = Settings { enabled: false, ..Settings::default() };
        let (audit, writing) = Audit::start(&settings);
        assert!(writing.is_none());
        audit.note(&Event::Dropped { records: 1 });
    }
}
