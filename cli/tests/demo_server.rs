//! The server of the demonstration, with the real `ssh` as its client.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use fakessh_cli::demo::server::{ClientKey, DemoServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// A server, and files for clients of it.
struct Lab {
    scratch: tempfile::TempDir,
    server: DemoServer,
}

impl Lab {
    async fn start() -> Lab {
        let scratch = tempfile::tempdir().unwrap();
        let key = ClientKey::generate().unwrap();
        write_key(&scratch.path().join("id"), &key);
        let server = DemoServer::start(&key).await.unwrap();
        let known_hosts = server.known_hosts_line().unwrap();
        std::fs::write(scratch.path().join("known_hosts"), known_hosts).unwrap();
        Lab { scratch, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// `ssh` with these options, one connection for all that have the same `master`.
    fn ssh(&self, master: &str) -> Command {
        let mut ssh = Command::new("ssh");
        let option = |name: &str, path: &str| format!("-o{name}={}", self.path(path).display());
        ssh.args(["-F", "none", "-oBatchMode=yes", "-oIdentitiesOnly=yes", "-oControlMaster=auto"])
            .args([option("UserKnownHostsFile", "known_hosts"), option("IdentityFile", "id")])
            .args([option("ControlPath", master), "-oControlPersist=60".into()])
            .args(["-p", &self.server.address().port().to_string(), "127.0.0.1"])
            .kill_on_drop(true);
        ssh
    }

    async fn run(&self, command: &str) -> Output {
        let mut ssh = self.ssh("master");
        ssh.arg(command).stdin(Stdio::null()).output().await.unwrap()
    }
}

fn write_key(path: &Path, key: &ClientKey) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(key.private_text().unwrap().as_bytes()).unwrap();
}

#[tokio::test]
async fn programs_run_on_many_channels_of_one_login() {
    let lab = Lab::start().await;
    for number in 0..10 {
        let output = lab.run(&format!("echo {number}; cat")).await;
        assert_eq!(output.stdout, format!("{number}\n").as_bytes(), "{output:?}");
    }
    assert_eq!(lab.server.logins(), 1);
    assert_eq!(lab.run("exit 7").await.status.code(), Some(7));
    assert_eq!(lab.run("kill -KILL $$").await.status.code(), Some(255), "as of any signal");
    let mut sftp = lab.ssh("master");
    let refused = sftp.args(["-s", "sftp"]).stdin(Stdio::null()).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(255), "{refused:?}");
    lab.server.stop().await;
}

#[tokio::test]
async fn bytes_arrive_unchanged_both_ways_and_end_of_input_ends_the_program() {
    let lab = Lab::start().await;
    let sent: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut ssh = lab.ssh("none");
    let mut cat = ssh.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = cat.stdin.take().unwrap();
    let bytes = sent.clone();
    let writing = tokio::spawn(async move { input.write_all(&bytes).await.unwrap() });
    let mut received = Vec::new();
    cat.stdout.take().unwrap().read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    assert!(cat.wait().await.unwrap().success());
    writing.await.unwrap();
    lab.server.stop().await;
}

#[tokio::test]
async fn stopping_ends_connections_and_programs() {
    let lab = Lab::start().await;
    let fifo = lab.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().await.unwrap().success());
    let command = format!("exec 9>{}; echo started; cat", fifo.display());
    let mut ssh = lab.ssh("none");
    let mut ssh = ssh.arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let ended = tokio::task::spawn_blocking(move || std::fs::read(fifo).unwrap());
    let mut said = [0; 8];
    ssh.stdout.as_mut().unwrap().read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"started\n");
    lab.server.stop().await;
    assert_eq!(ssh.wait().await.unwrap().code(), Some(255));
    // The end of the file: nobody holds the pipe any more.
    ended.await.unwrap();
}

#[tokio::test]
async fn another_key_is_refused() {
    let lab = Lab::start().await;
    write_key(&lab.path("id"), &ClientKey::generate().unwrap());
    let output = lab.run("true").await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("Permission denied (publickey)"), "{error}");
    assert_eq!((output.status.code(), lab.server.logins()), (Some(255), 0));
    lab.server.stop().await;
}
