//! A tool that runs, with a guard against hangs, and one that has ended.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use crate::capture::Capture;
use crate::wait::GUARD;

/// Most bytes of a stream that a failure shows.
const SHOWN: usize = 8192;

/// A tool that runs. Dropped, it is killed with its process group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    words: Vec<OsString>,
    stdin: Option<ChildStdin>,
    stdout: Capture,
    stderr: Capture,
    /// Bytes of standard output that [`Running::read_line`] has given.
    read: usize,
    watch: Arc<Watch>,
    guard: Duration,
}

/// What a tool reads.
#[derive(Debug)]
pub(crate) enum Input {
    /// Nothing: `/dev/null`.
    Null,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// What [`Running::write`] gives.
    Open,
    /// What was set on the command.
    Given,
}

/// Tells the thread that guards against hangs that there is no need for it any more.
#[derive(Debug, Default)]
struct Watch {
    state: Mutex<WatchState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WatchState {
    /// The tool has ended: its process id is not to be used again.
    ended: bool,
    /// The guard has killed it.
    fired: bool,
}

/// A tool that has ended, with what it wrote.
#[derive(Debug)]
pub struct Finished {
    /// Its words, for messages.
    pub words: Vec<OsString>,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output, unless that was given away.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, unless that was given away.
    pub stderr: Vec<u8>,
}

impl Running {
    pub(crate) fn new(
        mut child: Child,
        words: Vec<OsString>,
        input: Input,
        guard: Duration,
    ) -> Running {
        let mut stdin = child.stdin.take();
        if let Input::Bytes(bytes) = input {
            let mut pipe = stdin.take().expect("standard input is a pipe where it has bytes");
            // A tool that reads no further ends this with EPIPE, which is its own business.
            std::thread::spawn(move || _ = pipe.write_all(&bytes));
        }
        let stdout = Capture::follow(child.stdout.take());
        let stderr = Capture::follow(child.stderr.take());
        let watch = Arc::new(Watch::default());
        guard_against_hangs(child.id(), watch.clone(), guard);
        Running { child, words, stdin, stdout, stderr, read: 0, watch, guard }
    }

    /// The process id of the tool itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input, which was left open.
    ///
    /// # Errors
    /// As writing to a pipe: EPIPE if nobody will read it.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stdin = self.stdin.as_mut().expect("the tool's standard input was left open");
        stdin.write_all(bytes)
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The next line of its standard output, without the newline; `None` at the end.
    ///
    /// # Panics
    /// After the guard's time.
    pub fn read_line(&mut self) -> Option<String> {
        let from = self.read;
        let line = self.stdout.wait(self.guard, |bytes, open| {
            let rest = &bytes[from..];
            match rest.iter().position(|&byte| byte == b'\n') {
                Some(end) => Some(Some(rest[..end].to_vec())),
                None if open => None,
                None if rest.is_empty() => Some(None),
                None => Some(Some(rest.to_vec())),
            }
        });
        let Some(line) = line else { self.give_up("another line of its output") };
        let line = line?;
        self.read = (from + line.len() + 1).min(self.stdout.bytes().len());
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    /// Waits until its standard output holds this text.
    ///
    /// # Panics
    /// At the end of the stream, or after the guard's time.
    pub fn wait_for_output(&self, needle: &str) {
        self.wait_for(&self.stdout, needle);
    }

    /// What it wrote to its standard error so far.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes()).into_owned()
    }

    /// Waits until its standard error holds this text.
    ///
    /// # Panics
    /// At the end of the stream, or after the guard's time.
    pub fn wait_for_error(&self, needle: &str) {
        self.wait_for(&self.stderr, needle);
    }

    fn wait_for(&self, stream: &Capture, needle: &str) {
        let held = stream.wait(self.guard, |bytes, open| {
            let held = String::from_utf8_lossy(bytes).contains(needle);
            (held || !open).then_some(held)
        });
        if held != Some(true) {
            self.give_up(needle);
        }
    }

    /// Sends a signal to the tool itself.
    pub fn signal(&self, signal: Signal) {
        self.unless_ended(|pid| _ = kill_process(pid, signal));
    }

    /// Sends a signal to the tool's process group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        self.unless_ended(|pid| _ = kill_process_group(pid, signal));
    }

    fn unless_ended(&self, act: impl FnOnce(Pid)) {
        let state = self.watch.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.ended {
            act(pid_of(self.child.id()));
        }
    }

    /// Waits for its end and for the end of its streams.
    ///
    /// # Panics
    /// If it hangs, or if others hold its streams open long after its end.
    pub fn finish(mut self) -> Finished {
        self.stdin = None;
        let status = self.wait();
        let streams = [("output", &self.stdout), ("error", &self.stderr)];
        for (name, stream) in streams {
            if stream.wait(GUARD, |_, open| (!open).then_some(())).is_none() {
                self.give_up(&format!("the end of its standard {name}"));
            }
        }
        let words = std::mem::take(&mut self.words);
        Finished { words, status, stdout: self.stdout.bytes(), stderr: self.stderr.bytes() }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        matches!(waitid(WaitId::Pid(pid_of(self.child.id())), options), Ok(None))
    }

    /// Waits for its end alone: its streams may go on in the hands of others.
    ///
    /// # Panics
    /// If it hangs.
    pub fn wait(&mut self) -> ExitStatus {
        // Left unreaped until the guard knows, so that its number is still its own.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid_of(self.child.id())), options)
            .is_err_and(|error| error == rustix::io::Errno::INTR)
        {}
        let mut state = self.watch.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended = true;
        let fired = state.fired;
        drop(state);
        self.watch.changed.notify_all();
        let status = self.child.wait().expect("waiting for a tool");
        if fired {
            self.give_up("its end");
        }
        status
    }

    fn give_up(&self, what: &str) -> ! {
        panic!(
            "{:?}: waited in vain for {what}\n{}",
            self.words,
            shown(&self.stdout.bytes(), &self.stderr.bytes())
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stdin = None;
        let mut state = self.watch.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.ended {
            state.ended = true;
            _ = kill_process_group(pid_of(self.child.id()), Signal::KILL);
            _ = self.child.kill();
            _ = self.child.wait();
        }
        self.watch.changed.notify_all();
    }
}

/// Kills a tool, group and all, when it is not known to have ended after this time.
fn guard_against_hangs(pid: u32, watch: Arc<Watch>, guard: Duration) {
    std::thread::spawn(move || {
        let state = watch.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = watch.changed.wait_timeout_while(state, guard, |state| !state.ended);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.ended {
            state.fired = true;
            _ = kill_process_group(pid_of(pid), Signal::KILL);
            _ = kill_process(pid_of(pid), Signal::KILL);
        }
    });
}

fn pid_of(pid: u32) -> Pid {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    raw.expect("a process id is a positive number")
}

impl Finished {
    /// The status as a shell shows it: the exit code, or 128 plus the signal that killed it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Holds the status against this one.
    ///
    /// # Panics
    /// If it is another; the message has all that the tool wrote.
    #[track_caller]
    pub fn expect_status(self, code: i32) -> Finished {
        let got = self.code();
        assert!(got == code, "{:?}: status {got}, not {code}\n{}", self.words, self.shown());
        self
    }

    /// Holds its standard output against this text.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn expect_out(self, text: &str) -> Finished {
        let same = self.stdout == text.as_bytes();
        assert!(same, "{:?}: expected {text:?} as output\n{}", self.words, self.shown());
        self
    }

    /// Holds its standard error against this text.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn expect_err(self, text: &str) -> Finished {
        let same = self.stderr == text.as_bytes();
        assert!(same, "{:?}: expected {text:?} on stderr\n{}", self.words, self.shown());
        self
    }

    /// Holds it against what a fault must look like: this status, nothing on standard output that
    /// begins with `fakessh:`, and exactly one such line on standard error, with all these words
    /// in it (letter case aside).
    ///
    /// # Panics
    /// If it looks otherwise.
    #[track_caller]
    pub fn expect_fault(self, code: i32, words: &[&str]) -> Finished {
        let finished = self.expect_status(code);
        let said = finished.err();
        let ours: Vec<&str> = said.lines().filter(|line| line.starts_with("fakessh:")).collect();
        let shown = finished.shown();
        assert!(ours.len() == 1, "{} lines of fakessh, not one\n{shown}", ours.len());
        let line = ours[0].to_lowercase();
        for word in words {
            assert!(line.contains(&word.to_lowercase()), "no {word:?} in {:?}\n{shown}", ours[0]);
        }
        assert!(!finished.out().contains("fakessh:"), "a message on standard output\n{shown}");
        finished
    }

    /// What it wrote, for a message of a failure.
    pub fn shown(&self) -> String {
        shown(&self.stdout, &self.stderr)
    }
}

fn shown(stdout: &[u8], stderr: &[u8]) -> String {
    let text = |bytes: &[u8]| {
        let from = bytes.len().saturating_sub(SHOWN);
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    };
    format!("--- standard output:\n{}\n--- standard error:\n{}", text(stdout), text(stderr))
}
