//! How a line of `ssh_config(5)` is cut: keyword, one `=` or white space, words with quotes.

use fakessh_protocol::pattern;

/// White space between words.
pub(super) fn white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// `text` without what `skipped` holds for at its front.
pub(super) fn trim_start(text: &[u8], skipped: impl Fn(u8) -> bool) -> &[u8] {
    let start = text.iter().position(|&byte| !skipped(byte)).unwrap_or(text.len());
    &text[start..]
}

fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| !white(byte) && byte != b'\x0c');
    &text[..end.map_or(0, |last| last + 1)]
}

/// The keyword and the rest of the line; `None` for a line that says nothing: empty, a comment,
/// or a keyword in a quote that does not end.
pub(super) fn split_keyword(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let line = trim_start(trim_end(line), white);
    if line.is_empty() || line[0] == b'#' {
        return None;
    }
    let special = |&byte: &u8| white(byte) || byte == b'"' || byte == b'=';
    let end = line.iter().position(special).unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let (keyword, rest) = match rest {
        [b'"', quoted @ ..] => {
            let close = quoted.iter().position(|&byte| byte == b'"')?;
            ([keyword, &quoted[..close]].concat(), &quoted[close + 1..])
        }
        [b'=', rest @ ..] => (keyword.to_vec(), rest),
        rest => {
            let rest = trim_start(rest, white);
            (keyword.to_vec(), rest.strip_prefix(b"=").unwrap_or(rest))
        }
    };
    if keyword.is_empty() { None } else { Some((keyword, trim_start(rest, white))) }
}

/// The words of a line: quotes of both kinds, a backslash before a quote, a backslash or (outside
/// quotes) a space; `#` begins a comment. `None` where a quote does not end.
pub(super) fn split_words(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = trim_start(rest, |byte| matches!(byte, b' ' | b'\t'));
        if rest.is_empty() || rest[0] == b'#' {
            return Some(words);
        }
        let mut word = Vec::new();
        let mut quote = None;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match (byte, after.first(), quote) {
                (b'\\', Some(&next @ (b'\'' | b'"' | b'\\')), _)
                | (b'\\', Some(&next @ b' '), None) => {
                    word.push(next);
                    rest = &after[1..];
                }
                (b' ' | b'\t', _, None) => break,
                (b'"' | b'\'', _, None) => quote = Some(byte),
                (_, _, Some(open)) if open == byte => quote = None,
                _ => word.push(byte),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
    }
}

/// Whether a name in lower case is meant by a list of patterns, parted by commas: `*`, `?`, and
/// `!` before one that excludes (`ssh_config(5)`, "PATTERNS").
pub(super) fn matches_any(name: &[u8], patterns: &[u8]) -> bool {
    let mut found = false;
    for pattern in patterns.to_ascii_lowercase().split(|&byte| byte == b',') {
        match pattern.strip_prefix(b"!") {
            Some(excluded) if pattern::matches(excluded, name) => return false,
            Some(_) => {}
            None => found |= pattern::matches(pattern, name),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_cut_as_ssh_cuts_them() {
        let table: &[(&str, Option<(&str, &str)>)] = &[
            ("Port=22", Some(("Port", "22"))),
            (" Port =  22 ", Some(("Port", "22"))),
            ("Port 22", Some(("Port", "22"))),
            ("Port\t22\n", Some(("Port", "22"))),
            ("Port==22", Some(("Port", "=22"))),
            ("\"Port\" 22", Some(("Port", "22"))),
            ("\"Port\"=22", Some(("Port", "=22"))),
            ("Port", Some(("Port", ""))),
            ("Port=", Some(("Port", ""))),
            ("# x", None),
            ("", None),
            ("  ", None),
            ("\"Port", None),
        ];
        for (line, expected) in table {
            let split = split_keyword(line.as_bytes());
            let expected = expected.map(|(key, rest)| (key.as_bytes().to_vec(), rest.as_bytes()));
            assert_eq!(split, expected, "{line:?}");
        }
    }

    #[test]
    fn words_are_cut_as_ssh_cuts_them() {
        let table: &[(&str, Option<&[&str]>)] = &[
            ("a b\tc", Some(&["a", "b", "c"])),
            ("\"a b\" 'c d'e", Some(&["a b", "c de"])),
            (r#"a\ b \"c \x"#, Some(&["a b", "\"c", "\\x"])),
            (r#""a\ b" "c\"d""#, Some(&["a\\ b", "c\"d"])),
            ("a # b", Some(&["a"])),
            ("a#b", Some(&["a#b"])),
            ("\"\"", Some(&[""])),
            ("\"a", None),
            ("it's", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|words| words.iter().map(|w| w.as_bytes().to_vec()));
            assert_eq!(split_words(text.as_bytes()), expected.map(Iterator::collect), "{text}");
        }
    }

    #[test]
    fn patterns_match_as_in_ssh_config() {
        assert!(matches_any(b"usekeychain", b"UseKeychain"));
        assert!(matches_any(b"usekeychain", b"x,use*"));
        assert!(matches_any(b"abc", b"a?c"));
        assert!(matches_any(b"aXbXc".to_ascii_lowercase().as_slice(), b"a*x*c"));
        assert!(!matches_any(b"abc", b"*,!a*"));
        assert!(!matches_any(b"abc", b""));
        assert!(!matches_any(b"abc", b"ab"));
    }
}
