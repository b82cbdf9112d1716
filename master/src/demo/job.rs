//! The main job: a tree there and back, then short commands.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::{DemoError, NAME, tree};
use crate::tool::ServedRun;

/// Carries a tree where there is no rsync. `$1` is the source and `$2` the destination, both paths
/// on this machine; `$3` says on which side of the connection the source is.
const WITH_TAR: &str = r#"
mkdir -p "$2" || exit 1
case $3 in
there) tar -C "$1" -c . | ssh demo "tar -C '$2' -xp" ;;
back) ssh demo "tar -C '$1' -c ." | tar -C "$2" -xp ;;
esac
"#;

/// Where the job is done.
pub(super) struct Job<'a> {
    pub(super) scratch: &'a Path,
    pub(super) run: &'a ServedRun,
}

/// What was carried.
pub(super) struct Carried {
    pub(super) tool: &'static str,
    pub(super) entries: usize,
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

impl Job<'_> {
    /// Carries a tree to the server and back, and compares.
    pub(super) async fn carry(&self) -> Result<Carried, DemoError> {
        let system = |what| move |error| DemoError::System(what, error);
        let source = self.scratch.join("source");
        let there = self.scratch.join("there");
        let back = self.scratch.join("back");
        let size = tree::make(&source).map_err(system("can't make a tree"))?;
        let with_rsync = Command::new("rsync")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .await
            .is_ok_and(|status| status.success());
        let begin = Instant::now();
        for (from, to, way) in [(&source, &there, "there"), (&there, &back, "back")] {
            let tool = if with_rsync {
                let mut rsync = self.tool("rsync")?;
                let remote = |path: &Path| {
                    let mut name = OsString::from(format!("{NAME}:"));
                    name.push(path);
                    name
                };
                let slash = |path: &Path| path.join("");
                match way {
                    "there" => rsync.arg("-a").arg(slash(from)).arg(remote(&slash(to))),
                    _ => rsync.arg("-a").arg(remote(&slash(from))).arg(slash(to)),
                };
                rsync
            } else {
                let mut shell = self.tool("sh")?;
                shell.args(["-c", WITH_TAR, "sh"]).arg(from).arg(to).arg(way);
                shell
            };
            let status = Tool::run(tool).await.map_err(system("can't run a tool"))?;
            if !status.success() {
                let name = if with_rsync { "rsync" } else { "ssh with tar" };
                return Err(DemoError::Tool(name.into(), status.code().unwrap_or(255) as u8));
            }
        }
        let time = begin.elapsed();
        for copy in [&there, &back] {
            let difference = tree::difference(&source, copy);
            if let Some(difference) = difference.map_err(system("can't read the copy"))? {
                return Err(DemoError::Different(difference));
            }
        }
        let tool = if with_rsync { "rsync" } else { "ssh and tar (no rsync here)" };
        Ok(Carried { tool, entries: size.entries, bytes: size.bytes, time })
    }

    /// Runs short commands one after another, and gives the average time of one.
    pub(super) async fn commands(&self, count: usize) -> Result<Duration, DemoError> {
        let ssh = self.run.directory().path().join("ssh");
        let mut total = Duration::ZERO;
        for number in 0..count {
            let mut tool = self.tool(&ssh)?;
            tool.args([NAME, "echo"]).arg(number.to_string());
            total += echoes(tool, number).await?;
        }
        Ok(total / count as u32)
    }

    fn tool(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command, DemoError> {
        let tool = self.run.command(program);
        let mut tool =
            Command::from(tool.map_err(|error| DemoError::System("can't make a tool", error))?);
        tool.kill_on_drop(true);
        Ok(tool)
    }
}

/// A tool at work. Dropping it kills it with all that it has started in its process group.
struct Tool(Child);

impl Tool {
    async fn run(mut tool: Command) -> io::Result<ExitStatus> {
        Tool(tool.process_group(0).spawn()?).0.wait().await
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // Its id is ours as long as it was not waited for.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The average time of short commands with a login each, where there is a real ssh.
pub(super) async fn with_login(
    words: &[OsString],
    count: usize,
) -> Result<Option<Duration>, DemoError> {
    let mut total = Duration::ZERO;
    for number in 0..count {
        let mut ssh = Command::new("ssh");
        ssh.args(words).arg("echo").arg(number.to_string()).kill_on_drop(true);
        match echoes(ssh, number).await {
            Ok(time) => total += time,
            Err(DemoError::System(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(total / count as u32))
}

/// Runs a command that prints a number, and looks whether it did.
async fn echoes(mut command: Command, number: usize) -> Result<Duration, DemoError> {
    let begin = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().await;
    let time = begin.elapsed();
    let output = output.map_err(|error| DemoError::System("can't run ssh", error))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || said.trim() != number.to_string() {
        let text = format!("'echo {number}' gave '{}', {}", said.trim(), output.status);
        return Err(DemoError::Different(text));
    }
    Ok(time)
}
