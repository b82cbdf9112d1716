//! An `SSH_ASKPASS` that answers, and notes what it was asked.

use std::fs;
use std::path::PathBuf;

use crate::files::write_script;
use crate::{Lab, Tool};

/// Gives its answers one a call, and the last one from then on.
#[derive(Debug)]
pub struct Askpass(PathBuf);

impl Askpass {
    /// With a directory of this name for itself.
    pub fn new(lab: &Lab, name: &str, answers: &[&str]) -> Askpass {
        let dir = lab.local_dir(name);
        for (number, answer) in answers.iter().enumerate() {
            let file = dir.join(format!("answer{}", number + 1));
            fs::write(file, format!("{answer}\n")).expect("writing an answer");
        }
        let script = format!(
            "#!/bin/sh\ncd '{}'\necho \"$1\" >>asked\necho >>calls\nn=$(wc -l <calls)\n\
             while [ ! -e answer$n ]; do n=$((n - 1)); done\ncat answer$n\n",
            dir.display()
        );
        write_script(&dir.join("askpass"), &script);
        Askpass(dir)
    }

    /// Lets it be asked, and no terminal.
    #[must_use]
    pub fn for_tool(&self, tool: Tool) -> Tool {
        tool.env("SSH_ASKPASS", self.0.join("askpass")).env("SSH_ASKPASS_REQUIRE", "force")
    }

    /// What was asked.
    pub fn asked(&self) -> String {
        fs::read_to_string(self.0.join("asked")).unwrap_or_default()
    }

    /// How often something was asked.
    pub fn count(&self) -> usize {
        fs::read_to_string(self.0.join("calls")).unwrap_or_default().lines().count()
    }
}
