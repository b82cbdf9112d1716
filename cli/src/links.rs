//! Links to this program that are named `ssh`, `scp` and `sftp`, in a directory for `PATH`.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The programs that this one is by another name.
pub(super) const NAMES: [&str; 3] = ["ssh", "scp", "sftp"];

/// The name of this program.
const OURSELVES: &str = "fakessh";

/// What is in the place of a link.
enum Found {
    Nothing,
    /// A link to fakessh, perhaps to one that was moved, with what it leads to.
    Ours(PathBuf),
    Other,
}

/// The path by which this program is found again. What a package manager or a person has put in
/// place stays when the program is replaced, and what that leads to perhaps does not: so no link is
/// followed.
///
/// # Errors
/// If the program's file was removed.
pub(super) fn program() -> anyhow::Result<PathBuf> {
    let file = env::current_exe().context("can't find this program's own file")?;
    let file = fs::canonicalize(&file).with_context(|| {
        format!("this program's file, {}, is gone; run it again", file.display())
    })?;
    let called = env::args_os().next().unwrap_or_default();
    let named = if called.as_bytes().contains(&b'/') {
        std::path::absolute(called).ok()
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut places = env::split_paths(&path).filter(|directory| directory.is_absolute());
        places
            .find_map(|directory| Some(directory.join(&called)).filter(|program| program.is_file()))
    };
    Ok(named.filter(|named| is_same(named, &file)).unwrap_or(file))
}

/// Makes the links in a directory, or leaves those that are there. None is made if one can't be.
///
/// # Errors
/// If something else has one of the names, or a link can't be made.
pub(super) fn make(directory: &Path, program: &Path) -> anyhow::Result<()> {
    let places = NAMES.map(|name| directory.join(name));
    for place in &places {
        if let Found::Other = look_at(place)? {
            bail!(
                "{} is no link to fakessh, and is left as it is; remove it, or choose another \
                 directory",
                place.display()
            );
        }
    }
    for place in &places {
        let made = match look_at(place)? {
            Found::Ours(target) if target == program => Ok(()),
            Found::Ours(_) => replace(place, program),
            // It fails if something has come there meanwhile.
            Found::Nothing | Found::Other => symlink(program, place),
        };
        made.with_context(|| format!("can't make the link {}", place.display()))?;
    }
    Ok(())
}

/// Removes the links from a directory. Returns what was removed, and what was left because it is no
/// link to fakessh.
///
/// # Errors
/// If one can't be removed.
pub(super) fn remove(directory: &Path) -> anyhow::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut removed, mut left) = (Vec::new(), Vec::new());
    for place in NAMES.map(|name| directory.join(name)) {
        match look_at(&place)? {
            Found::Nothing => {}
            Found::Other => left.push(place),
            Found::Ours(_) => {
                fs::remove_file(&place)
                    .with_context(|| format!("can't remove {}", place.display()))?;
                removed.push(place);
            }
        }
    }
    Ok((removed, left))
}

fn look_at(place: &Path) -> anyhow::Result<Found> {
    let found = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        found => found.with_context(|| format!("can't look at {}", place.display()))?,
    };
    if !found.is_symlink() {
        return Ok(Found::Other);
    }
    let target = fs::read_link(place).with_context(|| format!("can't read {}", place.display()))?;
    let is_named_so = target.file_name() == Some(OsStr::new(OURSELVES));
    let is_ours = is_named_so || is_same(place, Path::new("/proc/self/exe"));
    Ok(if is_ours { Found::Ours(target) } else { Found::Other })
}

/// Puts another link in the place of one, so that there is one at any time.
fn replace(place: &Path, program: &Path) -> io::Result<()> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let new = place.with_file_name(format!(".{name}-{}", std::process::id()));
    symlink(program, &new)?;
    fs::rename(&new, place).inspect_err(|_| _ = fs::remove_file(&new))
}

/// Whether two paths lead to one file.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    file(one).is_some_and(|one| Some(one) == file(other))
}
