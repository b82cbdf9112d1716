//! `fakessh env`: a line for a shell, so that its `ssh`, `scp` and `sftp` use held connections.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::links::{self, NAMES};
use super::place::Place;
use super::shell::Shell;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  eval \"$(fakessh env)\"                     # sh, bash, zsh
  fakessh env --shell fish | source
  eval \"`fakessh env --shell csh`\"          # csh, tcsh

The directory with the links is $XDG_DATA_HOME/fakessh/bin, or ~/.local/share/fakessh/bin. Nothing is
printed if it is first on PATH already. For all shells there is `fakessh shim install`.")]
pub(super) struct Arguments {
    /// The shell that reads the line
    #[arg(long, value_enum, default_value = "sh")]
    shell: Shell,
}

pub(super) fn env(arguments: &Arguments) -> anyhow::Result<u8> {
    let program = links::program()?;
    let directory = private_directory()?;
    links::make(&directory, &program)?;
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).next().is_none_or(|first| first != directory) {
        let mut line = arguments.shell.line(&directory);
        line.push(b'\n');
        io::stdout().write_all(&line).context("can't print the line")?;
    }
    Ok(0)
}

/// A directory of fakessh's own that nobody else can change; made if it is missing.
///
/// # Errors
/// If others could put programs there, or if it has another use.
fn private_directory() -> anyhow::Result<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    let data = data.context("neither XDG_DATA_HOME nor HOME is set; set one to a directory")?;
    let failed = |path: &Path| format!("can't make the directory {}", path.display());
    DirBuilder::new().recursive(true).mode(0o700).create(&data).with_context(|| failed(&data))?;
    let data = fs::canonicalize(&data).with_context(|| failed(&data))?;
    let parent = data.join("fakessh");
    let directory = parent.join("bin");
    for path in [&parent, &directory] {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| failed(path));
            }
            _ => {}
        }
    }
    if directory.as_os_str().as_bytes().contains(&b':') {
        bail!(
            "{} has a colon in its name, and so can't stand in PATH; set XDG_DATA_HOME to another \
             directory",
            directory.display()
        );
    }
    for path in directory.ancestors() {
        let is_ours = [&*directory, &*parent].contains(&path);
        let place = if is_ours { Place::OursAlone } else { Place::Above };
        place.check(path, "set XDG_DATA_HOME to a directory that only you can write to")?;
    }
    if let Some(other) = other_than_links(&directory)? {
        bail!(
            "{} holds other things than fakessh's links ({}), and would be first on PATH; remove them",
            directory.display(),
            other.display().to_string().escape_debug()
        );
    }
    Ok(directory)
}

/// Something in the directory that is none of the links.
fn other_than_links(directory: &Path) -> anyhow::Result<Option<OsString>> {
    let failed = || format!("can't read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        // What a replacement of a link leaves that was interrupted is a link to fakessh.
        let is_ours = NAMES.iter().any(|ours| name == *ours || is_left_by(&name, ours));
        if !is_ours {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn is_left_by(name: &OsString, link: &str) -> bool {
    let rest = name.as_bytes().strip_prefix(b".").and_then(|it| it.strip_prefix(link.as_bytes()));
    rest.is_some_and(|rest| rest.starts_with(b"-"))
}
