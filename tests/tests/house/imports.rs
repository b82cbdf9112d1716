//! Which file of a crate takes something from which other one, as far as paths say it.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Source;

type Modules = BTreeMap<Vec<String>, Source>;
type Graph = BTreeMap<String, BTreeSet<String>>;

/// A path as it is written, and the name under which a module has it.
struct Path {
    names: Vec<String>,
    is_public: bool,
}

/// From each file of a crate to the files that it imports from. A name that a module passes on
/// (`pub use`) counts for the file that it comes from.
pub(crate) fn graph(modules: &Modules) -> Graph {
    let paths: BTreeMap<&Vec<String>, Vec<Path>> =
        modules.iter().map(|(module, source)| (module, paths(source))).collect();
    let mut graph = Graph::new();
    for (module, paths_of_module) in &paths {
        let from = &modules[*module].path;
        let to = graph.entry(from.clone()).or_default();
        // Who passes a name on does not use it.
        for path in paths_of_module.iter().filter(|path| !path.is_public) {
            if let Some(target) = resolve(modules, &paths, module, &path.names, 0) {
                // What a folder shares stands in its mod.rs, which may know its own files.
                if !module.starts_with(&target) {
                    to.insert(modules[&target].path.clone());
                }
            }
        }
    }
    graph
}

/// The module that a path leads to.
fn resolve(
    modules: &Modules,
    paths: &BTreeMap<&Vec<String>, Vec<Path>>,
    from: &[String],
    names: &[String],
    depth: usize,
) -> Option<Vec<String>> {
    let mut rest = names;
    let mut module = match rest.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => from.to_vec(),
        // A child is in reach by its name.
        first => {
            let child = [from, &[first.to_owned()]].concat();
            return modules
                .contains_key(&child)
                .then(|| resolve_in(modules, paths, child, &names[1..], depth));
        }
    };
    while let Some(first) = rest.first() {
        match first.as_str() {
            "crate" | "self" => {}
            "super" => _ = module.pop(),
            _ => break,
        }
        rest = &rest[1..];
    }
    Some(resolve_in(modules, paths, module, rest, depth))
}

fn resolve_in(
    modules: &Modules,
    paths: &BTreeMap<&Vec<String>, Vec<Path>>,
    mut module: Vec<String>,
    names: &[String],
    depth: usize,
) -> Vec<String> {
    for (at, name) in names.iter().enumerate() {
        let child = [&module[..], std::slice::from_ref(name)].concat();
        if modules.contains_key(&child) {
            module = child;
            continue;
        }
        let passed_on = paths
            .get(&module)
            .into_iter()
            .flatten()
            .find(|path| path.is_public && path.names.last() == Some(name));
        if let Some(path) = passed_on
            && depth < 8
        {
            let mut whole = path.names.clone();
            whole.extend_from_slice(&names[at + 1..]);
            return resolve(modules, paths, &module, &whole, depth + 1).unwrap_or(module);
        }
        break;
    }
    module
}

/// All paths of a file that can lead to another one of its crate.
fn paths(source: &Source) -> Vec<Path> {
    let lines = source.lines_without_tests().map(|(_, line)| without_comment(line));
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    let mut rest = &text[..];
    let mut other = String::new();
    // `use` first: it is the only place with braces in a path.
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].rsplit('\n').next().unwrap_or_default();
        let is_start = before.trim().is_empty() || before.trim_start().starts_with("pub");
        let Some(end) = rest[at..].find(';').filter(|_| is_start) else {
            other.push_str(&rest[..at + 4]);
            rest = &rest[at + 4..];
            continue;
        };
        other.push_str(&rest[..at]);
        let is_public = before.trim_start().starts_with("pub");
        leaves(&rest[at + 4..at + end], &[], is_public, &mut found);
        rest = &rest[at + end..];
    }
    other.push_str(rest);
    for start in ["crate::", "super::"] {
        for (at, _) in other.match_indices(start) {
            let end =
                other[at..].find(|it: char| !(it.is_alphanumeric() || it == '_' || it == ':'));
            let path = &other[at..end.map_or(other.len(), |end| at + end)];
            let is_inner = other[..at].ends_with("::");
            if !is_inner {
                leaves(path.trim_end_matches(':'), &[], false, &mut found);
            }
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

/// The paths of a tree such as `crate::{a::B, c::{D, E as F}}`.
fn leaves(tree: &str, before: &[String], is_public: bool, found: &mut Vec<Path>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let mut names = before.to_vec();
        names.extend(split(&tree[..open]));
        let inner = tree[open + 1..].trim_end().trim_end_matches('}');
        let inner = &tree[open + 1..open + 1 + inner.len()];
        let (mut depth, mut start) = (0, 0);
        for (at, it) in inner.char_indices() {
            match it {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    leaves(&inner[start..at], &names, is_public, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        leaves(&inner[start..], &names, is_public, found);
    } else if !tree.is_empty() {
        let path = tree.split(" as ").next().unwrap_or_default();
        let mut names = before.to_vec();
        names.extend(split(path));
        found.push(Path { names, is_public });
    }
}

fn split(path: &str) -> impl Iterator<Item = String> {
    path.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The circles of a graph: groups in which each one is reached from each other.
pub(crate) fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|node| (node, reached_from(graph, node))).collect();
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    for (node, others) in &reached {
        if others.contains(node) {
            let together = others
                .iter()
                .filter(|other| reached.get(*other).is_some_and(|back| back.contains(node)));
            circles.insert(together.map(|it| (*it).clone()).collect());
        }
    }
    circles.into_iter().collect()
}

fn reached_from<'a>(graph: &'a Graph, node: &str) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = graph[node].iter().collect();
    while let Some(node) = next.pop() {
        if reached.insert(node) {
            next.extend(graph.get(node).into_iter().flatten());
        }
    }
    reached
}
