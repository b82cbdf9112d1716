//! Paths made absolute: without `.`, `..` and symbolic links (REALPATH, expand-path).

use rustix::fs::FileType;
use rustix::io::Errno;

/// Most bytes of a path, the zero byte at its end included (limits.h).
pub(crate) const PATH_MAX: usize = 4096;

/// Most symbolic links on the way: as OpenSSH.
const MAX_LINKS: usize = 33;

/// The working directory.
pub(crate) fn working_directory() -> Result<Vec<u8>, Errno> {
    Ok(rustix::process::getcwd(Vec::new())?.into_bytes())
}

/// Makes a path absolute. Its last part need not exist.
pub(crate) fn resolve(path: &[u8]) -> Result<Vec<u8>, Errno> {
    let (mut resolved, mut left) = match path {
        [] => return Err(Errno::NOENT),
        [b'/', rest @ ..] => (b"/".to_vec(), rest.to_vec()),
        _ => (working_directory()?, path.to_vec()),
    };
    bounded(&left)?;
    let mut links = 0;
    while !left.is_empty() {
        let slash = left.iter().position(|&byte| byte == b'/');
        let rest = slash.map(|slash| left.split_off(slash + 1));
        let part = left.strip_suffix(b"/").unwrap_or(&left);
        if !resolved.ends_with(b"/") {
            resolved.push(b'/');
        }
        match part {
            b"" | b"." => {}
            b".." => drop_last(&mut resolved),
            part => {
                resolved.extend(part);
                bounded(&resolved)?;
                let stat = match rustix::fs::lstat(&*resolved) {
                    Err(Errno::NOENT) if rest.is_none() => return Ok(resolved),
                    stat => stat?,
                };
                if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    left = follow(&mut resolved, rest)?;
                    continue;
                }
            }
        }
        left = rest.unwrap_or_default();
    }
    if resolved.len() > 1 && resolved.ends_with(b"/") {
        resolved.pop();
    }
    Ok(resolved)
}

/// Takes the symbolic link at the end of `resolved` off, and returns what is to be resolved in
/// place of it and the rest.
fn follow(resolved: &mut Vec<u8>, rest: Option<Vec<u8>>) -> Result<Vec<u8>, Errno> {
    let mut left = rustix::fs::readlink(&**resolved, Vec::new())?.into_bytes();
    if left.starts_with(b"/") {
        resolved.truncate(1);
    } else {
        drop_last(resolved);
    }
    if let Some(rest) = rest {
        if !left.ends_with(b"/") {
            left.push(b'/');
        }
        left.extend(rest);
    }
    bounded(&left)?;
    Ok(left)
}

/// Takes the last part off an absolute path, so that it ends with a slash.
fn drop_last(path: &mut Vec<u8>) {
    let last = path.strip_suffix(b"/").unwrap_or(path);
    let slash = last.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    path.truncate(slash + 1);
}

fn bounded(path: &[u8]) -> Result<(), Errno> {
    if path.len() < PATH_MAX { Ok(()) } else { Err(Errno::NAMETOOLONG) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn dots_and_slashes_go() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("/..", "/"),
            ("/../..//.", "/"),
            ("/dev/./../dev//null", "/dev/null"),
            ("/dev/", "/dev"),
            ("/no-such-file", "/no-such-file"),
            // OpenSSH does not look whether this is a directory.
            ("/dev/null/..", "/dev"),
        ] {
            assert_eq!(resolve(path.as_bytes()).as_deref(), Ok(expected.as_bytes()), "{path}");
        }
        assert_eq!(resolve(b".").ok(), working_directory().ok());
        assert_eq!(resolve(b""), Err(Errno::NOENT));
        assert_eq!(resolve(b"/no-such-file/"), Err(Errno::NOENT));
        assert_eq!(resolve(b"/no-such-file/x"), Err(Errno::NOENT));
        assert_eq!(resolve(b"/dev/null/x"), Err(Errno::NOTDIR));
        assert_eq!(resolve(&[b'a'; PATH_MAX]), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn links_are_followed_and_loops_end() {
        let directory = tempfile::tempdir().unwrap();
        // The real path, so that no links are compared.
        let root = directory.path().canonicalize().unwrap();
        let root = root.to_str().unwrap();
        std::fs::create_dir_all(format!("{root}/a/b")).unwrap();
        symlink("a/b", format!("{root}/relative")).unwrap();
        symlink(format!("{root}/a/"), format!("{root}/absolute")).unwrap();
        symlink("../loop/x", format!("{root}/a/loop")).unwrap();
        symlink("a/loop", format!("{root}/loop")).unwrap();
        symlink("missing", format!("{root}/dangling")).unwrap();
        let check = |path: &str, expected: Result<&str, Errno>| {
            let expected = expected.map(|path| format!("{root}/{path}").into_bytes());
            assert_eq!(resolve(format!("{root}/{path}").as_bytes()), expected, "{path}");
        };
        check("relative", Ok("a/b"));
        check("relative/..", Ok("a"));
        check("absolute/b/new", Ok("a/b/new"));
        check("dangling", Ok("missing"));
        check("dangling/x", Err(Errno::NOENT));
        check("loop", Err(Errno::LOOP));
    }
}
