//! Which hop somebody may have meant who wrote another word.

use crate::hop::KINDS;

/// The kind of hop, or `ssh`, whose name is as good as this word.
pub(super) fn nearest(word: &str) -> Option<&'static str> {
    // Two changes make any short word into any other.
    let most = match word.len() {
        0..2 => 0,
        2..5 => 1,
        _ => 2,
    };
    let names = KINDS.iter().map(|kind| kind.name()).chain(["ssh"]);
    let lower = word.to_lowercase();
    // Longer words are near to nothing, and the table grows with them.
    let longest = names.clone().map(str::len).max().unwrap_or(0) + most;
    if lower.len() > longest {
        return None;
    }
    let (changes, name) =
        names.map(|name| (changes(&lower, name), name)).min_by_key(|(changes, _)| *changes)?;
    (changes <= most).then_some(name)
}

/// How many letters are to be added, left out, changed or swapped with their neighbour.
fn changes(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut table = vec![vec![0; to.len() + 1]; from.len() + 1];
    for row in 0..=from.len() {
        for column in 0..=to.len() {
            table[row][column] = match (row, column) {
                (0, count) | (count, 0) => count,
                _ => {
                    let other = usize::from(from[row - 1] != to[column - 1]);
                    let mut least = (table[row - 1][column] + 1)
                        .min(table[row][column - 1] + 1)
                        .min(table[row - 1][column - 1] + other);
                    let swapped = row > 1
                        && column > 1
                        && from[row - 1] == to[column - 2]
                        && from[row - 2] == to[column - 1];
                    if swapped {
                        least = least.min(table[row - 2][column - 2] + 1);
                    }
                    least
                }
            };
        }
    }
    table[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_fingers_are_near() {
        for (word, name) in [
            ("dokcer", "docker"),
            ("Docker", "docker"),
            ("podmann", "podman"),
            ("kubctl", "kubectl"),
            ("sduo", "sudo"),
            ("incsu", "incus"),
        ] {
            assert_eq!(nearest(word), Some(name), "{word}");
        }
        for word in ["", "web1", "bastion", "db", "s", &"docker".repeat(1000)] {
            assert_eq!(nearest(word), None, "{word}");
        }
    }
}
