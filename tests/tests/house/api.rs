//! The public items of the library, as a list in the repository: a change of them is seen in a diff.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::source::{self, Source};

/// The list.
const LIST: &str = "docs/public-api.txt";

/// Set to anything, it has the test write the list anew.
const WRITE: &str = "FAKESSH_WRITE_API";

/// The files in which the public items of the library are, but for those that are hidden from its
/// documentation.
const FILES: [&str; 14] = [
    "master/src/lib.rs",
    "master/src/ask.rs",
    "master/src/caller/mod.rs",
    "master/src/child/mod.rs",
    "master/src/child/status.rs",
    "master/src/child/streams.rs",
    "master/src/command.rs",
    "master/src/connection.rs",
    "master/src/error.rs",
    "master/src/fakessh.rs",
    "master/src/handle.rs",
    "master/src/runs.rs",
    "protocol/src/failure.rs",
    "protocol/src/message/shim.rs",
];

/// How a line begins that is the head of a public item.
const HEADS: [&str; 9] = [
    "pub fn ",
    "pub async fn ",
    "pub struct ",
    "pub enum ",
    "pub trait ",
    "pub const ",
    "pub mod ",
    "pub use ",
    "impl ",
];

#[test]
fn the_public_items_are_listed() {
    let sources = source::all();
    let mut list = String::from(
        "# The public items of the library, by file. FAKESSH_WRITE_API=1 cargo test -p fakessh-tests\n\
         # --test house writes this anew.\n",
    );
    for file in FILES {
        let source = sources.iter().find(|source| source.path == file);
        let source = source.unwrap_or_else(|| panic!("no {file}"));
        writeln!(list, "\n{file}").unwrap();
        for item in items(source) {
            writeln!(list, "    {item}").unwrap();
        }
    }
    let path = root().join(LIST);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &list).unwrap();
    }
    let listed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = list.lines().zip(listed.lines()).find(|(now, before)| now != before);
    assert!(
        list == listed,
        "the public items are others than {LIST} says (first: {differs:?}); if that is meant, run \
         {WRITE}=1 cargo test -p fakessh-tests --test house"
    );
}

/// The heads of the public items of a file, each on one line.
fn items(source: &Source) -> Vec<String> {
    let mut items = Vec::new();
    let mut lines = source.lines_without_tests().map(|(_, line)| line).peekable();
    let mut is_hidden = false;
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line == "#[doc(hidden)]" {
            is_hidden = true;
            continue;
        }
        if !HEADS.iter().any(|head| line.starts_with(head)) {
            is_hidden &= line.starts_with("#[") || line.starts_with("///");
            continue;
        }
        let mut head = line.to_owned();
        while !head.contains(['{', ';']) || (head.starts_with("pub use") && !head.contains(';')) {
            let Some(next) = lines.next() else { break };
            head.push(' ');
            head.push_str(next.trim());
        }
        let end = if head.starts_with("pub use") { ";" } else { "{" };
        let head = head.split_once(end).map_or(&*head, |(head, _)| head);
        if !std::mem::take(&mut is_hidden) {
            items.push(head.trim_end_matches(';').trim().to_owned());
        }
    }
    items
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
