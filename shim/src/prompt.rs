//! Asking the person: on the terminal, or with the program of `SSH_ASKPASS`, by the rules of
//! `ssh(1)`.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::QueueSelector;
use zeroize::Zeroizing;

use fakessh_protocol::message::{Question, QuestionKind, Secret};
use fakessh_protocol::printable;

use crate::sys::ChangedModes;

/// Most bytes of an answer: the longest line that a terminal gives.
const MAX_ANSWER: usize = 4096;

/// The program that asks where `SSH_ASKPASS` does not name one.
const DEFAULT_ASKPASS: &str = "/usr/bin/ssh-askpass";

/// An environment as an invocation carries it: names and values.
pub type Environment = [(Vec<u8>, Vec<u8>)];

/// Passwords that answer hops.
#[derive(Default)]
struct HopPasswords {
    /// For the hops of these names.
    named: HashMap<String, Secret>,
    /// For every other hop.
    every: Option<Secret>,
    /// Hops that were answered. One that asks again has refused the password, and a second try
    /// locks accounts.
    answered: HashSet<String>,
}

static HOPS: LazyLock<Mutex<HopPasswords>> = LazyLock::new(Mutex::default);

/// Lets this password answer from here on what a hop asks, once: the hop of this name, or every
/// hop for which there is no other.
///
/// It is the master that says which hop asks. What the hop says does not matter.
pub fn answer_hop_with(hop: Option<String>, password: Secret) {
    let mut passwords = HOPS.lock().unwrap_or_else(PoisonError::into_inner);
    match hop {
        Some(hop) => drop(passwords.named.insert(hop, password)),
        None => passwords.every = Some(password),
    }
}

impl HopPasswords {
    /// The answer to what this hop asks; `None` if a person is to be asked.
    fn answer(&mut self, hop: &str) -> Option<Option<Secret>> {
        let password = self.named.get(hop).or(self.every.as_ref())?;
        Some(self.answered.insert(hop.to_owned()).then(|| password.clone()))
    }
}

/// The first line of what a reader gives, without its end.
///
/// # Errors
/// If it can't be read, is empty or longer than `most` bytes, is no UTF-8, or holds what nobody
/// types as a password: control characters, a byte order mark.
pub fn read_password(mut reader: impl Read, most: usize) -> io::Result<Secret> {
    let mut line = Zeroizing::new(Vec::with_capacity(most + 1));
    // Byte by byte: what follows may be somebody else's.
    let mut byte = [0];
    while reader.read(&mut byte)? > 0 && byte != *b"\n" {
        if line.len() == most {
            return Err(io::Error::other("its first line is too long"));
        }
        line.extend_from_slice(&byte);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if line.is_empty() {
        return Err(io::Error::other("its first line is empty"));
    }
    let text = std::str::from_utf8(&line).map_err(|_| io::Error::other("it is no UTF-8 text"))?;
    if !text.chars().all(printable::is_shown) {
        return Err(io::Error::other("its first line holds control characters or marks"));
    }
    Ok(Secret(text.to_owned()))
}

/// Asks, and waits for the answer as long as it takes, or until nobody wants it any more: until
/// `asker`, the socket of who asks, hangs up.
///
/// `SSH_ASKPASS_REQUIRE`, `DISPLAY` and `WAYLAND_DISPLAY` of `environment` decide between the
/// terminal and `SSH_ASKPASS` as `ssh(1)` says. `None` where there is neither, or where the person
/// gave up (end of input; an askpass that fails), and where `asker` is gone.
///
/// While a secret is typed the terminal does not echo; its modes are put back on every way out,
/// a signal and a stop included. Blocks the calling thread.
pub fn ask(
    question: &Question,
    environment: &Environment,
    asker: BorrowedFd<'_>,
) -> Option<Secret> {
    if let Some(hop) = &question.hop {
        let answer = HOPS.lock().unwrap_or_else(PoisonError::into_inner).answer(hop);
        if let Some(answer) = answer {
            return answer;
        }
    }
    let terminal = || {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open(c"/dev/tty", flags, Mode::empty()).ok()
    };
    match Way::choose(environment) {
        Way::Askpass => askpass(question, environment, asker),
        Way::Terminal { or_askpass } => match terminal() {
            Some(terminal) => on_terminal(question, &terminal, asker),
            None if or_askpass => askpass(question, environment, asker),
            None => None,
        },
    }
}

/// How to ask.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// With the program, and no other way.
    Askpass,
    /// On the terminal; where there is none, with the program if that is allowed.
    Terminal { or_askpass: bool },
}

impl Way {
    /// The rules of `ssh(1)`, "ENVIRONMENT".
    fn choose(environment: &Environment) -> Way {
        let set = |name| variable(environment, name).is_some_and(|value| !value.is_empty());
        let display = set("DISPLAY") || set("WAYLAND_DISPLAY");
        let require = variable(environment, "SSH_ASKPASS_REQUIRE").unwrap_or_default();
        let says = |word: &[u8]| require.eq_ignore_ascii_case(word);
        if says(b"force") || (says(b"prefer") && display) {
            Way::Askpass
        } else {
            Way::Terminal { or_askpass: display && !says(b"never") }
        }
    }
}

fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a [u8]> {
    let found = environment.iter().find(|(key, _)| key == name.as_bytes());
    found.map(|(_, value)| value.as_slice())
}

/// Waits until there is something to be read, or an end of it; false where `asker` is gone first.
fn is_wanted(input: BorrowedFd<'_>, asker: BorrowedFd<'_>) -> bool {
    let group = rustix::process::getpgrp();
    loop {
        if rustix::termios::tcgetpgrp(input).is_ok_and(|foreground| foreground != group) {
            // Who reads a terminal in the background is stopped until it is in the foreground.
            return true;
        }
        let mut fds = [PollFd::new(&input, PollFlags::IN), PollFd::new(&asker, PollFlags::empty())];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            Err(_) => return true,
            Ok(_) if fds[1].revents().intersects(PollFlags::HUP | PollFlags::ERR) => return false,
            Ok(_) if fds[0].revents().is_empty() => {}
            Ok(_) => return true,
        }
    }
}

fn askpass(
    question: &Question,
    environment: &Environment,
    asker: BorrowedFd<'_>,
) -> Option<Secret> {
    let program = variable(environment, "SSH_ASKPASS").unwrap_or(DEFAULT_ASKPASS.as_bytes());
    if program.is_empty() {
        return None;
    }
    let mut command = Command::new(OsStr::from_bytes(program));
    command.arg(shown(question)).env_clear();
    for (name, value) in environment {
        command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
    }
    // A host key is asked for as ssh does it: without a hint, the answer is a line of text.
    command.env_remove("SSH_ASKPASS_PROMPT");
    if question.kind == QuestionKind::Permission {
        // As ssh-agent does it for a key that is to be confirmed: success is a yes.
        command.env("SSH_ASKPASS_PROMPT", "confirm");
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().ok()?;
    // The pipe is closed after that: a program that goes on writing does not go on long.
    let read = read_answer(child.stdout.take()?, asker);
    if read.is_none() {
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    let answer = read?;
    if !status.success() {
        // Of a yes or no this is the no. A program that was killed has not said any.
        let is_no = question.kind == QuestionKind::Permission && status.code().is_some();
        return is_no.then(|| Secret("no".to_owned()));
    }
    match first_line(&answer) {
        Some(line) if line.0.is_empty() && question.kind == QuestionKind::Permission => {
            Some(Secret("yes".to_owned()))
        }
        line => line,
    }
}

/// What a program prints, up to [`MAX_ANSWER`] bytes; `None` where that fails, or nobody wants it
/// any more.
fn read_answer(mut output: ChildStdout, asker: BorrowedFd<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let mut answer = Zeroizing::new(vec![0; MAX_ANSWER]);
    let mut length = 0;
    while length < MAX_ANSWER {
        if !is_wanted(output.as_fd(), asker) {
            return None;
        }
        match output.read(&mut answer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    answer.truncate(length);
    Some(answer)
}

/// A question as it is shown. The master has filtered what it quotes; this is the last place.
fn shown(question: &Question) -> String {
    printable::question(&question.text)
}

fn on_terminal(question: &Question, terminal: &OwnedFd, asker: BorrowedFd<'_>) -> Option<Secret> {
    let columns = rustix::termios::tcgetwinsize(terminal).map_or(0, |size| size.ws_col.into());
    let text = printable::folded(&shown(question), columns);
    let echo_off = match question.kind {
        // No echo, or no question: a password is never shown.
        QuestionKind::Secret => Some(ChangedModes::without_echo(terminal.as_fd(), &text).ok()?),
        QuestionKind::Line | QuestionKind::Confirm | QuestionKind::Permission => None,
    };
    // What was typed before the question is no answer to it: it was meant for something else, and a
    // tool could have asked for it. (A secret's echo is switched off in the same way.)
    let _ = rustix::termios::tcflush(terminal, QueueSelector::IFlush);
    show(terminal, &text)?;
    let mut answer = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
    let mut buffer = Zeroizing::new([0; MAX_ANSWER]);
    let ended = loop {
        if !is_wanted(terminal.as_fd(), asker) {
            show(terminal, "\n")?;
            return None;
        }
        match rustix::io::read(terminal, &mut buffer[..]) {
            Ok(0) => break false,
            Ok(read) => {
                // Room was made at the start: the vector never moves and leaves no copy behind.
                let room = MAX_ANSWER - answer.len();
                answer.extend_from_slice(&buffer[..read.min(room)]);
                if buffer[..read].contains(&b'\n') {
                    break true;
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => break false,
        }
    };
    if echo_off.is_some() {
        // The person's own newline was not shown.
        show(terminal, "\n")?;
    }
    if ended { first_line(&answer) } else { None }
}

fn show(terminal: &OwnedFd, text: &str) -> Option<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(terminal, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(())
}

fn first_line(answer: &[u8]) -> Option<Secret> {
    let end = answer.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let line = &answer[..end.unwrap_or(answer.len())];
    std::str::from_utf8(line).ok().map(|line| Secret(line.to_owned()))
}

#[cfg(test)]
mod tests;
