//! `--persist`: how long what a command connects to is held.

use std::ffi::OsString;

use fakessh::lifetime::{Persist, Rules};
use fakessh::route::Names;

use super::own;

#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct HeldFor {
    /// Hold what DEST leads to for so long while nothing uses it: 10m, 8h, 1h30m, seconds; yes for
    /// ever, no for not at all [default: config.toml, or 8h; 15m behind sudo, su and doas]
    #[arg(long, value_name = "TIME")]
    persist: Option<Persist>,
}

impl HeldFor {
    /// Takes it out of words that are ssh's otherwise.
    ///
    /// # Errors
    /// Where it lacks its time, or that is none.
    pub(super) fn take_from(words: &mut Vec<OsString>) -> anyhow::Result<HeldFor> {
        let time = own::take_from(words, "--persist")?;
        let persist = time.map(|time| time.to_string_lossy().parse()).transpose()?;
        Ok(HeldFor { persist })
    }

    /// The rules of the user's configuration, with what was asked for.
    pub(super) fn rules(&self, names: &Names) -> Rules {
        Rules { asked: self.persist, ..names.rules() }
    }
}
