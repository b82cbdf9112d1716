//! How a helper's questions are known among what else it prints on its terminal.

use fakessh_protocol::message::QuestionKind;

/// How a helper asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// By these characters, wherever they stand: they are our own choice, and stand for a password.
    Marker(String),
    /// By how the last line ends that has no end of its own, once blanks behind it are taken away.
    Endings {
        /// What asks for a password.
        secret: &'static [&'static str],
        /// What asks for something that may be seen; looked for first.
        line: &'static [&'static str],
        /// Whether a password is one of an account of that host, which `--password-file` may hold.
        of_account: bool,
    },
}

/// What a helper asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What answers it.
    pub kind: QuestionKind,
    /// Whether the password of an account of that host does.
    pub of_account: bool,
    /// The helper's own words as they came; empty if they are our marker.
    pub text: String,
}

impl Prompt {
    /// By how a line ends that asks for the password of an account, and by nothing else.
    pub(super) fn of_account(secret: &'static [&'static str]) -> Prompt {
        Prompt::Endings { secret, line: &[], of_account: true }
    }

    /// What is asked at the end of what the helper has printed since it was last answered.
    pub fn asked(&self, printed: &str) -> Option<Asked> {
        match self {
            Prompt::Marker(marker) => {
                let kind = QuestionKind::Secret;
                let asked = Asked { kind, of_account: true, text: String::new() };
                printed.contains(marker.as_str()).then_some(asked)
            }
            Prompt::Endings { secret, line, of_account } => {
                // A line feed ends a line, and what ends it with a carriage return starts anew.
                let last = printed.rsplit(['\n', '\r']).next().unwrap_or_default().trim_end();
                let ends = |endings: &[&str]| endings.iter().any(|ending| last.ends_with(ending));
                let (kind, of_account) = match () {
                    () if ends(line) => (QuestionKind::Line, false),
                    () if ends(secret) => (QuestionKind::Secret, *of_account),
                    () => return None,
                };
                Some(Asked { kind, of_account, text: last.trim().to_owned() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDINGS: Prompt =
        Prompt::Endings { secret: &["assword:"], line: &["(yes/no)?"], of_account: true };

    fn text(printed: &str) -> Option<String> {
        ENDINGS.asked(printed).map(|asked| asked.text)
    }

    #[test]
    fn only_a_line_that_waits_asks() {
        assert_eq!(text("Password: ").as_deref(), Some("Password:"));
        assert_eq!(text("hello\r\nPassword:").as_deref(), Some("Password:"));
        assert_eq!(text("\rdoas (a@b) password: ").as_deref(), Some("doas (a@b) password:"));
        for printed in ["", "Password:\n", "Password: \r\n", "su: ", "your password: is", "Passwor"]
        {
            assert_eq!(text(printed), None, "{printed:?}");
        }
        let asked = ENDINGS.asked("Continue (yes/no)? ").unwrap();
        assert_eq!(asked.kind, QuestionKind::Line);
    }

    #[test]
    fn a_marker_asks_wherever_it_stands_and_in_any_frame() {
        let prompt = Prompt::Marker("5eed".into());
        for printed in ["5eed", "[sudo: 5eed] Password: ", "lecture\n5eed", "Sorry.\r\n5eed\n"] {
            assert_eq!(prompt.asked(printed).unwrap().text, "", "{printed:?}");
        }
        assert_eq!(prompt.asked("Password: "), None);
    }
}
