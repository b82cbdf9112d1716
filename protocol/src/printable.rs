//! Text from outside, made fit to be shown: one policy for every process and every way to a person.
//!
//! Hosts, servers, helpers and the command lines of tools choose words that end up on a terminal.
//! A terminal obeys some characters, and others change how the rest is read: the controls (Unicode
//! Cc: C0, C1, DEL), the format characters (Cf: directions, joiners, invisible tags) and the line
//! and paragraph separators (Zl, Zp). Each of them is shown as U+FFFD. That is one character for
//! one, so columns stay where they are, a text does not grow, and it is what bytes that are no UTF-8
//! become as well: one sign for "something stood here that is not shown".
//!
//! Line feeds separate lines where lines are allowed, carriage returns too, since terminals send
//! both. A tab is a blank. Lengths are bounded.

/// Stands for each character that is not shown.
pub const HIDDEN: char = char::REPLACEMENT_CHARACTER;

/// Most characters of a line that somebody else says: a dozen rows of a usual terminal. Real
/// reasons and questions are shorter.
pub const MAX_LINE: usize = 1024;

/// Most lines of one text that somebody else says: banners of lawyers have some thirty.
pub const MAX_LINES: usize = 64;

/// Most characters of a question: what a server or a helper may say, and our own words.
pub const MAX_QUESTION: usize = 2 * MAX_LINES * MAX_LINE;

/// Most characters of a quote: as many as are kept of what a helper prints, a screenful. The reason
/// of a failure comes last.
pub const MAX_QUOTE: usize = 4096;

/// Most characters of a line of our own: it may hold paths (4096 bytes each, at most) and quotes.
const MAX_OWN_LINE: usize = 16 * 1024;

/// Fewest columns of a terminal that lines are folded for. One that says fewer does not know.
const MIN_COLUMNS: usize = 20;

/// Stands where a text was cut.
const CUT: &str = "...";

/// First and last characters of each range that is not shown, in order: Cf of Unicode 17.0, with
/// the reserved characters between them that are meant for more of the same, Zl and Zp. Cc is
/// known to the standard library.
const NOT_SHOWN: [(char, char); 19] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e007f}'),
];

/// Whether a character may reach a terminal.
pub fn is_shown(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    let after = NOT_SHOWN.partition_point(|(first, _)| *first <= character);
    let is_listed = after.checked_sub(1).is_some_and(|at| character <= NOT_SHOWN[at].1);
    !character.is_control() && !is_listed
}

fn shown(character: char) -> char {
    match character {
        '\t' => ' ',
        character if is_shown(character) => character,
        _ => HIDDEN,
    }
}

/// A text that is one word or one line: a name, a cell of a table. What would end the line is not
/// shown either. At most `most` characters.
pub fn word(text: &str, most: usize) -> String {
    text.chars().take(most).map(shown).collect()
}

/// A text as one line, for a quote within a message: lines are separated by ` | `, empty ones are
/// left out. At most about [`MAX_QUOTE`] characters.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut room = MAX_QUOTE;
    for part in split(text) {
        if !line.is_empty() {
            line.push_str(" | ");
        }
        let kept = word(part, room);
        room -= kept.chars().count();
        line.push_str(kept.trim());
        if room == 0 {
            line.push_str(CUT);
            break;
        }
    }
    line
}

/// The end of a line, where the reason of a failure is: at most `most` characters and a sign that
/// there were more.
pub fn end_of_line(line: &str, most: usize) -> String {
    let excess = line.chars().count().saturating_sub(most);
    let cut = if excess > 0 { CUT } else { "" };
    line.chars().skip(excess).fold(cut.to_owned(), |mut end, character| {
        end.push(character);
        end
    })
}

/// The beginning of a line: at most `most` characters and a sign that there were more.
pub fn beginning(line: &str, most: usize) -> String {
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

/// The lines of a text that somebody else says, each behind this prefix, which says who. Empty
/// lines are left out; lines and their lengths are bounded.
pub fn said(prefix: &str, text: &str) -> String {
    let prefix = word(prefix, MAX_LINE);
    let mut parts = split(text).map(|part| word(part, MAX_LINE));
    let mut lines: Vec<String> = parts.by_ref().take(MAX_LINES).collect();
    lines.extend(parts.next().map(|_| CUT.to_owned()));
    let lines: Vec<String> = lines.iter().map(|line| format!("{prefix}{line}")).collect();
    lines.join("\n")
}

/// A question, whose last line ends where the answer is typed. Its lines say already whose words
/// they are. At most [`MAX_QUESTION`] characters.
pub fn question(text: &str) -> String {
    let shown = |character| if character == '\n' { character } else { shown(character) };
    text.chars().take(MAX_QUESTION).map(shown).collect()
}

/// A message of ours as it is written to standard error, behind `fakessh: ` and with a line feed.
/// Further lines are indented: nothing but our own first line ever stands at the beginning.
pub fn ours(text: &str) -> String {
    let mut message = String::from("fakessh: ");
    for (number, line) in split(text).enumerate() {
        let line = word(line, MAX_OWN_LINE);
        if number > 0 {
            message.push_str(if line.starts_with(' ') { "\n" } else { "\n  " });
        }
        message.push_str(&line);
    }
    message.push('\n');
    message
}

/// Lines for a terminal of so many columns: what does not fit goes on below, indented. The terminal
/// would break the line itself, and who chose its words could choose as well what stands at the
/// beginning of a row.
pub fn folded(lines: &str, columns: usize) -> String {
    if columns < MIN_COLUMNS {
        return lines.to_owned();
    }
    let mut folded = String::with_capacity(lines.len());
    let mut column = 0;
    for character in lines.chars() {
        // Some are twice as wide. Rather too early than too late.
        let width = match character {
            '\n' => 0,
            character if character.is_ascii() => 1,
            _ => 2,
        };
        if column + width > columns {
            folded.push_str("\n  ");
            column = 2;
        }
        column = if character == '\n' { 0 } else { column + width };
        folded.push(character);
    }
    folded
}

/// The lines of a text that are not empty, without the blanks at their ends.
fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '\r']).map(str::trim_end).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every character that is not shown.
    fn hidden() -> impl Iterator<Item = char> {
        ('\0'..=char::MAX).filter(|&character| !is_shown(character))
    }

    #[test]
    fn ranges_are_in_order() {
        assert!(NOT_SHOWN.iter().all(|(first, last)| first <= last));
        assert!(NOT_SHOWN.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn what_terminals_and_readers_are_led_astray_with_is_not_shown() {
        let controls = ('\0'..='\x1f').chain('\x7f'..='\u{9f}');
        let directions = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let others = "\u{ad}\u{61c}\u{200b}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{2060}\
                      \u{feff}\u{e0001}\u{e0041}\u{e007f}\u{fff9}\u{1d173}";
        for character in controls.chain(directions).chain(others.chars()) {
            assert!(!is_shown(character), "{character:?}");
        }
        for character in "aZ~ \u{a0}\u{e4}\u{20ac}\u{5d0}\u{627}\u{4e2d}\u{1f600}\u{fffd}".chars() {
            assert!(is_shown(character), "{character:?}");
        }
    }

    #[test]
    fn no_function_lets_anything_through() {
        let all: String = hidden().flat_map(|character| ['x', character]).collect();
        for text in [word(&all, usize::MAX), one_line(&all)] {
            assert!(text.chars().all(is_shown), "{text:?}");
        }
        for text in [said(&all, &all), question(&all), ours(&all)] {
            assert!(text.chars().all(|character| character == '\n' || is_shown(character)));
        }
    }

    #[test]
    fn quotes_are_one_line() {
        assert_eq!(
            one_line("Welcome\r\n\n\x1b[2Jto \x07web1\ty\n"),
            "Welcome | \u{fffd}[2Jto \u{fffd}web1 y"
        );
        assert_eq!(one_line(" \n\r\n"), "");
        let long = one_line(&"x".repeat(1 << 20));
        assert_eq!(long.len(), MAX_QUOTE + CUT.len());
    }

    #[test]
    fn each_line_of_somebody_else_says_who() {
        assert_eq!(
            said("web1 says: ", "a\r\n\nfakessh: b\rc"),
            "web1 says: a\nweb1 says: fakessh: b\nweb1 says: c"
        );
        assert_eq!(said("we\nb1: ", "a"), "we\u{fffd}b1: a");
        let many = said("h: ", &"x\n".repeat(100_000));
        assert_eq!(many.lines().count(), MAX_LINES + 1);
        assert!(many.ends_with("h: ..."));
    }

    #[test]
    fn only_our_first_line_stands_at_the_beginning() {
        assert_eq!(ours("a\x1b[2Jb\r\n"), "fakessh: a\u{fffd}[2Jb\n");
        assert_eq!(
            ours("what\n  web1+\n     ^\nfakessh: x"),
            "fakessh: what\n  web1+\n     ^\n  fakessh: x\n"
        );
    }

    #[test]
    fn what_does_not_fit_goes_on_indented() {
        let forged = format!("web1 says: {}fakessh: password: ", " ".repeat(9));
        let shown = "web1 says:          \n  fakessh: password:\n   ";
        assert_eq!(folded(&forged, 20), shown);
        assert_eq!(folded("ab\ncd", 80), "ab\ncd");
        let wide = folded(&"\u{4e2d}".repeat(30), 20);
        assert_eq!(wide.lines().next().unwrap().chars().count(), 10);
        assert_eq!(folded(&forged, 0), forged);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Against the tables of the regex crates.
        #[test]
        fn all_of_these_categories_are_hidden(text in "[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]{8}") {
            prop_assert!(!text.chars().any(is_shown), "{:?}", text);
        }

        #[test]
        fn letters_marks_numbers_and_signs_are_shown(text in "[\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Zs}]{8}") {
            prop_assert!(text.chars().all(is_shown), "{:?}", text);
        }
    }
}
