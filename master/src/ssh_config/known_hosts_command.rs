//! `KnownHostsCommand`: a program, and its arguments with their tokens (`ssh_config(5)`).

use thiserror::Error;

use crate::caller::Caller;

use super::Resolved;
use super::tokens::Tokens;

/// Why the words of a command can't be told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// A quote has no end.
    #[error("a quote in it has no end")]
    Quotes,
    /// It does not name its program from the root directory.
    #[error("'{0}' is no absolute name of a program")]
    NotAbsolute(String),
    /// A token or a variable has no value.
    #[error("{0} in it has no value")]
    NoValue(String),
}

/// The program and its arguments. `more` are tokens that only this keyword has, and their values.
///
/// ssh looks for no tokens in the program's name, and starts it without a shell.
///
/// # Errors
/// [`CommandError`].
pub fn known_hosts_command(
    command: &str,
    resolved: &Resolved,
    caller: &Caller,
    more: &[(char, &str)],
) -> Result<Vec<String>, CommandError> {
    let mut words = split(command).ok_or(CommandError::Quotes)?;
    let tokens = Tokens::new(resolved, caller);
    match words.split_first_mut() {
        Some((program, arguments)) if program.starts_with('/') => {
            for argument in arguments {
                *argument = tokens.argument(argument, more).map_err(CommandError::NoValue)?;
            }
        }
        Some((program, _)) => return Err(CommandError::NotAbsolute(program.clone())),
        None => return Err(CommandError::NotAbsolute(String::new())),
    }
    Ok(words)
}

/// The words of a command, as ssh splits it without a shell; `None` if a quote has no end.
///
/// Blanks part words, and both kinds of quotes keep them together. A backslash takes the meaning
/// from a quote, a backslash and, outside of quotes, a space; before anything else it is itself.
fn split(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = command.chars().peekable();
    while let Some(char) = chars.next() {
        let escaped = chars.next_if(|next| {
            char == '\\' && (matches!(next, '"' | '\'' | '\\') || (*next == ' ' && quote.is_none()))
        });
        match (escaped, quote, char) {
            (Some(escaped), ..) => word.get_or_insert_default().push(escaped),
            (None, None, ' ' | '\t') => words.extend(word.take()),
            (None, None, '"' | '\'') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None, Some(open), close) if open == close => quote = None,
            (None, ..) => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_as_ssh_parts_them() {
        let split = |text| split(text).unwrap();
        assert_eq!(split(" /a \t b  c "), ["/a", "b", "c"]);
        assert_eq!(split(r#"/a "b c" 'd e' f\ g h"i j"k"#), ["/a", "b c", "d e", "f g", "hi jk"]);
        assert_eq!(
            split(r#"/a "" \%n \"q \x "a\"b" 'a\'b' "a\ b" \\"#),
            ["/a", "", r"\%n", "\"q", r"\x", "a\"b", "a'b", r"a\ b", r"\"]
        );
        assert_eq!(split("\"a'b\" /'c\"'"), ["a'b", "/c\""]);
        assert!(split("").is_empty());
    }

    #[test]
    fn a_quote_must_end() {
        assert_eq!(split("/a \"b"), None);
        assert_eq!(split("/a 'b\\'"), None);
    }
}
