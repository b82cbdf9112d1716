//! The escape character of a session on a terminal (ssh(1), ESCAPE CHARACTERS).

/// What a person asks of the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// `~.`: to end the session.
    Disconnect,
    /// `~^Z`: to stop the shim.
    Suspend,
    /// `~&`: to end the input, and to wait for the program in the background.
    Background,
    /// `~#`: to list what is forwarded.
    Forwards,
    /// `~B`: to send a BREAK.
    Break,
    /// `~?`: to list the escapes.
    Help,
}

/// Control and Z.
const CONTROL_Z: u8 = 26;

/// Finds escapes in what is typed.
#[derive(Debug)]
pub(super) struct Escapes {
    /// `None` if there are none.
    character: Option<u8>,
    state: State,
}

/// What was typed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing, or the end of a line: the next character may begin an escape.
    LineStart,
    /// The escape character, at the start of a line: the next character says which escape it is.
    Character,
    /// Anything else: the next character is for the program.
    InLine,
}

impl Escapes {
    pub(super) fn new(character: Option<u8>) -> Escapes {
        Escapes { character, state: State::LineStart }
    }

    pub(super) fn character(&self) -> Option<u8> {
        self.character
    }

    /// Takes bytes from the front of `typed`, up to the first escape, and returns that escape. Bytes
    /// for the program go into `program`.
    pub(super) fn filter(&mut self, typed: &mut &[u8], program: &mut Vec<u8>) -> Option<Escape> {
        let Some(character) = self.character else {
            program.extend_from_slice(typed);
            *typed = &[];
            return None;
        };
        while let Some((&byte, rest)) = typed.split_first() {
            *typed = rest;
            match self.state {
                State::Character => {
                    self.state = State::LineStart;
                    match byte {
                        b'.' => return Some(Escape::Disconnect),
                        CONTROL_Z => return Some(Escape::Suspend),
                        b'&' => return Some(Escape::Background),
                        b'#' => return Some(Escape::Forwards),
                        b'B' => return Some(Escape::Break),
                        b'?' => return Some(Escape::Help),
                        byte if byte == character => {}
                        _ => program.push(character),
                    }
                }
                State::LineStart if byte == character => {
                    self.state = State::Character;
                    continue;
                }
                State::LineStart | State::InLine => {}
            }
            program.push(byte);
            self.state =
                if matches!(byte, b'\r' | b'\n') { State::LineStart } else { State::InLine };
        }
        None
    }
}

/// The list of the escapes, for a raw terminal: each line ends with CR and LF.
pub(super) fn help(character: &str) -> String {
    let escapes = [
        (".", "end the session"),
        ("^Z", "stop this ssh; `fg` goes on with it"),
        ("&", "end the input, and wait for the program in the background"),
        ("#", "list forwarded connections"),
        ("B", "send a BREAK"),
        ("?", "this list"),
    ];
    let mut lines = String::from("Supported escape sequences:\r\n");
    for (key, meaning) in escapes {
        lines += &format!(" {:<5}- {meaning}\r\n", format!("{character}{key}"));
    }
    let twice = format!("{character}{character}");
    lines += &format!(" {twice:<5}- send the escape character\r\n");
    lines + "They are read at the start of a line only.\r\n"
}

/// The escape character as a person types it.
pub(super) fn shown(character: u8) -> String {
    match character {
        0..32 | 127 => format!("^{}", char::from(character ^ 64)),
        _ => char::from(character).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program gets of what is typed in these pieces, and the escapes.
    fn typed(character: Option<u8>, pieces: &[&str]) -> (String, Vec<Escape>) {
        let mut escapes = Escapes::new(character);
        let (mut program, mut found) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = piece.as_bytes();
            while !rest.is_empty() {
                found.extend(escapes.filter(&mut rest, &mut program));
            }
        }
        (String::from_utf8(program).unwrap(), found)
    }

    #[test]
    fn an_escape_stands_at_the_start_of_a_line() {
        for (pieces, program, escapes) in [
            (&["~."][..], "", &[Escape::Disconnect][..]),
            (&["~", "."], "", &[Escape::Disconnect]),
            (&["ls\r~.x"], "ls\rx", &[Escape::Disconnect]),
            (&["ls\n~?~#"], "ls\n", &[Escape::Help, Escape::Forwards]),
            (&["a~."], "a~.", &[]),
            (&["~~."], "~.", &[]),
            (&["~a~."], "~a~.", &[]),
            (&["~\x1a\r~&"], "\r", &[Escape::Suspend, Escape::Background]),
            (&["~B~\r~."], "~\r", &[Escape::Break, Escape::Disconnect]),
            (&["cd ~/x\r"], "cd ~/x\r", &[]),
            (&["~"], "", &[]),
        ] {
            assert_eq!(typed(Some(b'~'), pieces), (program.into(), escapes.to_vec()), "{pieces:?}");
        }
    }

    #[test]
    fn the_escape_character_is_any_or_none() {
        assert_eq!(typed(None, &["~.\r~."]), ("~.\r~.".into(), vec![]));
        let expected = ("~.\r".to_owned(), vec![Escape::Disconnect]);
        assert_eq!(typed(Some(1), &["~.\r\u{1}."]), expected);
        assert_eq!((shown(1), shown(127), shown(b'~')), ("^A".into(), "^?".into(), "~".into()));
        assert!(help("^A").contains("^A^Z "));
    }
}
