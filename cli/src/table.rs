//! Prints lists for people and for programs. This is the last place before the terminal, whatever
//! the master has filtered.

use std::io::{self, Write};

use fakessh_protocol::printable::{self, MAX_QUOTE};

/// Writes rows under a heading, with their columns aligned.
pub(super) fn write<const COLUMNS: usize>(
    output: &mut impl Write,
    heading: [String; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> io::Result<()> {
    let rows = std::iter::once(heading).chain(rows);
    let rows: Vec<_> = rows.map(|row| row.each_ref().map(|cell| shown(cell))).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        writeln!(output, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// A cell, or a line, as it is printed.
pub(super) fn shown(text: &str) -> String {
    printable::word(text, MAX_QUOTE)
}

/// JSON that means the same and holds nothing that a terminal obeys.
pub(super) fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        // Line feeds stand between its parts alone: within strings they are escaped already.
        if character == '\n' || printable::is_shown(character) {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_same_and_harms_no_terminal() {
        let text = "a\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{e0041}\n\"\\\u{e4}";
        let json = escaped(&serde_json::to_string(&[text]).unwrap());
        assert!(json.chars().all(printable::is_shown), "{json}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
    }
}
