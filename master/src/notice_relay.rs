//! Shows the person what a host or a helper says: each line names the sender, and the number of
//! lines is limited.

use std::sync::{Arc, Mutex, PoisonError};

use fakessh_protocol::message::Notice;
use fakessh_protocol::printable;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::caller::Ask;
use crate::stream::Diagnostics;

/// Most lines that are shown of one sender: two long legal banners. What is shown takes the
/// person's attention and scrolls away what the terminal showed before.
const MOST_LINES: usize = 100;

/// Most characters that are shown of one sender: so many lines, each twice as long as a row of a
/// usual terminal.
const MOST_CHARACTERS: usize = 16 * 1024;

/// Most bytes of a line that a program's words are cut into.
const MAX_LINE: usize = 1024;

/// Shows what one sender says while a context is made: a host, or a helper.
#[derive(Debug)]
pub(crate) struct NoticeRelay {
    name: String,
    /// `None` after the person was told that there is more.
    left: Mutex<Option<Left>>,
}

/// What may still be shown of the sender.
#[derive(Debug)]
struct Left {
    lines: usize,
    characters: usize,
}

impl NoticeRelay {
    /// Makes the relay of a sender of this name: the host or the hop as the person wrote it.
    pub(crate) fn new(name: impl Into<String>) -> NoticeRelay {
        let left = Left { lines: MOST_LINES, characters: MOST_CHARACTERS };
        NoticeRelay { name: name.into(), left: Mutex::new(Some(left)) }
    }

    /// The sender's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Shows the person a text of the sender, as far as the limit allows.
    pub(crate) async fn show(&self, text: &str, ask: &dyn Ask) {
        let Some((shown, is_over)) = self.take(text) else { return };
        if !shown.is_empty() {
            ask.notice(Notice::from(&*self.name, shown)).await;
        }
        if is_over {
            let text = format!("{} says more, which is not shown", self.name);
            ask.notice(Notice::ours(text)).await;
        }
    }

    /// Shows what a program prints to its standard error, line by line as it comes, and keeps the
    /// end of it. It may be what the person has to do for a connection.
    pub(crate) async fn listen(
        &self,
        mut stderr: impl AsyncRead + Unpin,
        kept: &Diagnostics,
        ask: impl Fn() -> Option<Arc<dyn Ask>>,
    ) {
        let mut line = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            kept.add(&buffer[..count]);
            for &byte in &buffer[..count] {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() < MAX_LINE {
                        continue;
                    }
                }
                let text = String::from_utf8_lossy(&line).into_owned();
                line.clear();
                if let Some(ask) = ask() {
                    self.show(&text, &*ask).await;
                }
            }
        }
    }

    /// Takes the lines of a text that may still be shown, and says whether the limit is reached;
    /// `None` if it was reached before.
    fn take(&self, text: &str) -> Option<(String, bool)> {
        let mut guard = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = guard.as_mut()?;
        let said = printable::said("", text);
        let mut shown = Vec::new();
        for line in said.lines() {
            let len = line.chars().count();
            if left.lines == 0 || left.characters < len {
                *guard = None;
                break;
            }
            left.lines -= 1;
            left.characters -= len;
            shown.push(line);
        }
        Some((shown.join("\n"), guard.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use fakessh_protocol::message::{Question, Secret};

    use super::*;

    #[derive(Default)]
    struct Person(Mutex<Vec<String>>);

    #[async_trait]
    impl Ask for Person {
        async fn ask(&self, _: Question) -> Option<Secret> {
            None
        }

        async fn notice(&self, notice: Notice) {
            self.0.lock().unwrap().push(notice.to_string());
        }
    }

    #[tokio::test]
    async fn one_that_does_not_stop_is_heard_for_a_while() {
        for text in ["go away\n", "\x1b]52;c;aGk=\x07", &"x".repeat(500), &"a\n".repeat(50_000)] {
            let (relay, person) = (NoticeRelay::new("web1"), Person::default());
            for _ in 0..10_000 {
                relay.show(text, &person).await;
            }
            let told = person.0.into_inner().unwrap();
            let lines: Vec<&str> = told.iter().flat_map(|text| text.lines()).collect();
            assert!(lines.len() <= MOST_LINES + 1, "{}", lines.len());
            let (last, others) = lines.split_last().unwrap();
            assert_eq!(*last, "fakessh: web1 says more, which is not shown");
            assert!(others.iter().all(|line| line.starts_with("web1 says: ")), "{others:?}");
        }
    }
}
