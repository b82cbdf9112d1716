//! The workspace's source files, read as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A crate of the workspace.
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Its folder, from the workspace's root.
    pub(crate) folder: String,
    /// Crates of the workspace that it needs, those of its tests included.
    pub(crate) dependencies: BTreeSet<String>,
}

/// A source file.
pub(crate) struct Source {
    /// Its path from the workspace's root.
    pub(crate) path: String,
    pub(crate) text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The members of the workspace.
pub(crate) fn crates() -> Vec<Crate> {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = workspace.lines().find(|line| line.starts_with("members = ")).unwrap();
    members.split('"').skip(1).step_by(2).map(Crate::read).collect()
}

impl Crate {
    fn read(folder: &str) -> Crate {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap();
        let mut dependencies = BTreeSet::new();
        let mut is_listed = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                is_listed = line.ends_with("dependencies]");
            } else if is_listed && line.starts_with("fakessh") {
                let end = line.find(['.', ' ', '=']).unwrap();
                dependencies.insert(line[..end].to_owned());
            }
        }
        let name = name.trim_matches('"').to_owned();
        Crate { name, folder: folder.to_owned(), dependencies }
    }

    /// Its modules without those of tests: by path (`crate::link::mux`), the file.
    pub(crate) fn modules(&self) -> BTreeMap<Vec<String>, Source> {
        // The program of the benchmarks is all that the crate of the tests has.
        let source = if self.folder == "tests" { "/src/bench" } else { "/src" };
        let source = format!("{}{source}", self.folder);
        let has_library = root().join(&source).join("lib.rs").exists();
        let mut modules = BTreeMap::new();
        for file in below(&root().join(&source)) {
            let path = file.path.strip_prefix(&source).unwrap().trim_start_matches('/');
            let mut names: Vec<String> = path.split('/').map(str::to_owned).collect();
            let last = names.pop().unwrap();
            if !["mod.rs", "lib.rs", "main.rs"].contains(&&*last) {
                names.push(last.trim_end_matches(".rs").to_owned());
            }
            // A program beside a library imports that library.
            let is_program = last == "main.rs" && has_library;
            if !is_program && !names.iter().any(|name| name == "tests") {
                modules.insert(names, file);
            }
        }
        modules
    }
}

/// All source files of the repository.
pub(crate) fn all() -> Vec<Source> {
    below(&root())
}

fn below(folder: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(below(&path));
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
    found
}

impl Source {
    /// Whether it is compiled for tests, benchmarks and fuzzing alone.
    pub(crate) fn is_test(&self) -> bool {
        let parts = ["tests/", "/tests/", "fuzz/"];
        parts.iter().any(|part| self.path.starts_with(part) || self.path.contains(part))
            || self.path.ends_with("/tests.rs")
    }

    /// Its lines without a module of tests, with their numbers from 0.
    pub(crate) fn lines_without_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_test = false;
        self.text.lines().enumerate().filter(move |(_, line)| {
            let was_test = is_test;
            is_test = match *line {
                "#[cfg(test)]" => true,
                // The end of what stands here, or the name of a file that holds it.
                line if line == "}" || (line.ends_with(';') && !line.starts_with(' ')) => false,
                _ => is_test,
            };
            !was_test && !is_test
        })
    }
}
