//! The command line of the benchmarks.

use std::path::PathBuf;

use crate::measure;

/// What `--help` prints, with the names of the measures in the place of `@MEASURES@`.
const USAGE: &str = "\
Usage: bench [--short] [--json FILE] [MEASURE...]

Measures fakessh against ControlMaster and plain ssh on servers of its own, and prints one table.
Needs the programs ssh, sshd, rsync, git and sftp.

  MEASURE      @MEASURES@; all of them without one
  --short      fewer and smaller, to see that everything works; its figures mean little
  --json FILE  write the same as JSON

The program is $FAKESSH_BIN, or the one beside this one. If $FAKESSH_BEFORE names an older one, L1,
L2, R1, T1, T2, T3 and K1 measure both in turns.
";

/// How the program is used.
pub(crate) fn usage() -> String {
    let names: Vec<&str> = measure::ALL.iter().map(|measure| measure.id).collect();
    USAGE.replace("@MEASURES@", &names.join(" "))
}

/// What is to be measured.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) short: bool,
    pub(super) json: Option<PathBuf>,
    names: Vec<String>,
}

/// What this process is to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The benchmarks.
    Measure(Arguments),
    /// The process that starts and times clients.
    Driver,
    /// A remote program that writes so many bytes.
    Produce(u64),
    /// Somebody who asks how to use it.
    Help,
}

impl Arguments {
    /// Whether a measure is wanted.
    pub(super) fn selects(&self, id: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name.eq_ignore_ascii_case(id))
    }
}

/// Reads the command line, without the program's name.
pub(super) fn parse(words: impl IntoIterator<Item = String>) -> Result<Parsed, String> {
    let mut words = words.into_iter();
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--short" => arguments.short = true,
            "--json" => {
                let file = words.next().ok_or("--json needs a file")?;
                arguments.json = Some(file.into());
            }
            "--help" | "-h" => return Ok(Parsed::Help),
            "--driver" => return Ok(Parsed::Driver),
            "--produce" => {
                let count = words.next().and_then(|count| count.parse().ok());
                return Ok(Parsed::Produce(count.ok_or("--produce needs a number of bytes")?));
            }
            name if measure::ALL.iter().any(|it| it.id.eq_ignore_ascii_case(name)) => {
                arguments.names.push(word);
            }
            _ => return Err(format!("there is no measure and no option {word}")),
        }
    }
    Ok(Parsed::Measure(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Parsed, String> {
        parse(words.iter().map(|&word| word.to_owned()))
    }

    #[test]
    fn measures_are_named_in_any_case_and_all_are_meant_without_one() {
        let Ok(Parsed::Measure(some)) = parsed(&["--short", "l1", "--json", "f", "T2"]) else {
            panic!("a command line that is refused");
        };
        assert!(some.short && some.selects("L1") && some.selects("T2") && !some.selects("T1"));
        assert_eq!(some.json, Some("f".into()));
        assert!(Arguments::default().selects("B1"));
        assert!(parsed(&["L9"]).is_err() && parsed(&["--json"]).is_err());
        assert!(measure::ALL.iter().all(|measure| usage().contains(measure.id)));
    }
}
