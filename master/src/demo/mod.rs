//! The whole thing on one machine, with no server and no keys needed: an SSH server inside this
//! process, a connection to it as to any host, and the main job over it, verified.

mod job;
mod program;
pub mod server;
mod tree;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thiserror::Error;

use crate::caller::{AskNobody, Caller};
use crate::context::{ContextError, Registry};
use crate::directory::{Directory, DirectoryError};
use crate::run::{Hosts, Run, RunDestination};
use crate::ssh_config::Target;
use crate::tool::{ServeError, ServedRun};

use job::Job;
use server::{ClientKey, DemoServer};

/// Short commands that are timed.
const COMMANDS: usize = 100;

/// Short commands with a login each: enough for an average, and few enough not to wait for.
const LOGINS: usize = 10;

/// How long its files may resist their removal, and how long is waited between two tries. A program
/// that was killed writes until the kernel gets to it, which a machine under load may take long for.
const REMOVAL: Duration = Duration::from_secs(60);
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// The name by which the tools of the demo call the server.
const NAME: &str = "demo";

/// Why the demo did not succeed.
#[derive(Debug, Error)]
pub enum DemoError {
    /// Something of this machine.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    /// No directory for sockets.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// No run.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// No connection.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A tool failed.
    #[error("{0} ended with status {1}")]
    Tool(String, u8),
    /// What arrived is not what was sent.
    #[error("not verified: {0}")]
    Different(String),
}

/// What the demo did and saw.
#[derive(Clone, Debug)]
pub struct Report {
    /// The tool that carried the tree.
    pub tool: &'static str,
    /// Files, links and directories in the tree.
    pub entries: usize,
    /// Bytes of the tree's files, carried once each way.
    pub bytes: u64,
    /// Time of both ways together.
    pub carried_in: Duration,
    /// Logins that the server counted for all of it.
    pub logins: usize,
    /// `ssh` command lines that were served.
    pub invocations: u64,
    /// Short commands.
    pub commands: usize,
    /// Average time of one.
    pub command: Duration,
    /// Average time of one with a login of its own, by the real ssh.
    pub command_with_login: Option<Duration>,
}

/// Does all of it, and leaves nothing behind, also where it fails or is cancelled: then there is
/// no report. Dropped, it does not see its own programs end, and may leave files.
///
/// # Errors
/// [`DemoError`]: then something was not verified.
pub async fn demo(cancelled: impl Future<Output = ()>) -> Result<Option<Report>, DemoError> {
    let system = |what| move |error| DemoError::System(what, error);
    let scratch = tempfile::Builder::new().prefix("fakessh-demo-").tempdir();
    let scratch = scratch.map_err(system("can't make a directory"))?;
    let base = Directory::at(scratch.path().join("master"))?;
    let key = ClientKey::generate().map_err(system("can't make a key"))?;
    let server = DemoServer::start(&key).await.map_err(system("can't start a server"))?;
    let target = target(scratch.path(), &key, &server).map_err(system("can't write a key"))?;

    let registry = Registry::default();
    let caller = Caller::current(Arc::new(AskNobody)).map_err(system("no directory"))?;
    let report = tokio::select! {
        biased;
        () = cancelled => Ok(None),
        report = served(scratch.path(), &base, &registry, &caller, &target, &server) => {
            report.map(Some)
        }
    };
    registry.close_all().await;
    server.stop().await;
    remove(scratch).await.map_err(system("can't remove its files"))?;
    report
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
    base: &Directory,
    registry: &Registry,
    caller: &Caller,
    target: &Target,
    server: &DemoServer,
) -> Result<Report, DemoError> {
    let context = registry.context(target, caller).await?;
    let destination = Some(RunDestination::new(target.into()));
    let hosts = Hosts::Mapped { on: None, destination, routes: Default::default() };
    let run = Run::new(hosts, registry.clone(), caller);
    let run = ServedRun::start(Arc::new(run), base)?;
    let job = Job { scratch, run: &run };
    let done = match job.carry().await {
        Ok(carried) => job.commands(COMMANDS).await.map(|command| (carried, command)),
        Err(error) => Err(error),
    };
    run.finish().await;
    let (carried, command) = done?;
    let (logins, invocations) = (server.logins(), context.served());
    if logins != 1 {
        return Err(DemoError::Different(format!("there were {logins} logins and not one")));
    }
    // Each way was one, and so was each command.
    if invocations < COMMANDS as u64 + 2 {
        let text = format!("only {invocations} of {} ssh command lines came here", COMMANDS + 2);
        return Err(DemoError::Different(text));
    }
    Ok(Report {
        tool: carried.tool,
        entries: carried.entries,
        bytes: carried.bytes,
        carried_in: carried.time,
        logins,
        invocations,
        commands: COMMANDS,
        command,
        command_with_login: job::with_login(&target.words(), LOGINS).await?,
    })
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

impl Target {
    /// The words that lead `ssh` here.
    fn words(&self) -> Vec<OsString> {
        let mut words = self.connection.clone();
        if let Some(port) = self.port {
            words.extend(["-p".into(), port.to_string().into()]);
        }
        words.push((&self.host).into());
        words
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let megabytes = self.bytes as f64 / 1e6;
        let mut row = |what: &str, value: String| writeln!(f, "  {what:<44}{value:>12}");
        row("logins", self.logins.to_string())?;
        row("ssh command lines served", self.invocations.to_string())?;
        row(
            &format!("{} of {} entries, there and back", self.tool, self.entries),
            format!("{:.2} s", self.carried_in.as_secs_f64()),
        )?;
        row("bytes in its files, each way", format!("{megabytes:.1} MB"))?;
        row(&format!("one of {} short commands", self.commands), milliseconds(self.command))?;
        match self.command_with_login {
            Some(time) => row("one with a login of its own (the real ssh)", milliseconds(time)),
            None => row("one with a login of its own", "no ssh here".into()),
        }
    }
}
