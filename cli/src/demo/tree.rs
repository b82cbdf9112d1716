//! The tree of files that the demo carries, and the proof that it arrived.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Directories of the tree.
const DIRECTORIES: usize = 40;

/// Files in each of them.
const FILES: usize = 25;

/// What a tree amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) entries: usize,
    pub(super) bytes: u64,
}

/// Makes a tree of files of many sizes, with modes, times and links.
pub(super) fn make(root: &Path) -> io::Result<Size> {
    let mut size = Size::default();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for number in 0..DIRECTORIES {
        let directory = root.join(format!("directory {number}"));
        fs::create_dir_all(&directory)?;
        for file in 0..FILES {
            let path = directory.join(format!("file-{file}"));
            // From nothing to 64 KiB, of bytes that do not repeat soon.
            let length = (number * FILES + file) * 7919 % 65_537;
            let mut state = (number * FILES + file) as u32 | 1;
            let bytes = (0..length).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            fs::write(&path, bytes.collect::<Vec<u8>>())?;
            let mode = [0o644, 0o600, 0o755][file % 3];
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            let modified = long_ago + Duration::from_secs((number * FILES + file) as u64);
            fs::File::options().append(true).open(&path)?.set_modified(modified)?;
            size.bytes += length as u64;
        }
        symlink("file-1", directory.join("link"))?;
        size.entries += FILES + 2;
    }
    Ok(size)
}

/// The first difference between two trees: names, kinds, contents, modes, times of files, targets
/// of links.
pub(super) fn difference(left: &Path, right: &Path) -> io::Result<Option<String>> {
    let (mut ours, mut theirs) = (names(left)?, names(right)?);
    ours.sort();
    theirs.sort();
    if ours != theirs {
        return Ok(Some(format!("{} has other names than {}", right.display(), left.display())));
    }
    for name in ours {
        let (a, b) = (left.join(&name), right.join(&name));
        let (of_a, of_b) = (fs::symlink_metadata(&a)?, fs::symlink_metadata(&b)?);
        let same = if of_a.is_dir() && of_b.is_dir() {
            if let Some(difference) = difference(&a, &b)? {
                return Ok(Some(difference));
            }
            of_a.mode() == of_b.mode()
        } else if of_a.is_symlink() && of_b.is_symlink() {
            fs::read_link(&a)? == fs::read_link(&b)?
        } else {
            of_a.mode() == of_b.mode()
                && of_a.mtime() == of_b.mtime()
                && fs::read(&a)? == fs::read(&b)?
        };
        if !same {
            return Ok(Some(format!("{} is not as {}", b.display(), a.display())));
        }
    }
    Ok(None)
}

fn names(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_seen() {
        let base = tempfile::tempdir().unwrap();
        let (left, right) = (base.path().join("a"), base.path().join("b"));
        assert_eq!(make(&left).unwrap(), make(&right).unwrap());
        assert_eq!(difference(&left, &right).unwrap(), None);

        let file = right.join("directory 3/file-7");
        let spoil: [&dyn Fn(); 4] = [
            &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap(),
            &|| fs::write(&file, "other").unwrap(),
            &|| fs::remove_file(&file).unwrap(),
            &|| symlink("/", &file).unwrap(),
        ];
        for spoil in spoil {
            spoil();
            assert!(difference(&left, &right).unwrap().is_some());
        }
    }
}
