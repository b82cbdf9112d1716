//! A Docker of a lab's own: its daemon, images and containers, and nothing of the machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::adopted::Adopted;
use crate::guardian::MARK_VARIABLE;
use crate::log::ServerLog;

/// How many lines of the daemon's log are shown if it does not start.
const SHOWN: usize = 5;

/// A running `dockerd`. The lab's account may use it, with [`Docker::HOST`] as `DOCKER_HOST`.
#[derive(Debug)]
pub struct Docker {
    daemon: Child,
    dir: PathBuf,
    mark: String,
    containers: Adopted,
}

impl Docker {
    /// What `DOCKER_HOST` is to be on the target, for [`crate::LabBuilder::environment`].
    pub const HOST: &'static str = "unix://$LAB/docker/socket";

    /// Starts the daemon and waits until it listens.
    ///
    /// # Panics
    /// If it does not; the message has what it said.
    pub(crate) fn start(dir: &Path, mark: &str, group: u32, containers: &Adopted) -> Docker {
        fs::create_dir_all(dir).expect("creating a directory of the lab");
        let word = |name: &str| dir.join(name).display().to_string();
        // Its mounts are in a namespace of its own, and go with it.
        let mut daemon = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "dockerd"])
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .args(["--storage-driver", "vfs", "--log-driver", "none"])
            .args(["--data-root", &word("data"), "--exec-root", &word("exec")])
            .args(["--pidfile", &word("pid"), "-H", &format!("unix://{}", word("socket"))])
            .args(["--group", &group.to_string()])
            .args(["--cgroup-parent", &format!("/{mark}")])
            .env_clear()
            .env("PATH", crate::tool::PATH)
            .env(MARK_VARIABLE, mark)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting unshare");
        let log = ServerLog::default();
        log.follow(daemon.stderr.take().expect("the daemon's standard error"));
        if log.wait_for(0, "API listen on").is_none() {
            _ = daemon.wait();
            panic!("dockerd did not start:\n{}", log.last(SHOWN));
        }
        Docker {
            daemon,
            dir: dir.to_owned(),
            mark: mark.to_owned(),
            containers: containers.clone(),
        }
    }

    /// Makes an image of this root.
    ///
    /// # Panics
    /// If Docker can't.
    pub fn import(&self, root: &Path, image: &str) {
        let mut tar = Command::new("tar")
            .args(["--numeric-owner", "-C"])
            .arg(root)
            .args(["-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting tar");
        let mut import = self.command(&["import", "-", image]);
        import.stdin(tar.stdout.take().expect("tar's output"));
        succeed(&mut import);
        assert!(tar.wait().expect("waiting for tar").success());
    }

    /// Runs a container of this name with no network; `words` are what it does. Gives the process
    /// id of its first process, which counts as the lab's own.
    ///
    /// # Panics
    /// If Docker can't.
    pub fn run(&self, name: &str, image: &str, words: &[&str]) -> u32 {
        let variable = format!("{MARK_VARIABLE}={}", self.mark);
        let mut command = self.command(&["run", "-d", "--network", "none", "--name", name]);
        command.args(["-e", &variable, image]).args(words).stdin(Stdio::null());
        succeed(&mut command);
        let format = "{{.State.Pid}}";
        let done = succeed(&mut self.command(&["inspect", "--format", format, name]));
        let pid = String::from_utf8_lossy(&done.stdout).trim().parse().expect("a process id");
        self.containers.add(pid);
        pid
    }

    /// Ends a container, and waits until it has.
    pub fn remove(&self, name: &str) {
        succeed(&mut self.command(&["rm", "--force", name]));
    }

    /// Reads a file in a container; `None` if there is none.
    pub fn read(&self, name: &str, path: &str) -> Option<Vec<u8>> {
        let done = self.command(&["exec", name, "cat", path]).output().expect("starting docker");
        done.status.success().then_some(done.stdout)
    }

    /// The `docker` command with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(arguments)
            .env_clear()
            .env("PATH", crate::tool::PATH)
            .env("HOME", &self.dir)
            .env("DOCKER_HOST", format!("unix://{}/socket", self.dir.display()))
            .current_dir("/");
        command
    }
}

fn succeed(command: &mut Command) -> Output {
    let done = command.output().expect("starting docker");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
    done
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Containers first: their processes are no children of the daemon.
        let listed = self.command(&["ps", "-aq"]).stdin(Stdio::null()).output();
        let listed = listed.map(|done| String::from_utf8_lossy(&done.stdout).into_owned());
        let listed = listed.unwrap_or_default();
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if !ids.is_empty() {
            let mut words = vec!["rm", "--force"];
            words.extend(ids);
            _ = self.command(&words).stdin(Stdio::null()).output();
        }
        if let Some(daemon) = crate::process::Process::open(self.daemon.id()) {
            daemon.signal(rustix::process::Signal::TERM);
            if !daemon.wait(std::time::Duration::from_secs(60)) {
                daemon.kill();
            }
        }
        _ = self.daemon.wait();
    }
}
