//! Words of a host or of a helper on their way to the person: each line says whose they are, and
//! there is an end to them.

use std::sync::{Mutex, PoisonError};

use fakessh_protocol::message::Notice;
use fakessh_protocol::printable;

use crate::caller::Ask;

/// Most lines that one speaker is heard with: two banners of lawyers. What is shown takes the
/// person's attention and pushes away what stood on the terminal before.
const MOST_LINES: usize = 100;

/// Most characters that one speaker is heard with, as if all those lines were full rows of a usual
/// terminal and twice that.
const MOST_CHARACTERS: usize = 16 * 1024;

/// Somebody else who has something to say while a context is made.
#[derive(Debug)]
pub(crate) struct Speaker {
    name: String,
    left: Mutex<Left>,
}

/// What a speaker may still say.
#[derive(Debug)]
struct Left {
    lines: usize,
    characters: usize,
    /// Whether the person was told that there is more.
    is_over: bool,
}

impl Speaker {
    /// A speaker of this name: the host or the hop as the person wrote it.
    pub(crate) fn new(name: impl Into<String>) -> Speaker {
        let left = Left { lines: MOST_LINES, characters: MOST_CHARACTERS, is_over: false };
        Speaker { name: name.into(), left: Mutex::new(left) }
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Tells the person what is said. Of a speaker who does not stop, nothing more is told.
    pub(crate) async fn say(&self, text: &str, ask: &dyn Ask) {
        let Some((told, is_over)) = self.take(text) else { return };
        if !told.is_empty() {
            ask.notice(Notice::from(&*self.name, told)).await;
        }
        if is_over {
            let text = format!("{} says more, which is not shown", self.name);
            ask.notice(Notice::ours(text)).await;
        }
    }

    /// What may still be told of a text, and whether it is the last; `None` if there is nothing.
    fn take(&self, text: &str) -> Option<(String, bool)> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_over {
            return None;
        }
        let said = printable::said("", text);
        let mut told = Vec::new();
        for line in said.lines() {
            let len = line.chars().count();
            if left.lines == 0 || left.characters < len {
                left.is_over = true;
                break;
            }
            left.lines -= 1;
            left.characters -= len;
            told.push(line);
        }
        Some((told.join("\n"), left.is_over))
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
            let (speaker, person) = (Speaker::new("web1"), Person::default());
            for _ in 0..10_000 {
                speaker.say(text, &person).await;
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
