//! The main job: a tree there and back, then short commands.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fakessh::tool::ServedRun;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::show::{DemoError, NAME};
use super::tree;

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

/// Which way the tree is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    There,
    Back,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::There => "there",
            Way::Back => "back",
        })
    }
}

/// What carries the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Rsync,
    SshAndTar,
}

impl Carrier {
    pub(super) fn name(self) -> &'static str {
        match self {
            Carrier::Rsync => "rsync",
            Carrier::SshAndTar => "ssh and tar (no rsync here)",
        }
    }
}

impl Job<'_> {
    /// Makes the tree.
    pub(super) fn make_tree(&self) -> Result<tree::Size, DemoError> {
        tree::make(&self.source()).map_err(|error| DemoError::System("can't make a tree", error))
    }

    /// rsync if it is here.
    pub(super) async fn tool_to_carry(&self) -> Carrier {
        let mut rsync = Command::new("rsync");
        rsync.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        let is_here = rsync.status().await.is_ok_and(|status| status.success());
        if is_here { Carrier::Rsync } else { Carrier::SshAndTar }
    }

    /// Carries the tree to the server, or from there back.
    pub(super) async fn carry(&self, carrier: Carrier, way: Way) -> Result<(), DemoError> {
        let (from, to) = match way {
            Way::There => (self.source(), self.there()),
            Way::Back => (self.there(), self.back()),
        };
        let tool = match carrier {
            Carrier::Rsync => {
                let mut rsync = self.tool("rsync")?;
                let remote = |path: PathBuf| {
                    let mut name = OsString::from(format!("{NAME}:"));
                    name.push(path);
                    name
                };
                let (from, to) = (from.join(""), to.join(""));
                rsync.arg("-a");
                match way {
                    Way::There => rsync.arg(from).arg(remote(to)),
                    Way::Back => rsync.arg(remote(from)).arg(to),
                };
                rsync
            }
            Carrier::SshAndTar => {
                let mut shell = self.tool("sh")?;
                shell.args(["-c", WITH_TAR, "sh"]).arg(from).arg(to).arg(way.to_string());
                shell
            }
        };
        let status = Tool::run(tool).await;
        let status = status.map_err(|error| DemoError::System("can't run a tool", error))?;
        if status.success() {
            return Ok(());
        }
        Err(DemoError::Tool(carrier.name().into(), status.code().unwrap_or(255) as u8))
    }

    /// Compares both copies with the tree.
    pub(super) fn compare(&self) -> Result<(), DemoError> {
        for copy in [self.there(), self.back()] {
            let difference = tree::difference(&self.source(), &copy)
                .map_err(|error| DemoError::System("can't read the copy", error))?;
            if let Some(difference) = difference {
                return Err(DemoError::Different(difference));
            }
        }
        Ok(())
    }

    fn source(&self) -> PathBuf {
        self.scratch.join("source")
    }

    fn there(&self) -> PathBuf {
        self.scratch.join("there")
    }

    fn back(&self) -> PathBuf {
        self.scratch.join("back")
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
