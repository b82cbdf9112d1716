//! The `ssh_config` that the lab's clients are given.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A file of `Host` blocks that can grow while a lab runs.
#[derive(Debug)]
pub struct ClientConfig {
    path: PathBuf,
    hosts: Mutex<Vec<(String, String)>>,
    defaults: String,
}

impl ClientConfig {
    /// A file at this path whose last block, for every host, holds these lines.
    pub(crate) fn new(path: PathBuf, defaults: String) -> ClientConfig {
        ClientConfig { path, hosts: Mutex::new(Vec::new()), defaults }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds or replaces the block of a name, with these lines (`"Port 22"`). The file changes at
    /// once and as a whole.
    pub fn host(&self, name: &str, lines: &[String]) {
        let mut hosts = self.hosts.lock().unwrap();
        hosts.retain(|(other, _)| other != name);
        hosts.push((name.to_owned(), lines.join("\n    ")));
        let mut text = String::new();
        for (name, lines) in hosts.iter() {
            writeln!(text, "Host {name}\n    {lines}\n").unwrap();
        }
        writeln!(text, "Host *\n{}", self.defaults).unwrap();
        let next = self.path.with_extension("next");
        std::fs::write(&next, text).expect("writing the lab's ssh_config");
        std::fs::rename(&next, &self.path).expect("renaming the lab's ssh_config");
    }
}
