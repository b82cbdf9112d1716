//! The house rules that can be checked by reading the source as text: who imports whom, how long a
//! file is, and where the lints that the workspace sets are switched off.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod api;
mod imports;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{Source, crates};

/// No file is longer.
const MOST_LINES: usize = 500;

/// Today's files that import each other in a circle, by crate. These numbers only go down.
const KNOWN_CIRCLES: [(&str, usize); 2] = [("cli", 2), ("shim", 2)];

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let graph: BTreeMap<String, BTreeSet<String>> =
        crates().iter().map(|it| (it.name.clone(), it.dependencies.clone())).collect();
    assert!(graph.len() > 5, "crates were not found: {graph:?}");
    let circles = imports::circles(&graph);
    assert!(circles.is_empty(), "crates that depend on each other: {circles:?}");
}

#[test]
fn files_import_each_other_in_one_direction() {
    for it in crates() {
        let graph = imports::graph(&it.modules());
        let circles = imports::circles(&graph);
        let found: usize = circles.iter().map(Vec::len).sum();
        let known = KNOWN_CIRCLES.iter().find(|(folder, _)| *folder == it.folder);
        let known = known.map_or(0, |(_, files)| *files);
        let shown: Vec<String> = circles.iter().map(|circle| circle.join(", ")).collect();
        assert!(
            found <= known,
            "{found} files of {} import each other, and only {known} may:\n{}",
            it.folder,
            shown.join("\n")
        );
        if found < known {
            println!("{} has {found} files in circles: lower KNOWN_CIRCLES", it.folder);
        }
    }
}

#[test]
fn no_file_is_too_long() {
    let long = |source: &&Source| source.text.lines().count() > MOST_LINES;
    let sources = source::all();
    assert!(sources.len() > 300, "source files were not found");
    let found: Vec<&str> = sources.iter().filter(long).map(|source| &*source.path).collect();
    assert!(found.is_empty(), "longer than {MOST_LINES} lines: {found:?}");
}

/// The workspace denies what these lints are about, in all places that do not allow it again.
#[test]
fn lints_are_switched_off_only_where_that_is_agreed() {
    for source in source::all() {
        let name = source.path.rsplit('/').next().unwrap_or_default();
        let is_system = name == "sys.rs" || source.path.contains("/sys/");
        for (number, line) in source.lines_without_tests() {
            let place = format!("{}:{}: {line}", source.path, number + 1);
            let allows = line.contains("allow(") || line.contains("expect(");
            assert!(
                is_system || !(allows && line.contains("unsafe_code")),
                "unsafe code belongs into sys.rs or a folder sys: {place}"
            );
            let panics =
                line.contains("clippy::unwrap_used") || line.contains("clippy::expect_used");
            assert!(
                source.is_test() || !panics || line.contains("reason = "),
                "only tests may panic: {place}"
            );
        }
    }
}
