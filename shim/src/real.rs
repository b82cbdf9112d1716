//! The real `ssh`, `scp` and `sftp`, for what is theirs: found on `PATH` with ourselves left out.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use fakessh_protocol::exit::TRANSPORT_FAILURE;

use crate::diagnostics::say;
use crate::parse::is_version_request;
use crate::place;

/// What we have become on the way to this process: in which process last, how often, and which files.
/// A program named `ssh` on `PATH` may lead back to us: a wrapper, or a copy of this program.
const GUARD: &str = "FAKESSH_REAL_SSH";

/// Most times that the real `ssh` may lead back to us: a ProxyCommand that calls `ssh` does so
/// rightly, once a jump.
const MAX_ROUNDS: usize = 8;

/// Where the programs are where `PATH` does not say.
const USUAL_PLACE: &str = "/usr/bin";

/// Becomes the real `ssh`, with the command line as it came. Returns, with the status to exit
/// with, only where that fails.
pub(crate) fn ssh(argv: &[OsString]) -> u8 {
    let arguments = argv.get(1..).unwrap_or_default();
    match command("ssh") {
        Ok(mut ssh) => {
            let error = ssh.args(arguments).exec();
            say(&format!("cannot run {}: {error}", ssh.get_program().display()));
        }
        Err(NotFound::Nowhere) if is_version_request(arguments) => {
            say(concat!(
                "version ",
                env!("CARGO_PKG_VERSION"),
                "; there is no OpenSSH client here"
            ));
            return 0;
        }
        Err(NotFound::Nowhere) => {
            say("this command line is for the real ssh, and none is on PATH or in /usr/bin");
        }
        Err(NotFound::LeadsBack) => {
            say("the ssh found on PATH leads back to this one; put the real ssh on PATH");
        }
    }
    TRANSPORT_FAILURE
}

/// Why there is no real program of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// There is none on `PATH` and none in the usual place.
    Nowhere,
    /// All that there are lead back to us.
    LeadsBack,
}

/// A command that becomes the real program of this name, to be executed by this process: the first
/// on `PATH`, else in the usual place, that is not this one and does not lead back to it.
pub(crate) fn command(name: &str) -> Result<Command, NotFound> {
    let guard = Guard::read(env::var(GUARD).ok().as_deref());
    let pid = std::process::id();
    let mut found = Candidate::all(name).peekable();
    found.peek().ok_or(NotFound::Nowhere)?;
    let is_real = |program: &Candidate| !guard.leads_back(program, pid);
    let program = found.find(is_real).filter(|_| guard.tried.len() < MAX_ROUNDS);
    let program = program.ok_or(NotFound::LeadsBack)?;
    let mut command = Command::new(&program.path);
    command.env(GUARD, guard.after(&program, pid));
    Ok(command)
}

/// The value of [`GUARD`].
#[derive(Debug, Default)]
struct Guard {
    /// The process that became another program last.
    last: u32,
    /// Device and inode of what was become, in order.
    tried: Vec<(u64, u64)>,
}

impl Guard {
    /// Reads a value. One that is none of ours says nothing.
    fn read(value: Option<&str>) -> Guard {
        let mut words = value.unwrap_or_default().split(' ');
        let last = words.next().and_then(|word| word.parse().ok());
        let file = |word: &str| {
            let (device, inode) = word.split_once(':')?;
            Some((device.parse().ok()?, inode.parse().ok()?))
        };
        match (last, words.map(file).collect()) {
            (Some(last), Some(tried)) => Guard { last, tried },
            _ => Guard::default(),
        }
    }

    /// Whether a program is on the way back to us. It is if it was tried in this very process. If it
    /// was tried in another process, it may be a real `ssh` with a ProxyCommand that calls `ssh`, but
    /// no script: that is a wrapper, which has called us.
    fn leads_back(&self, program: &Candidate, pid: u32) -> bool {
        self.tried.contains(&program.file) && (self.last == pid || program.is_script())
    }

    /// The value for the program that this process is about to become.
    fn after(&self, program: &Candidate, pid: u32) -> String {
        let mut value = pid.to_string();
        for (device, inode) in self.tried.iter().chain([&program.file]) {
            value.push_str(&format!(" {device}:{inode}"));
        }
        value
    }
}

/// A program on `PATH` that is not this one.
#[derive(Debug)]
struct Candidate {
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl Candidate {
    /// All of a name, in the order of `PATH`, and what is in the usual place. No run directory holds
    /// one.
    fn all(name: &str) -> impl Iterator<Item = Candidate> {
        let ourselves = fs::metadata("/proc/self/exe").ok().map(|us| file(&us));
        let path = env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<PathBuf> = env::split_paths(&path).collect();
        directories.push(PathBuf::from(USUAL_PLACE));
        let directories = directories.into_iter();
        let name = name.to_owned();
        directories
            .filter(|directory| directory.is_absolute() && !place::is_run_directory(directory))
            .filter_map(move |directory| Candidate::at(directory.join(&name)))
            .filter(move |program| Some(program.file) != ourselves)
    }

    /// The program at this path, if it is one.
    fn at(path: PathBuf) -> Option<Candidate> {
        let found = fs::metadata(&path).ok()?;
        let is_executable = found.is_file() && found.mode() & 0o111 != 0;
        is_executable.then(|| Candidate { path, file: file(&found) })
    }

    /// Whether another program reads it to run it.
    fn is_script(&self) -> bool {
        let mut beginning = [0; 2];
        let read = File::open(&self.path).and_then(|mut file| file.read_exact(&mut beginning));
        read.is_ok() && &beginning == b"#!"
    }
}

/// Device and inode, by which two paths are the same file.
fn file(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> (tempfile::NamedTempFile, Candidate) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let candidate = Candidate::at(file.path().to_owned()).unwrap();
        (file, candidate)
    }

    #[test]
    fn what_was_tried_in_this_process_leads_back() {
        let (_file, ssh) = program("\x7fELF");
        assert!(!Guard::default().leads_back(&ssh, 10));
        let value = Guard::default().after(&ssh, 10);
        let guard = Guard::read(Some(&value));
        assert!(guard.leads_back(&ssh, 10), "{value}");
        assert!(!guard.leads_back(&ssh, 11), "a ProxyCommand may call ssh");
        let (_other, other) = program("");
        assert!(!guard.leads_back(&other, 10));
        assert_eq!(Guard::read(Some(&guard.after(&other, 11))).tried, [ssh.file, other.file]);
    }

    #[test]
    fn a_script_that_was_tried_leads_back_from_any_process() {
        let (_file, wrapper) = program("#!/bin/sh\nssh \"$@\"\n");
        let guard = Guard::read(Some(&Guard::default().after(&wrapper, 10)));
        assert!(guard.leads_back(&wrapper, 11));
    }

    #[test]
    fn a_value_that_is_none_of_ours_says_nothing() {
        for value in ["", "nonsense", "1 2", "1 2:x", "x 1:2", "-1"] {
            let guard = Guard::read(Some(value));
            assert_eq!((guard.last, guard.tried.len()), (0, 0), "{value}");
        }
        assert_eq!(Guard::read(Some("7")).last, 7);
    }
}
