//! Words as a command line for a login shell that nobody knows.
//!
//! An SSH server takes one string, which the account's shell reads. `sh`, `bash`, `zsh`, `csh`,
//! `tcsh` and `fish` agree on little: plain words, and single quotes around what has none of the
//! letters that one of them reads inside of quotes.

/// Letters that no shell gives a meaning to, anywhere in a word that does not begin with one of
/// [`NOT_FIRST`].
const PLAIN: &[u8] = b"-_./,:@+%=";

/// Those that mean something at the beginning of a word: `=cmd` to zsh, `%1` to csh.
const NOT_FIRST: &[u8] = b"%=";

/// The command line that runs a program with its arguments, as they are.
pub(super) fn command_line(argv: &[Vec<u8>]) -> Vec<u8> {
    if argv.iter().any(|word| needs_sh(word)) {
        return by_sh(argv);
    }
    let words = argv.iter().enumerate().map(|(at, word)| {
        // A program's name with an equals sign would be an assignment.
        let is_plain = is_plain(word) && (at > 0 || !word.contains(&b'='));
        if is_plain { word.clone() } else { [b"'", &word[..], b"'"].concat() }
    });
    words.collect::<Vec<_>>().join(&b' ')
}

/// Whether shells disagree about a word in single quotes: csh reads `!` and line feeds there, fish
/// backslashes.
fn needs_sh(word: &[u8]) -> bool {
    word.iter().any(|byte| b"'!\\\n\r".contains(byte))
}

fn is_plain(word: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || PLAIN.contains(byte);
    word.first().is_some_and(|first| !NOT_FIRST.contains(first)) && word.iter().all(plain)
}

/// The same through `sh`, whose quotes are known. Every shell passes its script on: no letter that
/// one of them reads is left in it.
fn by_sh(argv: &[Vec<u8>]) -> Vec<u8> {
    let mut line = b"/bin/sh -c 'eval \"$(printf %b \"".to_vec();
    let mut escape = |bytes: &[u8]| {
        bytes.iter().for_each(|byte| line.extend(format!("\\0{byte:03o}").into_bytes()));
    };
    escape(b"exec");
    for word in argv {
        escape(b" '");
        word.split_inclusive(|&byte| byte == b'\'').for_each(|part| match part.split_last() {
            Some((b'\'', before)) => {
                escape(before);
                escape(b"'\\''");
            }
            _ => escape(part),
        });
        escape(b"'");
    }
    line.extend(b"\")\"'");
    line
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use super::*;

    fn argv(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn what_every_shell_reads_alike_stays_readable() {
        let line = |words| String::from_utf8(command_line(&argv(words))).unwrap();
        assert_eq!(
            line(&["borg", "serve", "--path=/a_b:2", "x@y"]),
            "borg serve --path=/a_b:2 x@y"
        );
        assert_eq!(line(&["echo", "", "a b", "=ls", "$x *"]), "echo '' 'a b' '=ls' '$x *'");
        assert_eq!(line(&["a=b", "c=d"]), "'a=b' c=d");
        assert!(line(&["echo", "it's"]).starts_with("/bin/sh -c 'eval "));
    }

    #[test]
    fn every_shell_keeps_the_words_apart_and_as_they_are() {
        let mut all: Vec<u8> = (1..=255).collect();
        all.extend_from_slice(b"\n\n");
        let hard: [&[u8]; 9] =
            [b"", b" ", b"$x", b"*", b"a'b''c", b"!!", b"back\\slash\\", b"two\nlines\n", &all];
        for shell in ["sh", "bash", "zsh", "fish", "csh", "tcsh", "dash", "ksh"] {
            let print = ["printf".as_bytes(), b"[%s]"].map(<[u8]>::to_vec);
            for words in [&hard[..], &hard[..4], &[b"plain"]] {
                let argv = print.iter().cloned().chain(words.iter().map(|word| word.to_vec()));
                let line = command_line(&argv.collect::<Vec<_>>());
                let Ok(output) =
                    Command::new(shell).arg("-c").arg(OsStr::from_bytes(&line)).output()
                else {
                    eprintln!("skipped: no {shell}");
                    continue;
                };
                let expected: Vec<u8> =
                    words.iter().flat_map(|word| [b"[", *word, b"]"].concat()).collect();
                let shown = String::from_utf8_lossy(&output.stdout);
                assert_eq!(output.stdout, expected, "{shell}: {shown}");
            }
        }
    }
}
