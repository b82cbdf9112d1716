//! `fakessh shim`: links of this program as `ssh`, `scp` and `sftp`.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use fakessh::daemon::client::say;

use super::links::{self, NAMES};
use super::place::Place;
use super::shell::Shell;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: ShimCommand,
}

#[derive(clap::Subcommand, Debug)]
enum ShimCommand {
    /// Link this program as ssh, scp and sftp into a directory
    #[command(after_help = "\
With these links early on PATH, every ssh, scp and sftp uses the connections that are held. What
fakessh can't do is left to the real ssh. Nothing is overwritten that is no link to fakessh. For one
shell alone there is `fakessh env`.")]
    Install(Directory),
    /// Remove these links again, and nothing else
    Uninstall(Directory),
}

#[derive(clap::Args, Debug)]
struct Directory {
    /// The directory, which is made if it is missing [default: ~/.local/bin]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Directory {
    fn path(self) -> anyhow::Result<PathBuf> {
        let directory = match self.directory {
            Some(directory) => directory,
            None => {
                let home = env::var_os("HOME").filter(|home| !home.is_empty());
                let home = home.context("HOME is not set; name the directory for the links")?;
                Path::new(&home).join(".local/bin")
            }
        };
        std::path::absolute(&directory)
            .with_context(|| format!("can't use {} as a directory", directory.display()))
    }
}

pub(super) fn shim(arguments: Arguments) -> anyhow::Result<u8> {
    match arguments.command {
        ShimCommand::Install(directory) => install(&directory.path()?),
        ShimCommand::Uninstall(directory) => uninstall(&directory.path()?),
    }
}

fn install(directory: &Path) -> anyhow::Result<u8> {
    let program = links::program()?;
    let failed = || format!("can't make the directory {}", directory.display());
    fs::create_dir_all(directory).with_context(failed)?;
    check(directory)?;
    links::make(directory, &program)?;
    let mut text = Vec::new();
    for place in NAMES.map(|name| directory.join(name)) {
        text.extend(place.as_os_str().as_bytes());
        text.extend(b" -> ");
        text.extend(program.as_os_str().as_bytes());
        text.push(b'\n');
    }
    if let Some(why) = why_not_found(directory) {
        let shell = Shell::named(&env::var_os("SHELL").unwrap_or_default());
        let file = shell.startup_file();
        let advice = format!("\n{why}. Add this line to {file}, and start a new shell:\n\n    ");
        text.extend(advice.as_bytes());
        text.extend(shell.line(directory));
        text.push(b'\n');
    } else {
        text.extend(b"\nA shell that has run ssh before may remember the other one: hash -r\n");
    }
    // If nobody reads it, the links are there all the same.
    let _ = io::stdout().write_all(&text);
    Ok(0)
}

fn uninstall(directory: &Path) -> anyhow::Result<u8> {
    let (removed, left) = links::remove(directory)?;
    for place in &left {
        say(&format!("{} is no link to fakessh, and is left as it is", place.display()));
    }
    if removed.is_empty() {
        say(&format!("{} has no links to fakessh", directory.display()));
    }
    let lines: Vec<String> =
        removed.iter().map(|place| format!("removed {}\n", place.display())).collect();
    let _ = io::stdout().write_all(lines.concat().as_bytes());
    Ok(0)
}

/// Refuses a directory in which, or through which, others could put an `ssh` of their own.
fn check(directory: &Path) -> anyhow::Result<()> {
    let shown = directory.display();
    if directory.as_os_str().as_bytes().contains(&b':') {
        bail!("{shown} has a colon in its name, and so can't stand in PATH; name another one");
    }
    let real = fs::canonicalize(directory).with_context(|| format!("can't look at {shown}"))?;
    let remedy = "name another directory";
    Place::Shared.check(&real, remedy)?;
    real.ancestors().skip(1).try_for_each(|above| Place::Above.check(above, remedy))
}

/// Why an `ssh` that somebody types is not the one in this directory.
fn why_not_found(directory: &Path) -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let place = directory.display();
    for other in env::split_paths(&path).filter(|other| other.is_absolute()) {
        if links::is_same(&other, directory) {
            return None;
        }
        let ssh = other.join("ssh");
        let is_program = fs::metadata(&ssh).is_ok_and(|it| it.is_file() && it.mode() & 0o111 != 0);
        if is_program && !links::is_same(&ssh, &directory.join("ssh")) {
            let is_there = env::split_paths(&path).any(|it| links::is_same(&it, directory));
            let other = other.display();
            return Some(if is_there {
                format!("{place} comes after {other} on PATH, where there is another ssh")
            } else {
                format!("{place} is not on PATH")
            });
        }
    }
    Some(format!("{place} is not on PATH"))
}
