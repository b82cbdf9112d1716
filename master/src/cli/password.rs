//! `--password-file`: passwords of hops for programs that run without a person.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context as _;
use fakessh_shim::parse::takes_value;
use fakessh_shim::prompt;

/// Most bytes of a password file's first line.
const MAX_PASSWORD: usize = 4096;

#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct PasswordFile {
    /// File whose first line answers what sudo, su and doas ask, once each; - for standard input,
    /// /dev/fd/N for a descriptor
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordFile {
    /// Takes it out of words that are ssh's otherwise: it stands among the options, before the
    /// destination.
    ///
    /// # Errors
    /// Where it lacks its file.
    pub(super) fn take_from(words: &mut Vec<OsString>) -> anyhow::Result<PasswordFile> {
        const NAME: &str = "--password-file";
        let mut at = 0;
        while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
            if word == NAME {
                let file = words.get(at + 1).with_context(|| format!("{NAME} lacks its file"))?;
                let password_file = Some(PathBuf::from(file));
                words.drain(at..at + 2);
                return Ok(PasswordFile { password_file });
            }
            if let Some(file) = word.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('=')) {
                let password_file = Some(PathBuf::from(file));
                words.remove(at);
                return Ok(PasswordFile { password_file });
            }
            let Some(letters) = word.strip_prefix('-').filter(|letters| *letters != "-") else {
                break;
            };
            // A letter that takes a value ends the word, or has it in the next one.
            let takes = letters.bytes().position(takes_value);
            at += if takes.is_some_and(|place| place + 1 == letters.len()) { 2 } else { 1 };
        }
        Ok(PasswordFile::default())
    }

    /// Reads it, where one was given: from here on questions of hops are answered by it.
    pub(super) fn read(&self) -> anyhow::Result<()> {
        let Some(path) = &self.password_file else { return Ok(()) };
        let failed = || format!("--password-file {}", path.display());
        let file = if path.as_os_str() == "-" {
            // Without the buffer of `stdin()`: what follows the line is the tool's.
            std::io::stdin().as_fd().try_clone_to_owned().map(File::from)
        } else {
            File::open(path)
        };
        let password = prompt::read_password(file.with_context(failed)?, MAX_PASSWORD);
        prompt::answer_hops_with(password.with_context(failed)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(words: &[&str]) -> (Option<PathBuf>, Vec<OsString>) {
        let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let taken = PasswordFile::take_from(&mut words).unwrap();
        (taken.password_file, words)
    }

    #[test]
    fn it_is_taken_from_among_the_options_and_from_nowhere_else() {
        let rest = ["-F", "conf", "-vp22", "web1", "id"].map(OsString::from).to_vec();
        for words in [
            &["--password-file", "f", "-F", "conf", "-vp22", "web1", "id"][..],
            &["-F", "conf", "--password-file", "f", "-vp22", "web1", "id"],
            &["-F", "conf", "-vp22", "--password-file=f", "web1", "id"],
        ] {
            assert_eq!(taken(words), (Some("f".into()), rest.clone()), "{words:?}");
        }
        for words in
            [&["web1", "x", "--password-file", "f"][..], &["-o", "--password-file", "web1"], &[]]
        {
            assert_eq!(taken(words).0, None, "{words:?}");
        }
        let mut words = vec![OsString::from("--password-file")];
        assert!(PasswordFile::take_from(&mut words).is_err());
    }
}
