//! What the user's configuration says of the audit log.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;

/// How commands are noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Commands {
    /// By their SHA-256: who knows a command can find it, and who guesses a short one, too.
    #[default]
    Hash,
    /// As they are.
    Clear,
    /// Not at all.
    None,
}

/// What is said under `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether there is a log.
    pub enabled: bool,
    /// Where it is: an absolute path, or one that begins with `~/`.
    pub file: Option<PathBuf>,
    /// How commands are noted.
    pub commands: Commands,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { enabled: true, file: None, commands: Commands::default() }
    }
}

impl Settings {
    /// Whether the file's name can be used.
    pub(crate) fn is_valid(&self) -> bool {
        let file = self.file.as_ref();
        file.is_none_or(|file| file.is_absolute() || file.starts_with("~"))
    }

    /// Where the log is; `None` where there is to be none, or there is no home.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.path_with(|name| std::env::var_os(name))
    }

    /// `$XDG_STATE_HOME/fakessh/audit.jsonl`, else `~/.local/state/fakessh/audit.jsonl` (XDG Base
    /// Directory Specification, which has relative paths ignored).
    fn path_with(&self, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        if !self.enabled {
            return None;
        }
        let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        if let Some(file) = &self.file {
            return match file.strip_prefix("~") {
                Ok(rest) => Some(absolute("HOME")?.join(rest)),
                Err(_) => Some(file.clone()),
            };
        }
        let state = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
        Some(state.join("fakessh/audit.jsonl"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_where_state_belongs_or_where_it_is_said() {
        let path = |settings: &Settings, state: &str| {
            let variable = |name: &str| match name {
                "HOME" => Some("/home/ana".into()),
                "XDG_STATE_HOME" => Some(state.into()),
                _ => None,
            };
            settings.path_with(variable).map(|path| path.display().to_string())
        };
        let default = Settings::default();
        let usual = "/home/ana/.local/state/fakessh/audit.jsonl";
        assert_eq!(path(&default, "").as_deref(), Some(usual));
        assert_eq!(path(&default, "relative").as_deref(), Some(usual));
        assert_eq!(path(&default, "/state").as_deref(), Some("/state/fakessh/audit.jsonl"));
        let file = |file: &str| Settings { file: Some(file.into()), ..Settings::default() };
        assert_eq!(path(&file("~/a.jsonl"), "").as_deref(), Some("/home/ana/a.jsonl"));
        assert_eq!(path(&file("/var/log/a"), "/state").as_deref(), Some("/var/log/a"));
        assert!(!file("a.jsonl").is_valid() && file("~/a").is_valid() && default.is_valid());
        assert_eq!(path(&Settings { enabled: false, ..default }, "/state"), None);
    }
}
