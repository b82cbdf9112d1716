//! Names of files in what `ssh -G` prints.
//!
//! It prints several names with spaces between them, and a name that holds a space no other way.
//! What is meant decides which keys of a host are believed, so it is not guessed.

use std::path::{Path, PathBuf};

/// A word that may be a file of its own as well as the rest of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// The files in a value of `ssh -G`. Relative names are meant from `directory`.
///
/// A word that begins like a path begins a name. Any other word is the rest of the name before it
/// if only the whole name exists, and a relative name if only the name before it exists.
///
/// # Errors
/// If both could be meant. A file in the current directory must not count by that: it may be
/// somebody else's.
pub(super) fn split(
    value: &str,
    home: Option<&Path>,
    directory: &Path,
) -> Result<Vec<PathBuf>, Ambiguous> {
    let home = home.and_then(Path::to_str).filter(|home| home.starts_with('/'));
    // Names that are built in hold the home directory as it is.
    let value = match home.filter(|home| home.contains(' ')) {
        Some(home) => value.replace(&format!("{home}/"), "~/"),
        None => value.to_owned(),
    };
    let exists = |name: &str| {
        let path = match (name.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => directory.join(name),
        };
        path.symlink_metadata().is_ok_and(|found| !found.is_dir())
    };
    let begins_path = |word: &str| word.starts_with(['/', '~', '%', '$']);
    let mut names: Vec<String> = Vec::new();
    for word in value.split(' ') {
        let Some(last) = names.last_mut().filter(|_| !begins_path(word)) else {
            names.push(word.to_owned());
            continue;
        };
        let whole = format!("{last} {word}");
        match (exists(&whole), exists(last), exists(word)) {
            (true, false, false) => *last = whole,
            (false, true, _) => names.push(word.to_owned()),
            (false, false, false) if begins_path(last) => *last = whole,
            (false, false, false) => names.push(word.to_owned()),
            _ => return Err(Ambiguous),
        }
    }
    Ok(names.into_iter().map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(value: &str, home: &str, directory: &Path) -> Result<Vec<String>, Ambiguous> {
        let files = split(value, Some(Path::new(home)), directory)?;
        Ok(files.into_iter().map(|file| file.to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn paths_are_told_from_one_another_by_how_they_begin() {
        let nowhere = Path::new("/nonexistent");
        let found = names("/root/.ssh/kh /tmp/a b/kh ~/zz %d/k", "/root", nowhere).unwrap();
        assert_eq!(found, ["/root/.ssh/kh", "/tmp/a b/kh", "~/zz", "%d/k"]);
        assert_eq!(names("k/a k/b", "/root", nowhere).unwrap(), ["k/a", "k/b"]);
    }

    #[test]
    fn a_home_with_a_space_is_no_riddle() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("Doe/.ssh")).unwrap();
        std::fs::write(directory.path().join("Doe/.ssh/known_hosts"), "").unwrap();
        let value = "/home/Jane Doe/.ssh/known_hosts /home/Jane Doe/.ssh/known_hosts2";
        let found = names(value, "/home/Jane Doe", directory.path()).unwrap();
        assert_eq!(found, ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"]);
    }

    #[test]
    fn a_file_in_the_current_directory_makes_no_name_of_the_rest_of_another() {
        let (home, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let home_name = home.path().to_str().unwrap();
        let look = || names("~/My Files/kh", home_name, here.path());
        assert_eq!(look().unwrap(), ["~/My Files/kh"]);
        std::fs::create_dir(here.path().join("Files")).unwrap();
        std::fs::write(here.path().join("Files/kh"), "").unwrap();
        assert_eq!(look(), Err(Ambiguous));
        std::fs::create_dir(home.path().join("My Files")).unwrap();
        std::fs::write(home.path().join("My Files/kh"), "").unwrap();
        assert_eq!(look(), Err(Ambiguous));
        std::fs::remove_file(here.path().join("Files/kh")).unwrap();
        assert_eq!(look().unwrap(), ["~/My Files/kh"]);
    }

    #[test]
    fn two_relative_names_are_two_files() {
        let here = tempfile::tempdir().unwrap();
        std::fs::create_dir(here.path().join("k")).unwrap();
        std::fs::write(here.path().join("k/a"), "").unwrap();
        assert_eq!(names("k/a k/b", "/root", here.path()).unwrap(), ["k/a", "k/b"]);
        std::fs::write(here.path().join("k/b"), "").unwrap();
        assert_eq!(names("k/a k/b", "/root", here.path()).unwrap(), ["k/a", "k/b"]);
    }
}
