//! The shim on a terminal of its own: relayed input, questions, echo, stops.
#![allow(missing_docs, clippy::unwrap_used)]

mod lab;

use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use fakessh_lab::process::state;
use fakessh_lab::{KillOnDrop, Screen, terminal, wait_until};
use fakessh_protocol::message::{FromShim, Question, QuestionKind, RealWords, ToShim};
use fakessh_unix::tool_environment::{SOCKET_NAME, SOCKET_VARIABLE};
use lab::{Lab, Session, kill};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::Signal;
use rustix::termios::{LocalModes, tcgetattr};

/// A terminal and the shim that has it as its controlling terminal.
struct Terminal {
    screen: Screen,
    slave: File,
    child: KillOnDrop,
}

impl Terminal {
    /// Runs a shell script as the leader of the terminal's session; `$SSH` is the shim.
    fn run(lab: &Lab, script: &str) -> Terminal {
        let (master, slave) = terminal::pair();
        let mut command = Command::new("setsid");
        command.args(["-c", "/bin/sh", "-c", script]).env_clear().env("PATH", "/usr/bin:/bin");
        command.env(SOCKET_VARIABLE, lab.directory.join(SOCKET_NAME));
        command.env("SSH", lab.directory.join("ssh"));
        command.stdin(slave.try_clone().unwrap());
        command.stdout(Stdio::null()).stderr(slave.try_clone().unwrap());
        let child = KillOnDrop(command.spawn().unwrap());
        Terminal { screen: Screen::new(master), slave, child }
    }

    fn echoes(&self) -> bool {
        terminal::echoes(&self.slave)
    }

    /// Answers a question for a secret that is on the screen, and ends the session.
    fn answers(mut self, session: Session, keys: &str) {
        self.screen.shows("Password: ");
        assert!(!self.echoes());
        self.screen.types(keys);
        assert_eq!(answer(&session).as_deref(), Some("hidden"));
        session.exit(0);
        assert!(self.child.wait().unwrap().success());
        assert!(self.echoes());
    }
}

fn ask(session: &Session, kind: QuestionKind, text: &str) {
    session.tell(&ToShim::Ask(Question { kind, text: text.into(), hop: None }));
}

fn answer(session: &Session) -> Option<String> {
    match session.hear() {
        Some(FromShim::Answer(answer)) => answer.map(|secret| secret.0.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn input_of_a_terminal_is_relayed_up_to_its_end() {
    let lab = Lab::new();
    let mut terminal = Terminal::run(&lab, "exec $SSH h x");
    let mut session = lab.accept();
    assert!(session.handoff.invocation.announce);
    session.tell(&ToShim::Started(Default::default()));
    let mut input = session.stdin.take().unwrap();
    assert!(!rustix::termios::isatty(&input));
    for line in ["one\n", "two\n"] {
        terminal.screen.types(line);
        let mut buffer = [0; 4];
        input.read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, line.as_bytes());
    }
    terminal.screen.types("\x04");
    assert_eq!(input.read(&mut [0; 8]).unwrap(), 0);
    // The end of input is not the end of the session, nor of the terminal.
    let flags = rustix::fs::fcntl_getfl(&terminal.slave).unwrap();
    assert!(!flags.contains(OFlags::NONBLOCK));
    session.exit(3);
    assert_eq!(terminal.child.wait().unwrap().code(), Some(3));
}

#[test]
fn what_is_typed_before_the_real_ssh_runs_is_the_real_ones() {
    let lab = Lab::new();
    let bin = lab.script("ssh", "read line; echo \"got $line\" >&2");
    let script = format!("PATH={}:$PATH; export PATH; exec $SSH h", bin.display());
    let mut terminal = Terminal::run(&lab, &script);
    let mut session = lab.accept();
    terminal.screen.types("early\n");
    terminal.screen.shows("early");
    session.leave_to_real_ssh(RealWords::With(Vec::new()));
    terminal.screen.shows("got early");
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn a_program_that_reads_nothing_stops_nothing() {
    let lab = Lab::new();
    let mut terminal = Terminal::run(&lab, "exec $SSH h x");
    let mut session = lab.accept();
    session.tell(&ToShim::Started(Default::default()));
    session.stdin = None;
    terminal.screen.types("lost\n");
    terminal.screen.shows("lost");
    let mut question = || {
        ask(&session, QuestionKind::Line, "name: ");
        terminal.screen.shows("name: ");
        terminal.screen.types("me\n");
        answer(&session)
    };
    assert_eq!(question().as_deref(), Some("me"));
    session.exit(0);
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn a_secret_is_not_shown_and_the_echo_comes_back() {
    let lab = Lab::new();
    let mut terminal = Terminal::run(&lab, "exec $SSH -n h x");
    let session = lab.accept();
    ask(&session, QuestionKind::Secret, "Password: ");
    let mut shown = terminal.screen.shows("Password: ");
    assert!(!terminal.echoes());
    terminal.screen.types("hidden\n");
    assert_eq!(answer(&session).as_deref(), Some("hidden"));
    assert!(terminal.echoes());
    ask(&session, QuestionKind::Confirm, "Sure? ");
    shown += &terminal.screen.shows("Sure? ");
    terminal.screen.types("yes\n");
    assert_eq!(answer(&session).as_deref(), Some("yes"));
    shown += &terminal.screen.shows("yes");
    assert!(!shown.contains("hidden"), "{shown:?}");
    ask(&session, QuestionKind::Secret, "Password: ");
    terminal.screen.shows("Password: ");
    terminal.screen.types("\x04");
    assert_eq!(answer(&session), None);
    session.exit(0);
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn what_was_typed_before_a_question_is_no_answer_to_it() {
    for kind in [QuestionKind::Permission, QuestionKind::Confirm, QuestionKind::Secret] {
        let lab = Lab::new();
        let mut terminal = Terminal::run(&lab, "exec $SSH h x");
        let session = lab.accept();
        terminal.screen.types("yes\n");
        terminal.screen.shows("yes");
        ask(&session, kind, "Allow it? ");
        terminal.screen.shows("Allow it? ");
        terminal.screen.types("no\n");
        assert_eq!(answer(&session).as_deref(), Some("no"), "{kind:?}");
        session.exit(0);
        assert!(terminal.child.wait().unwrap().success());
    }
}

#[test]
fn a_question_can_be_asked_before_input_is_relayed() {
    let lab = Lab::new();
    let mut terminal = Terminal::run(&lab, "exec $SSH h x");
    let mut session = lab.accept();
    ask(&session, QuestionKind::Secret, "Password: ");
    terminal.screen.shows("Password: ");
    terminal.screen.types("hidden\n");
    assert_eq!(answer(&session).as_deref(), Some("hidden"));
    // It may be the answer to a question that another process asks.
    terminal.screen.types("input\n");
    terminal.screen.shows("input");
    let input = session.stdin.as_ref().unwrap();
    let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    assert_eq!(poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&moment)), Ok(0));
    session.tell(&ToShim::Started(Default::default()));
    let mut buffer = [0; 6];
    session.stdin.as_mut().unwrap().read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"input\n");
    session.exit(0);
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn a_signal_during_a_question_brings_the_echo_back() {
    let lab = Lab::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut terminal = Terminal::run(&lab, "exec $SSH h x");
        let session = lab.accept();
        ask(&session, QuestionKind::Secret, "Password: ");
        terminal.screen.shows("Password: ");
        assert!(!terminal.echoes());
        kill(&terminal.child, signal);
        assert_eq!(session.hear(), Some(FromShim::Signal(signal.as_raw() as u8)));
        assert_eq!(terminal.child.wait().unwrap().signal(), Some(signal.as_raw()));
        assert!(terminal.echoes());
    }
}

#[test]
fn a_stop_during_a_question_brings_the_echo_back_until_it_is_continued() {
    let lab = Lab::new();
    // Below a shell that leads the session: a session's leader alone can't be stopped by TSTP.
    let script = "set -m; $SSH h x; echo stopped >&2; fg >&2; exit 0";
    let mut terminal = Terminal::run(&lab, script);
    let session = lab.accept();
    ask(&session, QuestionKind::Secret, "Password: ");
    terminal.screen.shows("Password: ");
    assert!(!terminal.echoes());
    terminal.screen.types("\x1a");
    terminal.screen.shows("stopped");
    // Continued by the shell's fg: asked again, without echo again.
    terminal.answers(session, "hidden\n");
}

#[test]
fn a_question_in_the_background_waits_for_the_foreground_and_its_modes() {
    let lab = Lab::new();
    // The shell edits its line meanwhile.
    let script = "set -m; stty -icanon -icrnl; $SSH -n h x & \
                  until grep -q '^State:.T' /proc/$!/status; do :; done; \
                  stty icanon icrnl; echo stopped >&2; fg >&2; exit 0";
    let mut terminal = Terminal::run(&lab, script);
    let session = lab.accept();
    ask(&session, QuestionKind::Secret, "Password: ");
    terminal.screen.shows("stopped");
    terminal.answers(session, "hidden\r");
}

#[test]
fn a_question_that_is_continued_in_the_background_leaves_the_modes_alone() {
    let lab = Lab::new();
    let script = "set -m; $SSH -n h x; stty -icanon; echo stopped >&2; read line; \
                  bg >&2; echo continued >&2; read line; stty icanon; fg >&2; exit 0";
    let mut terminal = Terminal::run(&lab, script);
    let session = lab.accept();
    let shim = rustix::net::sockopt::socket_peercred(&session.socket).unwrap().pid;
    ask(&session, QuestionKind::Secret, "Password: ");
    terminal.screen.shows("Password: ");
    terminal.screen.types("\x1a");
    terminal.screen.shows("stopped");
    terminal.screen.types("on\n");
    terminal.screen.shows("continued");
    // It wants to read, and is stopped for it.
    let shim = shim.as_raw_nonzero().get() as u32;
    wait_until(|| state(shim) == Some('T'), "it goes on in the background");
    let modes = tcgetattr(&terminal.slave).unwrap().local_modes;
    assert!(modes.contains(LocalModes::ECHO) && !modes.contains(LocalModes::ICANON), "{modes:?}");
    terminal.screen.types("on\n");
    terminal.answers(session, "hidden\n");
}

#[test]
fn a_shim_in_the_background_that_gets_input_is_stopped_as_ssh_is() {
    let lab = Lab::new();
    let script = "set -m; $SSH h x & \
                  until grep -q '^State:.T' /proc/$!/status; do :; done; \
                  echo stopped >&2; fg >&2; exit 0";
    let mut terminal = Terminal::run(&lab, script);
    let mut session = lab.accept();
    session.tell(&ToShim::Started(Default::default()));
    terminal.screen.types("line\n");
    terminal.screen.shows("stopped");
    let mut buffer = [0; 5];
    session.stdin.as_mut().unwrap().read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"line\n");
    session.exit(0);
    assert!(terminal.child.wait().unwrap().success());
}
