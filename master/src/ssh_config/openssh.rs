//! Asking the real `ssh` what its configuration says.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::caller::Caller;

use super::defaults::defaults;
use super::resolved::Dump;
use super::tokens::Tokens;
use super::{Resolved, Target};

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
const USUAL_SSH: &str = "/usr/bin/ssh";

/// The configuration could not be had.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// `ssh -G` did not accept the options or the configuration file.
    #[error("cannot read the ssh configuration of '{host}': {message}")]
    Rejected {
        /// The host that was looked up.
        host: String,
        /// What `ssh` said.
        message: String,
    },
    /// `ssh` could not be run.
    #[error("cannot run {}: {error}", program.display())]
    NotRun {
        /// The program that was tried.
        program: PathBuf,
        /// Why not.
        error: String,
    },
    /// `ssh -G` did not end in time.
    #[error(
        "the ssh configuration of '{host}' took more than {} seconds to read; look at its \
         'Match exec' lines",
        TIMEOUT.as_secs()
    )]
    TimedOut {
        /// The host that was looked up.
        host: String,
    },
    /// The configuration wants something for the way to the host that we can't do.
    #[error(
        "the ssh configuration of '{host}' sets {keyword}, which is not supported; \
         use -o {keyword}={off} if the host can be reached without"
    )]
    Unsupported {
        /// The host that was looked up.
        host: String,
        /// The keyword.
        keyword: &'static str,
        /// The value that switches it off.
        off: &'static str,
    },
    /// There is no `ssh` to read a configuration file with.
    #[error(
        "no ssh program was found, and '{0}' needs it to be understood; install openssh-client"
    )]
    NeedsSsh(String),
}

/// Looks a host up as `ssh` would, with the environment, the directory and the options of the
/// caller.
///
/// Without an OpenSSH client the built-in defaults of `ssh` are used, with the options `-i`, `-l`
/// and `-p` alone: configuration files are not read then, and a warning says so in the log.
///
/// # Errors
/// [`ConfigError`]. Cancel safe: `ssh` is killed.
pub async fn resolve(target: &Target, caller: &Caller) -> Result<Resolved, ConfigError> {
    let Some(ssh) = find_ssh(caller) else {
        tracing::warn!("no ssh program found: configuration files are not read");
        return super::without_ssh::resolve(target, caller);
    };
    resolve_with(&ssh, target, caller).await
}

pub(super) async fn resolve_with(
    ssh: &Path,
    target: &Target,
    caller: &Caller,
) -> Result<Resolved, ConfigError> {
    let words = words(target);
    let own = dump(ssh, &words, &target.host, caller);
    let (own, defaults) = tokio::try_join!(own, defaults(ssh, caller))?;
    settle(&Dump::read(&own), target, &Dump::read(&defaults), caller)
}

/// The settings of a host.
pub(super) fn settle(
    own: &Dump,
    target: &Target,
    defaults: &Dump,
    caller: &Caller,
) -> Result<Resolved, ConfigError> {
    if let Some(keyword) = own.refused() {
        let off = if keyword == "ProxyUseFdpass" { "no" } else { "none" };
        return Err(ConfigError::Unsupported { host: target.host.clone(), keyword, off });
    }
    let resolved = own.resolved(target, &caller.directory, defaults);
    Ok(finish(resolved, own.value("identityagent"), own.is_disabled("identityagent"), caller))
}

/// The command line behind the program's name.
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

/// Expands what `ssh -G` has left, and settles which agent it is.
fn finish(mut resolved: Resolved, agent: Option<&str>, off: bool, caller: &Caller) -> Resolved {
    let tokens = Tokens::new(&resolved, caller);
    let expand = |files: &[PathBuf]| files.iter().map(|file| tokens.file(file)).collect();
    let identity_files = expand(&resolved.identity_files);
    let certificate_files = expand(&resolved.certificate_files);
    let user_known_hosts_files = expand(&resolved.user_known_hosts_files);
    let global_known_hosts_files = expand(&resolved.global_known_hosts_files);
    let of_environment = |name: &str| caller.variable(name).map(PathBuf::from);
    let identity_agent = match agent {
        _ if off => None,
        None | Some("SSH_AUTH_SOCK") => of_environment("SSH_AUTH_SOCK"),
        Some(name) if name.starts_with('$') && !name.starts_with("${") => {
            of_environment(name.trim_start_matches('$'))
        }
        Some(path) => Some(tokens.file(Path::new(path))),
    };
    let revoked_host_keys = expand(&resolved.revoked_host_keys);
    let identity_agent = identity_agent.filter(|path| !path.as_os_str().is_empty());
    resolved.identity_files = identity_files;
    resolved.certificate_files = certificate_files;
    resolved.user_known_hosts_files = user_known_hosts_files;
    resolved.global_known_hosts_files = global_known_hosts_files;
    resolved.revoked_host_keys = revoked_host_keys;
    resolved.identity_agent = identity_agent;
    resolved
}

impl Dump {
    fn is_disabled(&self, keyword: &str) -> bool {
        self.raw(keyword).is_some_and(|value| value.eq_ignore_ascii_case("none"))
    }
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
    let mut command = Command::new(ssh);
    crate::fd_limit::give_back(command.as_std_mut());
    command
        .args(words)
        .env_clear()
        .envs(caller.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(caller.open_directory())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
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
        Err(_) => Err(ConfigError::TimedOut { host: host.to_owned() }),
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
fn find_ssh(caller: &Caller) -> Option<PathBuf> {
    let usual = PathBuf::from(USUAL_SSH);
    if is_program(&usual) {
        return Some(usual);
    }
    let path = caller.variable("PATH").unwrap_or(OsStr::new("/usr/bin:/bin:/usr/local/bin"));
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute() && !is_run_directory(directory))
        .map(|directory| directory.join("ssh"))
        .find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A directory that holds our shim holds the socket of its master, too.
pub(crate) fn is_run_directory(directory: &Path) -> bool {
    directory.join("master").metadata().is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::caller::AskNobody;

    use super::*;

    fn caller(directory: &Path) -> Caller {
        let environment = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("SSH_AUTH_SOCK".into(), "/run/agent".into()),
        ];
        Caller { environment, directory: directory.into(), ask: Arc::new(AskNobody) }
    }

    #[tokio::test]
    async fn the_configuration_file_of_the_command_line_counts() {
        if !is_program(Path::new(USUAL_SSH)) {
            eprintln!("skipped: no {USUAL_SSH}");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let text = "Match host web1 exec \"test -f here\"\n  HostName 10.0.0.1\n  User bob\n\
                    Host *\n  IdentityFile keys/%r\n  ProxyCommand relay %h\n  IdentityAgent none\n";
        std::fs::write(directory.path().join("config"), text).unwrap();
        std::fs::write(directory.path().join("here"), "").unwrap();
        let connection = ["-F", "config", "-oPort=2222"].map(OsString::from).to_vec();
        let target = Target { host: "web1".into(), user: None, port: Some(22), connection };
        let resolved = resolve(&target, &caller(directory.path())).await.unwrap();
        assert_eq!((resolved.hostname.as_str(), resolved.user.as_str()), ("10.0.0.1", "bob"));
        assert_eq!(resolved.port, 22, "the port of the destination wins");
        assert_eq!(resolved.identity_files, [directory.path().join("keys/bob")]);
        assert_eq!(resolved.identity_agent, None);
        let command = resolved.proxy_command.clone().unwrap();
        let caller = caller(directory.path());
        assert_eq!(
            super::super::expand_proxy_command(&command, &resolved, &caller),
            "relay 10.0.0.1"
        );
        assert_eq!(resolved.algorithms, crate::ssh_config::Algorithms::default());
    }

    #[tokio::test]
    async fn what_would_be_dropped_is_named_and_a_plain_configuration_is_not() {
        if !is_program(Path::new(USUAL_SSH)) {
            eprintln!("skipped: no {USUAL_SSH}");
            return;
        }
        // As Debian ships it.
        let text = "Host agent\n  ForwardAgent yes\n  RequestTTY yes\nHost keys\n  \
                    KnownHostsCommand /bin/true\nHost *\n  SendEnv LANG LC_*\n  \
                    HashKnownHosts yes\n  GSSAPIAuthentication yes\n";
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config"), text).unwrap();
        let look_up = async |host: &str| {
            let connection = vec!["-Fconfig".into()];
            let target = Target { host: host.into(), connection, ..Target::default() };
            resolve(&target, &caller(directory.path())).await
        };
        assert_eq!(look_up("web1").await.unwrap().unsupported_notice(), None);
        let notice = look_up("agent").await.unwrap().unsupported_notice().unwrap();
        assert!(notice.contains("asks for ForwardAgent, RequestTTY for agent"), "{notice}");
        let error = look_up("keys").await.unwrap_err().to_string();
        assert!(error.contains("'keys' sets KnownHostsCommand, which is not"), "{error}");
    }

    #[tokio::test]
    async fn settings_for_sessions_do_not_hide_the_way() {
        if !is_program(Path::new(USUAL_SSH)) {
            eprintln!("skipped: no {USUAL_SSH}");
            return;
        }
        for setting in ["ForkAfterAuthentication=yes", "SessionType=subsystem", "SessionType=none"]
        {
            let connection = vec![format!("-o{setting}").into(), "-oPort=7".into()];
            let target = Target { host: "web1".into(), connection, ..Target::default() };
            let resolved = resolve(&target, &caller(Path::new("/"))).await.unwrap();
            assert_eq!(resolved.port, 7, "{setting}");
        }
    }

    #[tokio::test]
    async fn a_bad_option_is_reported_in_the_words_of_ssh() {
        if !is_program(Path::new(USUAL_SSH)) {
            eprintln!("skipped: no {USUAL_SSH}");
            return;
        }
        let connection = vec!["-oNoSuchThing=1".into()];
        let target = Target { host: "web1".into(), connection, ..Target::default() };
        let error = resolve(&target, &caller(Path::new("/"))).await.unwrap_err();
        assert!(error.to_string().contains("nosuchthing"), "{error}");
    }

    #[tokio::test]
    async fn commands_of_the_configuration_get_the_old_limit_of_open_files() {
        if !is_program(Path::new(USUAL_SSH)) {
            eprintln!("skipped: no {USUAL_SSH}");
            return;
        }
        let original = crate::fd_limit::tests::raised();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config"), "Match exec \"ulimit -Sn >limit\"\n")
            .unwrap();
        let connection = vec!["-Fconfig".into()];
        let target = Target { host: "web1".into(), connection, ..Target::default() };
        resolve(&target, &caller(directory.path())).await.unwrap();
        let limit = std::fs::read_to_string(directory.path().join("limit")).unwrap();
        assert_eq!(limit.trim(), original);
    }

    #[test]
    fn a_shim_is_not_taken_for_ssh() {
        let run = tempfile::tempdir().unwrap();
        assert!(!is_run_directory(run.path()));
        let _socket = std::os::unix::net::UnixListener::bind(run.path().join("master")).unwrap();
        assert!(is_run_directory(run.path()));
    }
}
