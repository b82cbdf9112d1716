//! `--password-file`: passwords of hops for programs that run without a person.

use std::path::PathBuf;

use anyhow::Context as _;
use fakessh::daemon::client;

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
    /// Reads it, where one was given: from here on questions of hops are answered by it.
    pub(super) fn read(&self) -> anyhow::Result<()> {
        let Some(path) = &self.password_file else { return Ok(()) };
        let failed = || format!("--password-file {}", path.display());
        let password = if path.as_os_str() == "-" {
            client::first_line(std::io::stdin().lock(), MAX_PASSWORD)
        } else {
            let file = std::fs::File::open(path).with_context(failed)?;
            client::first_line(file, MAX_PASSWORD)
        };
        client::answer_hops_with(password.with_context(failed)?);
        Ok(())
    }
}
