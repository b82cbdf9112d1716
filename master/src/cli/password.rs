//! `--password-file`: passwords of hops for programs that run without a person.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
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
    /// Takes it from the front of words that are ssh's otherwise.
    ///
    /// # Errors
    /// Where it lacks its file.
    pub(super) fn take_from(words: &mut Vec<OsString>) -> anyhow::Result<PasswordFile> {
        const NAME: &str = "--password-file";
        let Some(first) = words.first().and_then(|word| word.to_str()) else {
            return Ok(PasswordFile::default());
        };
        let password_file = if let Some(path) = first.strip_prefix("--password-file=") {
            PathBuf::from(path)
        } else if first == NAME {
            PathBuf::from(words.get(1).with_context(|| format!("{NAME} lacks its file"))?)
        } else {
            return Ok(PasswordFile::default());
        };
        words.drain(..if first == NAME { 2 } else { 1 });
        Ok(PasswordFile { password_file: Some(password_file) })
    }

    /// Reads it, where one was given: from here on questions of hops are answered by it.
    pub(super) fn read(&self) -> anyhow::Result<()> {
        let Some(path) = &self.password_file else { return Ok(()) };
        let failed = || format!("--password-file {}", path.display());
        let password = if path.as_os_str() == "-" {
            prompt::read_password(std::io::stdin().lock(), MAX_PASSWORD)
        } else {
            let file = std::fs::File::open(path).with_context(failed)?;
            prompt::read_password(file, MAX_PASSWORD)
        };
        prompt::answer_hops_with(password.with_context(failed)?);
        Ok(())
    }
}
