//! Options of our own among words that are ssh's.

use std::ffi::OsString;

use anyhow::Context as _;
use fakessh_shim::parse::takes_value;

/// Takes an option of ours, such as `--persist`, and its value out of ssh's words: it stands among
/// the options, before the destination.
///
/// # Errors
/// Where it lacks its value.
pub(super) fn take_from(words: &mut Vec<OsString>, name: &str) -> anyhow::Result<Option<OsString>> {
    let mut at = 0;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        if word == name {
            let value = words.get(at + 1).with_context(|| format!("{name} lacks its value"))?;
            let value = value.clone();
            words.drain(at..at + 2);
            return Ok(Some(value));
        }
        if let Some(value) = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            let value = value.into();
            words.remove(at);
            return Ok(Some(value));
        }
        // Another one of ours.
        if let Some(other) = word.strip_prefix("--").filter(|other| !other.is_empty()) {
            at += if other.contains('=') { 1 } else { 2 };
            continue;
        }
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            break;
        };
        if letters == "-" {
            break;
        }
        // A letter that takes a value ends the word, or has it in the next one.
        let takes = letters.bytes().position(takes_value);
        at += if takes.is_some_and(|place| place + 1 == letters.len()) { 2 } else { 1 };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(words: &[&str]) -> (Option<OsString>, Vec<OsString>) {
        let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let taken = take_from(&mut words, "--persist").unwrap();
        (taken, words)
    }

    #[test]
    fn it_is_taken_from_among_the_options_and_from_nowhere_else() {
        let rest = ["-F", "conf", "-vp22", "web1", "id"].map(OsString::from).to_vec();
        for words in [
            &["--persist", "1h", "-F", "conf", "-vp22", "web1", "id"][..],
            &["-F", "conf", "--persist", "1h", "-vp22", "web1", "id"],
            &["-F", "conf", "-vp22", "--persist=1h", "web1", "id"],
        ] {
            assert_eq!(taken(words), (Some("1h".into()), rest.clone()), "{words:?}");
        }
        let words = ["--password-file", "--persist", "--persist", "1h", "web1"];
        assert_eq!(taken(&words).0, Some("1h".into()));
        for words in [
            &["web1", "x", "--persist", "1h"][..],
            &["-o", "--persist", "web1"],
            &["--", "--persist", "1h"],
            &[],
        ] {
            assert_eq!(taken(words).0, None, "{words:?}");
        }
        let mut words = vec![OsString::from("--persist")];
        assert!(take_from(&mut words, "--persist").is_err());
    }
}
