//! What only a person can answer: a password, or whatever the server asks.

use fakessh_protocol::message::{Question, QuestionKind, Secret};
use russh::client::{AuthResult, Handler, KeyboardInteractiveAuthResponse, Prompt};

use super::{Login, Step, Stop};

/// Most rounds of questions in one try. It bounds what a hostile server can make a person type.
const MAX_ROUNDS: usize = 16;

/// Most bytes of a server's text that are shown.
const MAX_TEXT: usize = 4096;

impl<H: Handler> Login<'_, H> {
    /// Asks for a password, as often as the user allows.
    pub(super) async fn password(&mut self) -> Result<Step, Stop> {
        let (user, host) = self.names();
        let text = format!("{user}@{host}'s password: ");
        for attempt in 1..=self.resolved.number_of_password_prompts {
            let question = Question { kind: QuestionKind::Secret, text: text.clone() };
            let Some(password) = self.caller.ask.ask(question).await else {
                self.unanswered = true;
                self.note("password (nobody to ask)");
                return Ok(Step::Exhausted);
            };
            let patience = self.patience.clone();
            let login = self.handle.authenticate_password(user.clone(), password.0.clone());
            match patience.wait(login).await {
                None => return Err(Stop::TimedOut),
                Some(Err(_)) => return Err(Stop::Lost),
                Some(Ok(AuthResult::Success)) => return Ok(Step::Done),
                Some(Ok(AuthResult::Failure { remaining_methods, partial_success })) => {
                    if partial_success {
                        self.note("password (accepted, and more is wanted)");
                        return Ok(Step::Partial(remaining_methods));
                    }
                    self.note_wrong("password", attempt);
                    self.failed(remaining_methods)?;
                }
            }
            if !self.allowed.contains(&russh::MethodKind::Password) {
                break;
            }
            if attempt < self.resolved.number_of_password_prompts {
                self.caller.ask.notice("Permission denied, please try again.".to_owned()).await;
            }
        }
        Ok(Step::Exhausted)
    }

    /// Lets the server ask (RFC 4256), as often as the user allows.
    pub(super) async fn keyboard_interactive(&mut self) -> Result<Step, Stop> {
        for attempt in 1..=self.resolved.number_of_password_prompts {
            let mut unanswered = false;
            let (user, _) = self.names();
            let patience = self.patience.clone();
            let start = self.handle.authenticate_keyboard_interactive_start(user, None);
            let mut answer = patience.wait(start).await;
            for round in 0.. {
                let (name, instructions, prompts) = match answer {
                    None => return Err(Stop::TimedOut),
                    Some(Err(_)) => return Err(Stop::Lost),
                    Some(Ok(KeyboardInteractiveAuthResponse::Success)) => return Ok(Step::Done),
                    Some(Ok(KeyboardInteractiveAuthResponse::Failure {
                        remaining_methods,
                        partial_success,
                    })) => {
                        if partial_success {
                            self.note("keyboard-interactive (accepted, and more is wanted)");
                            return Ok(Step::Partial(remaining_methods));
                        }
                        self.failed(remaining_methods)?;
                        break;
                    }
                    Some(Ok(KeyboardInteractiveAuthResponse::InfoRequest {
                        name,
                        instructions,
                        prompts,
                    })) => (name, instructions, prompts),
                };
                if round >= MAX_ROUNDS {
                    self.note("keyboard-interactive (too many questions)");
                    return Ok(Step::Exhausted);
                }
                let answers = self.answers(&name, &instructions, prompts, &mut unanswered).await;
                let responses = answers.iter().map(|secret| secret.0.clone()).collect();
                let respond = self.handle.authenticate_keyboard_interactive_respond(responses);
                answer = patience.wait(respond).await;
            }
            if unanswered {
                self.unanswered = true;
                self.note("keyboard-interactive (nobody to ask)");
                return Ok(Step::Exhausted);
            }
            self.note_wrong("keyboard-interactive", attempt);
            if !self.allowed.contains(&russh::MethodKind::KeyboardInteractive) {
                break;
            }
        }
        Ok(Step::Exhausted)
    }

    /// One answer for each prompt: the server waits for all of them, also where nobody answers.
    async fn answers(
        &self,
        name: &str,
        instructions: &str,
        prompts: Vec<Prompt>,
        unanswered: &mut bool,
    ) -> Vec<Secret> {
        let (user, host) = self.names();
        let mut heading = String::new();
        for line in [name, instructions] {
            if !line.trim().is_empty() {
                heading += &format!("{}\n", printable(line.trim_end()));
            }
        }
        if prompts.is_empty() && !heading.is_empty() {
            self.caller.ask.notice(heading.clone()).await;
        }
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let kind = if prompt.echo { QuestionKind::Line } else { QuestionKind::Secret };
            // As ssh does, so that a server can't pass its question off as somebody else's.
            let text = format!("{heading}({user}@{host}) {}", printable(&prompt.prompt));
            heading.clear();
            let answer = match *unanswered {
                true => None,
                false => self.caller.ask.ask(Question { kind, text }).await,
            };
            *unanswered |= answer.is_none();
            answers.push(answer.unwrap_or(Secret(String::new())));
        }
        answers
    }

    /// One note for all tries of a method.
    fn note_wrong(&mut self, method: &str, attempt: u32) {
        if attempt > 1 {
            self.tried.pop();
        }
        let times = if attempt == 1 { "once".to_owned() } else { format!("{attempt} times") };
        self.note(format!("{method} (refused {times})"));
    }
}

/// A server's text without anything that a terminal would act on.
pub(crate) fn printable(text: &str) -> String {
    let kept = text.chars().filter(|char| !char.is_control() || matches!(char, '\n' | '\t'));
    kept.take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_taken_out() {
        assert_eq!(printable("a\x1b[2J\r\nb\tc\u{9b}"), "a[2J\nb\tc");
        assert_eq!(printable(&"x".repeat(10_000)).len(), MAX_TEXT);
    }
}
