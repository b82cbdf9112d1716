//! Namespaces that a lab's servers, clients and containers live in. The kernel removes them, with
//! all mounts and interfaces in them, when nobody is left who holds them: also after a kill.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::guardian::MARK_VARIABLE;

/// A process that does nothing but hold namespaces open. It ends when this is dropped, and when
/// the test process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Namespaces {
    holder: Child,
    inner: u32,
}

impl Namespaces {
    /// New namespaces of these kinds (options of `unshare(1)`) in which this script has been run
    /// as root. One that goes into another root says `echo up; exec cat` from there itself.
    ///
    /// # Panics
    /// If they can't be made, or if the script fails.
    pub(crate) fn new(kinds: &[&str], script: &str, mark: &str) -> Namespaces {
        let script = format!("set -e\n{script}\necho up\nexec cat");
        let mut holder = Command::new("unshare")
            .args(kinds)
            .args(["sh", "-c", &script])
            .env_clear()
            .env("PATH", crate::tool::PATH)
            .env(MARK_VARIABLE, mark)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("starting unshare");
        let output = holder.stdout.take().expect("the holder's output is a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("reading what the holder says");
        assert_eq!(line, "up\n", "namespaces ({kinds:?}) can't be made:\n{script}");
        // With a process namespace, unshare stays outside of it and its child is the holder.
        let inner = match kinds.contains(&"--fork") {
            false => holder.id(),
            true => {
                let below = crate::process::descendants(holder.id());
                below.first().expect("the holder in its process namespace").pid
            }
        };
        Namespaces { holder, inner }
    }

    /// The process that holds them.
    pub(crate) fn pid(&self) -> u32 {
        self.inner
    }

    /// The process that was started to make them; another one if it holds a process namespace.
    pub(crate) fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// An option of `nsenter(1)` that enters the one of this kind (`net`, also as a file's name in
    /// `/proc/PID/ns`), where `option` is the kind's name as an option.
    pub(crate) fn enter(&self, option: &str, file: &str) -> String {
        format!("--{option}=/proc/{}/ns/{file}", self.inner)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        if self.inner != self.holder.id() {
            // The end of the first process of a process namespace is the end of all in it.
            if let Some(inner) = crate::process::Process::open(self.inner) {
                inner.kill();
            }
        }
        _ = self.holder.kill();
        _ = self.holder.wait();
    }
}
