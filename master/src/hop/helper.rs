//! A helper at work: its standard input and output become a stream, and what it prints on its
//! terminal is listened to until the far end has answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::message::{Question, QuestionKind};
use fakessh_protocol::printable::{self, MAX_LINE};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Asked, Prompt};
use crate::caller::Ask;
use crate::link::{Chunk, Control, Outcome, Receiver, Sender, SessionIo};
use crate::notice_relay::NoticeRelay;
use crate::stream::{ByteStream, Diagnostics, INCOMING_CHUNKS, OUTGOING_CHUNKS};

/// How long a helper whose stream has ended may take to end itself, and to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Most of what a helper prints that is looked through for a question: a lecture fits.
const MAX_PRINTED: usize = 16 * 1024;

/// Most secrets that a hop may ask for, and as many lines: the tries that sudo allows by default
/// (sudoers(5), `passwd_tries`). Who asks on is not asking for a password.
const MOST_QUESTIONS: u32 = 3;

/// Somebody who answers a helper's questions.
pub(crate) struct Talk {
    /// How it asks, if it does.
    pub(crate) prompt: Option<Prompt>,
    /// The helper in our words: what it is, and where it runs.
    pub(crate) who: String,
    /// The hop, as the context behind it is called: its own words are this one's.
    pub(crate) hop: NoticeRelay,
    /// Whom to ask.
    pub(crate) ask: Arc<dyn Ask>,
}

impl Talk {
    /// What the person is asked, when this was printed before. Each line of a helper's words begins
    /// with the hop's name.
    fn question(&self, asked: &Asked, before: &str) -> Question {
        let hop = self.hop.name();
        let says = format!("{hop} says: ");
        let text = match asked.text.as_str() {
            "" => format!("{} asks for a password: ", printable::word(&self.who, MAX_LINE)),
            // What is to be agreed to stands before.
            words if asked.kind == QuestionKind::Line => {
                printable::said(&says, &format!("{before}\n{words}")) + " "
            }
            words => printable::said(&says, words) + " ",
        };
        Question { kind: asked.kind, text, hop: asked.of_account.then(|| hop.to_owned()) }
    }
}

/// A helper that runs.
#[derive(Debug)]
pub(crate) struct Helper {
    arrived: Arc<AtomicBool>,
    unanswered: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Helper {
    /// Makes a stream of a session whose program is a helper. When both ends of the stream are
    /// dropped, so is the session.
    pub(crate) fn start(session: SessionIo, talk: Talk) -> (Helper, ByteStream) {
        let (incoming_sender, incoming) = mpsc::channel(INCOMING_CHUNKS);
        let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_CHUNKS);
        let diagnostics = Diagnostics::default();
        let (arrived, unanswered) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let conversation = Conversation {
            talk,
            printed: String::new(),
            diagnostics: diagnostics.clone(),
            arrived: arrived.clone(),
            unanswered: Arc::clone(&unanswered),
        };
        let task = tokio::spawn(run(session, outgoing_receiver, incoming_sender, conversation));
        (Helper { arrived, unanswered, task }, ByteStream { incoming, outgoing, diagnostics })
    }

    /// The far end has answered: what is printed from here on asks nothing.
    pub(crate) fn arrived(&self) {
        self.arrived.store(true, Ordering::Relaxed);
    }

    /// Whether it asked something that nobody answered.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Waits until a helper is gone whose stream was given up. Cancel safe.
    pub(crate) async fn gone(&mut self) {
        // A helper that does not end is killed by the slave that runs it.
        let _ = timeout(2 * LAST_WORDS, &mut self.task).await;
    }
}

async fn run(
    session: SessionIo,
    outgoing: mpsc::Receiver<Bytes>,
    incoming: mpsc::Sender<Bytes>,
    mut conversation: Conversation,
) {
    let SessionIo { stdin, stdout, stderr, mut control } = session;
    let diagnostics = conversation.diagnostics.clone();
    let heard = {
        let (write, read) = (write(outgoing, stdin), read(stdout, &incoming));
        let talk = conversation.hold(stderr, &control);
        tokio::pin!(write, read, talk);
        let (mut writes, mut talks, mut heard) = (true, true, Heard::All);
        loop {
            tokio::select! {
                () = &mut write, if writes => writes = false,
                () = &mut read => break,
                all = &mut talk, if talks => {
                    (talks, heard) = (false, all);
                    if heard == Heard::Nobody {
                        break;
                    }
                }
            }
        }
        if heard == Heard::All {
            let _ = timeout(LAST_WORDS, async {
                // Where both ends were dropped, the end of what we send is the end for the slave
                // at the far side, too.
                if writes && incoming.is_closed() {
                    write.await;
                }
                if talks {
                    talk.await;
                }
            })
            .await;
        }
        heard
    };
    if heard == Heard::All
        && let Ok(outcome) = timeout(LAST_WORDS, control.outcome()).await
        && let Some(words) = remark(&conversation.talk.who, &outcome)
    {
        diagnostics.remark(words);
    }
}

/// What is said of a helper's end; nothing of a good one.
fn remark(who: &str, outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Exited(ExitStatus::Code(0)) => None,
        Outcome::Exited(ExitStatus::Code(code)) => Some(format!("it ended with status {code}")),
        Outcome::Exited(ExitStatus::Signal(number)) => {
            Some(format!("it was killed by signal {number}"))
        }
        Outcome::Refused(refusal) => Some(refusal.message.clone()),
        Outcome::Lost(lost) => Some(format!("{who}: {lost}")),
    }
}

async fn write(mut outgoing: mpsc::Receiver<Bytes>, stdin: Sender) {
    while let Some(bytes) = outgoing.recv().await {
        if stdin.send(bytes).await.is_err() {
            return;
        }
    }
    stdin.finish();
}

async fn read(mut stdout: Receiver, incoming: &mpsc::Sender<Bytes>) {
    loop {
        let chunk = tokio::select! {
            chunk = stdout.receive() => chunk,
            () = incoming.closed() => return,
        };
        let Chunk::Data(bytes) = chunk else { return };
        let len = bytes.len();
        if incoming.send(bytes).await.is_err() {
            return;
        }
        stdout.consumed(len);
    }
}

/// How listening to a helper ended.
#[derive(PartialEq, Eq)]
enum Heard {
    /// It prints no more.
    All,
    /// It asked, and there is nobody to answer, or it asked too often.
    Nobody,
}

struct Conversation {
    talk: Talk,
    /// What was printed since the last question.
    printed: String,
    diagnostics: Diagnostics,
    arrived: Arc<AtomicBool>,
    unanswered: Arc<AtomicBool>,
}

impl Conversation {
    /// Listens to what the helper prints, and answers what it asks.
    async fn hold(&mut self, mut stderr: Receiver, control: &Control) -> Heard {
        let (mut secrets, mut lines) = (0, 0);
        loop {
            let Chunk::Data(bytes) = stderr.receive().await else { return Heard::All };
            stderr.consumed(bytes.len());
            let Some(asked) = self.hear(&String::from_utf8_lossy(&bytes)) else { continue };
            let count = if asked.kind == QuestionKind::Line { &mut lines } else { &mut secrets };
            *count += 1;
            if *count > MOST_QUESTIONS {
                let words = format!("it asks more than {MOST_QUESTIONS} times, and was ended");
                self.diagnostics.remark(words);
                return Heard::Nobody;
            }
            let said = self.diagnostics.lines();
            self.diagnostics.clear();
            if asked.kind != QuestionKind::Line && secrets > 1 {
                // Why the last answer was no good.
                self.talk.hop.show(&said, &*self.talk.ask).await;
            }
            let question = self.talk.question(&asked, &said);
            let Some(secret) = self.talk.ask.ask(question).await else {
                self.unanswered.store(true, Ordering::Relaxed);
                self.diagnostics.remark(unanswered(&asked, secrets > 1));
                return Heard::Nobody;
            };
            control.type_secret(secret);
        }
    }

    /// Takes what the helper prints, and says what it asks by that. What came before the question
    /// is in the diagnostics then; what asks nothing is there at once: it may be the last.
    fn hear(&mut self, text: &str) -> Option<Asked> {
        self.diagnostics.add(text.as_bytes());
        if self.arrived.load(Ordering::Relaxed) {
            return None;
        }
        self.printed.push_str(text);
        let prompt = self.talk.prompt.as_ref();
        let Some(asked) = prompt.and_then(|prompt| prompt.asked(&self.printed)) else {
            if self.printed.len() > MAX_PRINTED {
                self.printed.clear();
            }
            return None;
        };
        let printed = std::mem::take(&mut self.printed);
        let before = match prompt {
            Some(Prompt::Marker(marker)) => printed.replace(marker.as_str(), ""),
            _ => printed[..printed.rfind(['\n', '\r']).unwrap_or_default()].to_owned(),
        };
        self.diagnostics.clear();
        self.diagnostics.add(before.as_bytes());
        Some(asked)
    }
}

/// What is said of a question that nobody answers.
fn unanswered(asked: &Asked, again: bool) -> &'static str {
    match asked.kind {
        QuestionKind::Line => "it asks something, and there is nobody to ask",
        _ if again => "it did not accept the password, and there is no other",
        _ if asked.of_account => {
            "it asks for a password, and there is nobody to ask: there is no terminal; see \
             --password-file"
        }
        _ => "it asks for a password, and there is nobody to ask: there is no terminal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::AskNobody;

    fn conversation(prompt: Option<Prompt>) -> Conversation {
        let (who, hop) = ("web1: su".to_owned(), NoticeRelay::new("web1+su"));
        let talk = Talk { prompt, who, hop, ask: Arc::new(AskNobody) };
        Conversation {
            talk,
            printed: String::new(),
            diagnostics: Diagnostics::default(),
            arrived: Arc::default(),
            unanswered: Arc::default(),
        }
    }

    #[test]
    fn what_asks_in_another_way_is_known_before_the_helper_ends() {
        let mut conversation = conversation(Some(Prompt::of_account(&["assword:"])));
        assert_eq!(conversation.hear("Your temporary ident"), None);
        assert_eq!(conversation.hear("ity? "), None);
        assert_eq!(conversation.diagnostics.said().printed, "Your temporary identity?");
    }

    #[test]
    fn what_came_before_a_question_is_told_apart_from_it() {
        let mut endings = conversation(Some(Prompt::of_account(&["assword:"])));
        assert_eq!(endings.hear("Last failure: today\r\nPass"), None);
        assert_eq!(endings.hear("word: ").unwrap().text, "Password:");
        assert_eq!(endings.diagnostics.said().printed, "Last failure: today");
        let mut marker = conversation(Some(Prompt::Marker("5eed".into())));
        assert!(marker.hear("Sorry, try again.\r\n5eed").is_some());
        assert_eq!(marker.diagnostics.said().printed, "Sorry, try again.");
    }
}
