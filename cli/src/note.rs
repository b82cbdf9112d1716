//! What is said of a tool that did not use the ssh that it was given.

use std::ffi::{OsStr, OsString};

/// Most characters of the command that is proposed. A longer one nobody types again.
const MAX_COMMAND: usize = 300;

/// Letters, besides letters and digits, that a shell reads as they are.
const PLAIN: &str = "-_./,:@+%=";

/// The note about a tool that has not used its ssh: people expect that it runs on the destination.
pub(super) fn not_used(options: &[OsString], destination: &str, command: &[OsString]) -> String {
    let name = command.first().map_or_else(Default::default, |name| name.to_string_lossy());
    let name = name.escape_debug();
    let exec = ["fakessh", "exec"].map(OsString::from);
    let before = [&exec, options, &[destination.into(), "--".into()]].concat();
    let whole = [&before[..], command].concat();
    let shown = typed(&whole).or_else(|| Some(format!("{} ...", typed(&before)?)));
    let shown = shown.unwrap_or_else(|| "fakessh exec DEST -- CMD...".to_owned());
    format!(
        "note: '{name}' ran on this machine and did not use ssh; to run it on {}: {shown}",
        destination.escape_debug()
    )
}

/// Words as a person types them in a shell; `None` if nobody would, or could.
fn typed(words: &[OsString]) -> Option<String> {
    let words: Option<Vec<String>> = words.iter().map(|word| typed_word(word)).collect();
    let line = words?.join(" ");
    (line.chars().count() <= MAX_COMMAND).then_some(line)
}

fn typed_word(word: &OsStr) -> Option<String> {
    let word = word.to_str()?;
    let is_plain = |letter: char| letter.is_alphanumeric() || PLAIN.contains(letter);
    if !word.chars().all(|letter| is_plain(letter) || letter == ' ' || letter.is_ascii_graphic()) {
        return None;
    }
    let is_typed_so = !word.is_empty() && word.chars().all(is_plain);
    Some(if is_typed_so { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn proposed(command: &[&str]) -> String {
        let note = not_used(&words(&["-F", "my conf"]), "web1", &words(command));
        note.split_once("to run it on web1: ").unwrap().1.to_owned()
    }

    #[test]
    fn the_command_that_is_proposed_can_be_typed() {
        assert_eq!(
            not_used(&[], "web1", &words(&["uptime"])),
            "note: 'uptime' ran on this machine and did not use ssh; \
             to run it on web1: fakessh exec web1 -- uptime"
        );
        assert_eq!(
            proposed(&["echo", "", "it's", "$x *"]),
            r"fakessh exec -F 'my conf' web1 -- echo '' 'it'\''s' '$x *'"
        );
        let shortened = "fakessh exec -F 'my conf' web1 -- ...";
        assert_eq!(proposed(&["echo", &"x".repeat(MAX_COMMAND)]), shortened);
        assert_eq!(proposed(&["echo", "\u{1b}[31m"]), shortened);
        assert_eq!(proposed(&["echo", "\u{202e}"]), shortened);
        let note = not_used(&[], "web1", &[OsString::from_vec(b"\xff\n".to_vec())]);
        assert!(note.ends_with(" web1 -- ...") && !note.contains('\n'), "{note}");
    }
}
