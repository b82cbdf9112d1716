//! Trees of files to copy, and what to hold two of them against each other by.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A directory whose name is not text.
const ODD_NAMES: &[u8] = b"odd names \xff";

/// All that is compared of one entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Type and permission bits.
    pub mode: u32,
    /// Modification time, seconds and nanoseconds; none for links and directories, which not
    /// every tool sets.
    pub modified: Option<(i64, i64)>,
    /// Content of a file, target of a link.
    pub content: Vec<u8>,
    /// For a file with several names, the first of them.
    pub linked_to: Option<PathBuf>,
}

/// Makes a tree of `count` small files in directories of a hundred, and beside them what copying
/// gets wrong: an empty file, one of 3 MiB, odd names, links (also broken), modes, old times, a
/// second name of a file, an empty directory.
pub fn make(root: &Path, count: usize) {
    fs::create_dir_all(root).expect("creating a tree");
    for number in 0..count {
        let directory = root.join(format!("d{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&directory).expect("creating a directory of a tree");
        }
        let file = directory.join(format!("f{number:05}"));
        let content = format!("file {number}\n").repeat(number % 50);
        fs::write(&file, content).expect("writing a file of a tree");
        set_time(&file, number as u64);
    }
    let odd = root.join(OsStr::from_bytes(ODD_NAMES));
    fs::create_dir(&odd).unwrap();
    for name in ["with space", "quote'\"", "star*", "new\nline", "-dash", "$HOME;x"] {
        fs::write(odd.join(name), name).unwrap();
    }
    fs::create_dir(root.join("empty directory")).unwrap();
    fs::write(root.join("empty file"), "").unwrap();
    let mut big = Vec::new();
    crate::pattern::write(&mut big, 3 << 20).unwrap();
    fs::write(root.join("big"), big).unwrap();
    symlink("big", root.join("link")).unwrap();
    symlink("../no/such/file", root.join("broken link")).unwrap();
    fs::hard_link(root.join("big"), root.join("second name of big")).unwrap();
    for mode in [0o600, 0o755, 0o444, 0o4711] {
        let file = root.join(format!("mode {mode:o}"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    }
}

/// As [`make`], without what scp does not carry: links, which it follows, also to nowhere, and
/// names that its old protocol can't say.
pub fn make_for_scp(root: &Path, count: usize) {
    make(root, count);
    for name in ["broken link", "link"] {
        fs::remove_file(root.join(name)).unwrap();
    }
    fs::remove_dir_all(root.join(OsStr::from_bytes(ODD_NAMES))).unwrap();
}

fn set_time(file: &Path, number: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000 + number * 977, 123_456_789);
    let file = File::options().write(true).open(file).expect("opening a file of a tree");
    file.set_modified(time).expect("setting a file's time");
}

/// Everything below a directory, by its path from there.
pub fn read(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut names = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("reading a tree") {
            let path = entry.expect("reading a tree").path();
            let metadata = fs::symlink_metadata(&path).expect("reading a tree");
            let name = path.strip_prefix(root).expect("a path below the root").to_owned();
            let mut content = Vec::new();
            let mut modified = None;
            if metadata.is_dir() {
                pending.push(path);
            } else if metadata.is_symlink() {
                content = fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec();
            } else {
                content = fs::read(&path).expect("reading a file of a tree");
                modified = Some((metadata.mtime(), metadata.mtime_nsec()));
                if metadata.nlink() > 1 {
                    let inode: &mut Vec<PathBuf> = names.entry(metadata.ino()).or_default();
                    inode.push(name.clone());
                }
            }
            let mode = metadata.mode();
            entries.insert(name, Entry { mode, modified, content, linked_to: None });
        }
    }
    for mut same in names.into_values() {
        same.sort();
        for name in &same {
            if let Some(entry) = entries.get_mut(name) {
                entry.linked_to = Some(same[0].clone());
            }
        }
    }
    entries
}

/// Holds two trees against each other, with all of [`Entry`].
///
/// # Panics
/// If they differ; the message names the first few differences.
#[track_caller]
pub fn assert_same(one: &Path, other: &Path) {
    assert_same_by(one, other, |_| {});
}

/// As [`assert_same`], but for what scp does not carry: further names of a file, fractions of a
/// second, and what a umask takes away.
///
/// # Panics
/// If they differ.
#[track_caller]
pub fn assert_same_for_scp(one: &Path, other: &Path) {
    assert_same_by(one, other, |entry| {
        entry.linked_to = None;
        entry.modified = entry.modified.map(|(seconds, _)| (seconds, 0));
        entry.mode &= 0o170_777;
    });
}

/// As [`assert_same`], after `forget` took from each entry what the tool does not carry.
///
/// # Panics
/// If they differ.
#[track_caller]
pub fn assert_same_by(one: &Path, other: &Path, forget: impl Fn(&mut Entry)) {
    let [mut first, mut second] = [read(one), read(other)];
    first.values_mut().chain(second.values_mut()).for_each(forget);
    let mut differences: Vec<String> = Vec::new();
    for (name, entry) in &first {
        match second.get(name) {
            None => differences.push(format!("only in the first: {}", name.display())),
            Some(copy) if copy != entry => {
                differences.push(format!("differs: {}", name.display()));
            }
            Some(_) => {}
        }
    }
    let more = second.keys().filter(|name| !first.contains_key(*name));
    differences.extend(more.map(|name| format!("only in the second: {}", name.display())));
    assert!(
        differences.is_empty(),
        "{} and {} differ in {} places:\n{}",
        one.display(),
        other.display(),
        differences.len(),
        differences[..differences.len().min(10)].join("\n")
    );
}
