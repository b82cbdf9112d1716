//! Runs the real `ssh -G`, which prints what the configuration says of a host.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::caller::Caller;

use super::{ConfigError, Target};

/// Longest that `ssh -G` may take. It runs `Match exec` commands, which may look things up in the
/// network.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How many may run at the same time. Each has some five descriptors here, and fifty programs that
/// start at once would run a hundred.
const MOST_AT_ONCE: usize = 32;

static AT_ONCE: Semaphore = Semaphore::const_new(MOST_AT_ONCE);

/// How long it is tried to start one while something is short that others may give back.
const SHORTAGE: Duration = Duration::from_secs(10);

/// The pause between two such tries.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(20);

/// What sessions are like has nothing to do with the way to a host, but with these settings
/// (`ForkAfterAuthentication yes`, `SessionType subsystem`) `ssh` gives no answer without a command.
const SESSION_COMPLAINTS: [&str; 2] =
    ["Cannot fork into background without a command", "You must specify a subsystem to invoke"];

/// The words that make it answer. Older ones don't know them, nor the settings.
const SESSION_DEFAULTS: [&str; 2] = ["-oForkAfterAuthentication=no", "-oSessionType=default"];

/// Most bytes that are read of its output: some hundred times what it prints.
const MAX_OUTPUT: u64 = 1 << 20;

/// Most bytes of its complaints that are kept.
const MAX_COMPLAINT: u64 = 4096;

/// Where `ssh` is looked for first: no `PATH` of a caller counts there.
pub(super) const USUAL_SSH: &str = "/usr/bin/ssh";

/// The words of the command line after the program's name.
pub(crate) fn words(target: &Target) -> Vec<OsString> {
    // Options of the destination come first: for ssh, the first value of a keyword wins.
    let mut words: Vec<OsString> = Vec::new();
    if let Some(user) = &target.user {
        words.extend(["-l".into(), user.into()]);
    }
    if let Some(port) = target.port {
        words.extend(["-p".into(), port.to_string().into()]);
    }
    words.extend(target.connection.iter().cloned());
    words.extend(["-G".into(), "--".into(), OsString::from(&target.host)]);
    words
}

/// Runs `ssh -G` and returns what it prints.
pub(super) async fn dump(
    ssh: &Path,
    words: &[OsString],
    host: &str,
    caller: &Caller,
) -> Result<String, ConfigError> {
    let ended = ask(ssh, words, host, caller).await?;
    if ended.status.success() {
        return Ok(ended.output);
    }
    if SESSION_COMPLAINTS.iter().any(|complaint| ended.complaint.contains(complaint)) {
        let words = [&SESSION_DEFAULTS.map(OsString::from), words].concat();
        let again = ask(ssh, &words, host, caller).await?;
        if again.status.success() {
            return Ok(again.output);
        }
    }
    // The last line only counts the others.
    let lines = ended.complaint.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.filter(|line| !line.contains(": terminating,")).collect();
    let message = match lines.as_slice() {
        [] => format!("ssh -G ended with {}", ended.status),
        lines => lines.join("; ").trim_end_matches('.').to_owned(),
    };
    Err(ConfigError::Rejected { host: host.to_owned(), message })
}

/// An `ssh -G` that has ended.
struct Ended {
    status: ExitStatus,
    output: String,
    complaint: String,
}

/// Runs `ssh -G` to its end.
async fn ask(
    ssh: &Path,
    words: &[OsString],
    host: &str,
    caller: &Caller,
) -> Result<Ended, ConfigError> {
    let mut command = caller.command(ssh);
    command.args(words);
    let not_run = |error: io::Error| {
        let error = crate::fd_limit::explain(&error);
        ConfigError::NotRun { program: ssh.to_owned(), error }
    };
    let _one_of_many = AT_ONCE.acquire().await;
    let mut child = spawn(&mut command).await.map_err(not_run)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let run = async {
        tokio::try_join!(bounded(stdout, MAX_OUTPUT), bounded(stderr, MAX_COMPLAINT), child.wait())
    };
    match tokio::time::timeout(TIMEOUT, run).await {
        Ok(ended) => {
            let (output, complaint, status) = ended.map_err(not_run)?;
            Ok(Ended { status, output, complaint })
        }
        Err(_) => Err(ConfigError::TimedOut { host: host.to_owned(), limit: TIMEOUT }),
    }
}

/// Starts a program, and waits a while for what it needs where others have it: descriptors,
/// processes, memory.
async fn spawn(command: &mut Command) -> io::Result<Child> {
    let begin = Instant::now();
    loop {
        match command.spawn() {
            Err(error) if is_shortage(&error) && begin.elapsed() < SHORTAGE => {
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
            spawned => return spawned,
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM))
}

/// Reads to the end and keeps the first `limit` bytes.
async fn bounded(source: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<String> {
    let Some(mut source) = source else { return Ok(String::new()) };
    let mut kept = Vec::new();
    (&mut source).take(limit).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut source, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

/// The real `ssh`: the usual one, else the first on the caller's `PATH` that is no shim of ours.
pub(super) fn find_ssh(caller: &Caller) -> Option<PathBuf> {
    let usual = PathBuf::from(USUAL_SSH);
    if is_program(&usual) {
        return Some(usual);
    }
    let path = caller.variable("PATH").unwrap_or(OsStr::new("/usr/bin:/bin:/usr/local/bin"));
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute() && !is_run_directory(directory))
        .map(|directory| directory.join("ssh"))
        .find(|program| is_program(program) && !is_ourselves(program))
}

/// Whether a path leads to this program: a link of the user's that is named `ssh`.
fn is_ourselves(path: &Path) -> bool {
    let file = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    file(path).is_some_and(|found| Some(found) == file(Path::new("/proc/self/exe")))
}

pub(super) fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A directory that holds our shim holds the socket of its master, too.
pub(crate) fn is_run_directory(directory: &Path) -> bool {
    directory.join("master").metadata().is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_is_not_taken_for_ssh() {
        let run = tempfile::tempdir().unwrap();
        assert!(!is_run_directory(run.path()));
        let _socket = std::os::unix::net::UnixListener::bind(run.path().join("master")).unwrap();
        assert!(is_run_directory(run.path()));
    }
}
