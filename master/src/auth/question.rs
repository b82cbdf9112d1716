//! What only a person can answer: a password, or whatever the server asks.

use fakessh_protocol::message::{Notice, Question, QuestionKind, Secret};
use fakessh_protocol::printable;
use russh::client::{AuthResult, Handler, KeyboardInteractiveAuthResponse, Prompt};

use super::{Login, LoginStep, Stop};

/// Most questions of one login, rounds without a question included. A password, a code and a
/// password to be changed (three questions), each three times, are fewer. It bounds what a hostile
/// server can make a person type, and what it can have a program answer at line rate.
const MAX_ASKED: usize = 24;

impl<H: Handler> Login<'_, H> {
    /// Asks for a password, as often as the user allows.
    pub(super) async fn password(&mut self) -> Result<LoginStep, Stop> {
        let (user, host) = self.names();
        let text = format!("{user}@{host}'s password: ");
        for attempt in 1..=self.resolved.number_of_password_prompts {
            if !self.may_be_asked(1) {
                self.note("password (asked too often)");
                return Ok(LoginStep::Exhausted);
            }
            let question = Question::secret(&*text);
            let Some(password) = self.caller.ask.ask(question).await else {
                self.unanswered = true;
                self.note("password (nobody to ask)");
                return Ok(LoginStep::Exhausted);
            };
            let idle_timeout = self.idle_timeout.clone();
            let login = self.handle.authenticate_password(user.clone(), password.0.clone());
            match idle_timeout.wait(login).await {
                None => return Err(Stop::TimedOut),
                Some(Err(_)) => return Err(Stop::Lost),
                Some(Ok(AuthResult::Success)) => return Ok(LoginStep::Done),
                Some(Ok(AuthResult::Failure { remaining_methods, partial_success })) => {
                    if partial_success {
                        self.note("password (accepted, and more is wanted)");
                        return Ok(LoginStep::Partial(remaining_methods));
                    }
                    self.note_wrong("password", attempt);
                    self.failed(remaining_methods)?;
                }
            }
            if !self.allowed.contains(&russh::MethodKind::Password) {
                break;
            }
            if attempt < self.resolved.number_of_password_prompts {
                let again = Notice::ours("Permission denied, please try again.");
                self.caller.ask.notice(again).await;
            }
        }
        Ok(LoginStep::Exhausted)
    }

    /// Lets the server ask (RFC 4256), as often as the user allows.
    pub(super) async fn keyboard_interactive(&mut self) -> Result<LoginStep, Stop> {
        for attempt in 1..=self.resolved.number_of_password_prompts {
            let mut unanswered = false;
            let mut has_asked = false;
            let (user, _) = self.names();
            let idle_timeout = self.idle_timeout.clone();
            let start = self.handle.authenticate_keyboard_interactive_start(user, None);
            let mut answer = idle_timeout.wait(start).await;
            loop {
                let (name, instructions, prompts) = match answer {
                    None => return Err(Stop::TimedOut),
                    Some(Err(_)) => return Err(Stop::Lost),
                    Some(Ok(KeyboardInteractiveAuthResponse::Success)) => {
                        return Ok(LoginStep::Done);
                    }
                    Some(Ok(KeyboardInteractiveAuthResponse::Failure {
                        remaining_methods,
                        partial_success,
                    })) => {
                        if partial_success {
                            self.note("keyboard-interactive (accepted, and more is wanted)");
                            return Ok(LoginStep::Partial(remaining_methods));
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
                has_asked = true;
                if !self.may_be_asked(prompts.len().max(1)) {
                    self.note("keyboard-interactive (asked too often)");
                    return Ok(LoginStep::Exhausted);
                }
                let answers = self.answers(&name, &instructions, prompts, &mut unanswered).await;
                let responses = answers.iter().map(|secret| secret.0.clone()).collect();
                let respond = self.handle.authenticate_keyboard_interactive_respond(responses);
                answer = idle_timeout.wait(respond).await;
            }
            if unanswered {
                self.unanswered = true;
                self.note("keyboard-interactive (nobody to ask)");
                return Ok(LoginStep::Exhausted);
            }
            if !has_asked {
                // Another attempt would be one more failure for the server, and no question.
                self.note("keyboard-interactive (it asked nothing)");
                return Ok(LoginStep::Exhausted);
            }
            self.note_wrong("keyboard-interactive", attempt);
            if !self.allowed.contains(&russh::MethodKind::KeyboardInteractive) {
                break;
            }
        }
        Ok(LoginStep::Exhausted)
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
        self.relay.show(&format!("{name}\n{instructions}"), &*self.caller.ask).await;
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let kind = if prompt.echo { QuestionKind::Line } else { QuestionKind::Secret };
            // As ssh does, so that a server can't pass its question off as somebody else's.
            let text = asked(&format!("({user}@{host}) "), &prompt.prompt);
            let answer = match *unanswered {
                true => None,
                false => self.caller.ask.ask(Question { kind, text, hop: None }).await,
            };
            *unanswered |= answer.is_none();
            answers.push(answer.unwrap_or(Secret(String::new())));
        }
        answers
    }

    /// Counts so many questions more; `false` if they are too many in all.
    fn may_be_asked(&mut self, questions: usize) -> bool {
        self.asked = self.asked.saturating_add(questions);
        self.asked <= MAX_ASKED
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

/// A server's question behind this prefix, which says whose it is. What ends in a blank, or in
/// nothing, ends so that the answer stands apart.
fn asked(prefix: &str, words: &str) -> String {
    let words = printable::said(prefix, words);
    match words.is_empty() {
        true => printable::word(prefix, printable::MAX_LINE),
        false => words + " ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_servers_question_says_whose_it_is() {
        assert_eq!(asked("(a@h) ", "Code: "), "(a@h) Code: ");
        assert_eq!(asked("(a@h) ", ""), "(a@h) ");
        let forged = "x\r\nfakessh: root's password on \u{202e}bastion: ";
        let shown = "(a@h) x\n(a@h) fakessh: root's password on \u{fffd}bastion: ";
        assert_eq!(asked("(a@h) ", forged), shown);
    }
}
