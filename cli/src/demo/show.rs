//! An SSH server inside this process, a connection to it as to any host, and the main job over it,
//! verified.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thiserror::Error;

use fakessh::caller::{AskNobody, Caller};
use fakessh::context::{ContextError, Reached, Registry};
use fakessh::lifetime::Rules;
use fakessh::run::{Hosts, Run, RunDestination};
use fakessh::runtime_dir::{RuntimeDir, RuntimeDirError};
use fakessh::ssh_config::Target;
use fakessh::tool::{ServeError, ServedRun};

use super::job::{self, Job, Way};
use super::server::{ClientKey, DemoServer};

/// Short commands that are timed.
const COMMANDS: usize = 100;

/// Short commands with a login each: enough for an average, and few enough not to wait for.
const LOGINS: usize = 10;

/// How long its files may resist their removal, and how long is waited between two tries. A program
/// that was killed writes until the kernel gets to it, which a machine under load may take long for.
const REMOVAL: Duration = Duration::from_secs(60);
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// Times that the account's shell is started to see how long its startup files take.
const SHELLS: usize = 5;

/// From this time on startup files are said to be slow: on a machine of today a plain `sh` starts
/// in one millisecond.
const SLOW: Duration = Duration::from_millis(10);

/// The name by which the tools of the demo call the server.
pub(super) const NAME: &str = "demo";

/// Why the demo did not succeed.
#[derive(Debug, Error)]
pub(crate) enum DemoError {
    /// Something of this machine.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    /// No directory for sockets.
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    /// No run.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// No connection.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] fakessh::Error),
    /// A tool failed.
    #[error("{0} ended with status {1}")]
    Tool(String, u8),
    /// What arrived is not what was sent.
    #[error("not verified: {0}")]
    Different(String),
}

/// Prints a step before it begins, and what came of it when it is done.
struct Steps {
    begin: Instant,
}

impl Steps {
    /// Begins a step.
    fn begin(what: &str) -> Steps {
        print!("  {what:<48}");
        // A demo whose output nobody reads goes on: its status says how it ended.
        let _ = io::stdout().flush();
        Steps { begin: Instant::now() }
    }

    /// The step is done, in this time.
    fn took(self) {
        let time = format!("{:.2} s", self.begin.elapsed().as_secs_f64());
        self.gave(&time);
    }

    /// The step is done, with this result.
    fn gave(self, result: &str) {
        let _ = writeln!(io::stdout(), "{result:>14}");
    }
}

fn row(what: &str, value: &str) {
    Steps::begin(what).gave(value);
}

/// Does all of it, and leaves nothing behind, also if it fails or is cancelled: then the result is
/// `None`. Dropped, it does not see its own programs end, and may leave files.
///
/// # Errors
/// [`DemoError`]: something was not verified.
pub(super) async fn show(cancelled: impl Future<Output = ()>) -> Result<Option<()>, DemoError> {
    let system = |what| move |error| DemoError::System(what, error);
    println!("One connection to an SSH server in this process, and tools that use it:\n");
    let step = Steps::begin("an SSH server, with keys of its own");
    let scratch = tempfile::Builder::new().prefix("fakessh-demo-").tempdir();
    let scratch = scratch.map_err(system("can't make a directory"))?;
    let base = RuntimeDir::at(scratch.path().join("master"))?;
    let key = ClientKey::generate().map_err(system("can't make a key"))?;
    let server = DemoServer::start(&key).await.map_err(system("can't start a server"))?;
    let target = target(scratch.path(), &key, &server).map_err(system("can't write a key"))?;
    step.took();

    let registry = Registry::default();
    let caller = Caller::current(Arc::new(AskNobody)).map_err(system("no directory"))?;
    let shown = tokio::select! {
        biased;
        () = cancelled => Ok(None),
        shown = served(scratch.path(), &base, &registry, &caller, &target, &server) => {
            shown.map(Some)
        }
    };
    registry.close_all().await;
    server.stop().await;
    remove(scratch).await.map_err(system("can't remove its files"))?;
    shown
}

/// Removes the files. Programs that are just being killed may still write to them.
async fn remove(scratch: TempDir) -> io::Result<()> {
    let path = scratch.keep();
    let begin = Instant::now();
    loop {
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) if begin.elapsed() < REMOVAL => tokio::time::sleep(REMOVAL_PAUSE).await,
            removed => return removed,
        }
    }
}

/// Everything that needs the connection.
async fn served(
    scratch: &Path,
    base: &RuntimeDir,
    registry: &Registry,
    caller: &Caller,
    target: &Target,
    server: &DemoServer,
) -> Result<(), DemoError> {
    let step = Steps::begin("a login, and the start of the slave");
    let reached = registry.reach(&target.into(), &Rules::default(), caller).await?;
    step.took();
    let destination = Some(RunDestination::new(target.into()));
    let hosts = Hosts::Mapped { on: None, destination, routes: Default::default() };
    let run = Run::new(hosts, registry.clone(), caller);
    let run = ServedRun::start(Arc::new(run), base)?;
    let job = Job { scratch, run: &run };
    let command = do_job(&job).await;
    run.finish().await;
    let command = command?;

    let (logins, invocations) = (server.logins(), reached.context.served());
    if logins != 1 {
        return Err(DemoError::Different(format!("there were {logins} logins and not one")));
    }
    // Each way was one, and so was each command.
    if invocations < COMMANDS as u64 + 2 {
        let text = format!("only {invocations} of {} ssh command lines came here", COMMANDS + 2);
        return Err(DemoError::Different(text));
    }
    let shells = startup_files(reached).await?;
    let step = Steps::begin(&format!("{LOGINS} with a login of their own (the real ssh)"));
    let with_login = job::with_login(&words(target), LOGINS).await?;
    step.gave(&with_login.map_or_else(|| "no ssh here".to_owned(), each));
    println!();
    row("logins, without those of the real ssh", &logins.to_string());
    row("ssh command lines served", &invocations.to_string());
    if shells >= SLOW {
        let without = |time: Duration| milliseconds(time.saturating_sub(shells));
        println!(
            "\n{} of each command are this account's startup files; with a plain sh: {}{}",
            milliseconds(shells),
            without(command),
            with_login.map_or_else(String::new, |time| format!(" against {}", without(time))),
        );
    }
    Ok(())
}

/// Carries the tree and runs the commands. Gives the average time of a command.
async fn do_job(job: &Job<'_>) -> Result<Duration, DemoError> {
    let step = Steps::begin("a tree of files");
    let tree = job.make_tree()?;
    step.gave(&format!("{:.1} MB", tree.bytes as f64 / 1e6));
    let tool = job.tool_to_carry().await;
    for way in [Way::There, Way::Back] {
        let step = Steps::begin(&format!("{} of {} entries, {way}", tool.name(), tree.entries));
        job.carry(tool, way).await?;
        step.took();
    }
    let step = Steps::begin("both copies, compared with the tree");
    job.compare()?;
    step.gave("identical");
    let step = Steps::begin(&format!("{COMMANDS} short commands, one after another"));
    let command = job.commands(COMMANDS).await?;
    step.gave(&each(command));
    Ok(command)
}

/// How much longer the account's own shell takes to start there than a plain `sh`: its startup
/// files, most of all. Of each the fastest start counts, so that other load of the machine does not.
async fn startup_files(reached: Reached) -> Result<Duration, DemoError> {
    let context = fakessh::Context::from(reached);
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..SHELLS {
        let commands = [context.shell("echo"), context.command("/bin/sh").args(["-c", "echo"])];
        for (command, fastest) in commands.into_iter().zip(&mut fastest) {
            let begin = Instant::now();
            command.output().await?;
            *fastest = begin.elapsed().min(*fastest);
        }
    }
    Ok(fastest[0].saturating_sub(fastest[1]))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn each(time: Duration) -> String {
    format!("{} each", milliseconds(time))
}

/// The server as a destination, with its key and its host key in files of our own.
fn target(scratch: &Path, key: &ClientKey, server: &DemoServer) -> io::Result<Target> {
    let identity = scratch.join("identity");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&identity)?;
    io::Write::write_all(&mut file, key.private_text()?.as_bytes())?;
    let known_hosts = scratch.join("known_hosts");
    std::fs::write(&known_hosts, server.known_hosts_line()?)?;
    let option = |key: &str, value: PathBuf| {
        let mut word = OsString::from(key);
        word.push("=");
        word.push(value);
        ["-o".into(), word]
    };
    let mut connection: Vec<OsString> = vec!["-F".into(), "none".into()];
    connection.extend(option("IdentityFile", identity));
    connection.extend(option("UserKnownHostsFile", known_hosts));
    connection.extend(option("IdentitiesOnly", "yes".into()));
    connection.extend(option("StrictHostKeyChecking", "yes".into()));
    connection.extend(option("HostName", server.address().ip().to_string().into()));
    Ok(Target { host: NAME.into(), user: None, port: Some(server.address().port()), connection })
}

/// The words that lead `ssh` to a destination.
fn words(target: &Target) -> Vec<OsString> {
    let mut words = target.connection.clone();
    if let Some(port) = target.port {
        words.extend(["-p".into(), port.to_string().into()]);
    }
    words.push((&target.host).into());
    words
}
