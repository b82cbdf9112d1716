//! Plays the part of the master for reverse sessions, and tests what passes over them.

use std::path::PathBuf;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::failure::Failure;
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::invocation::Request;
use fakessh_protocol::message::{
    FromShim, Notice, ProgramKind, Question, StartReverse, ToShim, ToSlave, Tool,
};
use tempfile::TempDir;

use crate::account::directory;
use crate::master::{Master, sum};

impl Master {
    /// Starts a tool.
    pub(crate) fn tool(&mut self, argv: &[&str]) -> SessionHandles {
        let argv = argv.iter().map(|word| word.as_bytes().to_vec()).collect();
        self.spawn(ProgramKind::Tool(Tool { argv }), &[])
    }

    /// Starts a shell as a tool.
    pub(crate) fn tool_shell(&mut self, line: &str) -> SessionHandles {
        self.tool(&["sh", "-c", line])
    }

    /// The next reverse session of a tool.
    pub(crate) fn next_reverse(&mut self) -> StartReverse {
        self.until("a reverse session", |master| !master.reverse.is_empty());
        self.reverse.pop_front().unwrap()
    }

    /// Ends a reverse session as a program would that has printed this.
    pub(crate) fn answer(&mut self, handles: SessionHandles, text: &[u8], status: ExitStatus) {
        self.send(handles.stdout, text);
        self.mux.finish(handles.stdout);
        self.mux.finish(handles.stderr);
        self.outcome(handles, ToShim::Exited(status));
    }

    /// Says how a reverse session ended, when its outputs are closed.
    pub(crate) fn outcome(&mut self, handles: SessionHandles, outcome: ToShim) {
        self.until("closed outputs", |master| {
            !master.mux.is_sending(handles.stdout) && !master.mux.is_sending(handles.stderr)
        });
        self.message(handles, &ToSlave::ToShim(outcome));
    }

    /// Echoes what comes from a reverse session's input until its end, and returns how much it was.
    pub(crate) fn echo_reverse(&mut self, handles: SessionHandles) -> usize {
        let mut passed = 0;
        let mut ended = false;
        while !ended {
            self.until("input", |master| {
                let input = master.of(handles.stdin);
                !input.bytes.is_empty() || input.ended || input.reset
            });
            let input = self.of(handles.stdin);
            assert!(!input.reset);
            ended = input.ended;
            let bytes = std::mem::take(&mut input.bytes);
            passed += bytes.len();
            self.send(handles.stdout, &bytes);
            self.until("room", |master| master.unsent(handles.stdout) < 2_000_000);
        }
        passed
    }

    /// Ends the tool's input, and waits for its success.
    pub(crate) fn tool_succeeds(&mut self, handles: SessionHandles) -> String {
        let status = self.exit(handles);
        let (out, err) = (self.text(handles.stdout), self.text(handles.stderr));
        assert_eq!(status, ExitStatus::Code(0), "{out}\n{err}");
        out
    }
}

/// A file of the test's own.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    _directory: TempDir,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let directory = directory();
        Scratch { path: directory.path().join(name), _directory: directory }
    }

    pub(crate) fn with(name: &str, content: &[u8]) -> Scratch {
        let scratch = Scratch::new(name);
        std::fs::write(&scratch.path, content).unwrap();
        scratch
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }
}

impl std::fmt::Display for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

#[test]
fn a_tools_ssh_leads_to_the_master() {
    let mut master = Master::start();
    let tool =
        master.tool_shell("printf in | ssh -o BatchMode=yes user@far some 'com  mand'; echo $?");
    let start = master.next_reverse();
    assert_eq!(start.tool, tool.control);
    let invocation = start.handoff.unpack().unwrap().invocation;
    assert_eq!(invocation.destination.host, "far");
    assert_eq!(invocation.destination.user.as_deref(), Some("user"));
    assert_eq!(invocation.request, Request::Command(b"some com  mand".to_vec()));
    let handles = start.handles;
    master.until("the end of input", |master| master.of(handles.stdin).ended);
    assert_eq!(master.text(handles.stdin), "in");
    master.send(handles.stderr, b"err\n");
    master.answer(handles, b"out\n", ExitStatus::Code(7));
    assert_eq!(master.tool_succeeds(tool), "out\n7\n");
    assert_eq!(master.text(tool.stderr), "err\n");
    assert_eq!(master.gone, []);
}

#[test]
fn all_byte_values_pass_both_ways() {
    let mut master = Master::start();
    let bytes: Vec<u8> = (0..=255).cycle().take(256 * 40).collect();
    let input = Scratch::with("bytes-in", &bytes);
    let tool = master.tool_shell(&format!("ssh far cat <{input}"));
    let handles = master.next_reverse().handles;
    assert_eq!(master.echo_reverse(handles), bytes.len());
    master.answer(handles, b"", ExitStatus::Code(0));
    assert_eq!(master.exit(tool), ExitStatus::Code(0));
    assert_eq!(master.of(tool.stdout).bytes, bytes);
}

fn a_hundred_megabytes(line: &str) {
    let mut master = Master::start();
    let mut seed: u64 = 88_172_645_463_325_252;
    let mut bytes = Vec::with_capacity(100_000_008);
    while bytes.len() < 100_000_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend(seed.to_le_bytes());
    }
    let input = Scratch::with("bulk", &bytes);
    let tool = master.tool_shell(&line.replace("INPUT", &input.to_string()));
    master.forget(tool.stdout);
    let handles = master.next_reverse().handles;
    let begun = std::time::Instant::now();
    assert_eq!(master.echo_reverse(handles), bytes.len());
    master.answer(handles, b"", ExitStatus::Code(0));
    assert_eq!(master.exit(tool), ExitStatus::Code(0));
    println!("{line}: {} ms", begun.elapsed().as_millis());
    let received = master.of(tool.stdout);
    assert_eq!((received.len, received.sum), (bytes.len(), sum(0, &bytes)));
}

#[test]
fn a_hundred_megabytes_come_back_unharmed_through_pipes() {
    a_hundred_megabytes("cat INPUT | ssh far cat | cat");
}

#[test]
fn a_hundred_megabytes_come_back_unharmed_through_files() {
    a_hundred_megabytes("ssh far cat <INPUT >INPUT.out; cat INPUT.out; rm INPUT.out");
}

#[test]
fn output_goes_on_after_the_end_of_input_and_input_after_that_of_output() {
    let mut master = Master::start();
    let tool = master.tool_shell(
        "{ echo first; cat; } | ssh far x | { cat; echo eof; }; exec 1>&-; cat >/dev/null",
    );
    let handles = master.next_reverse().handles;
    master.until("input", |master| master.text(handles.stdin) == "first\n");
    master.mux.finish(handles.stdout);
    // Whoever reads sees the end at once, and the session is not over.
    master.until("the end", |master| master.text(tool.stdout) == "eof\n");
    master.send(tool.stdin, b"second\n");
    master.until("input", |master| master.text(handles.stdin) == "first\nsecond\n");
    master.mux.finish(tool.stdin);
    master.until("the end of input", |master| master.of(handles.stdin).ended);
    master.answer(handles, b"", ExitStatus::Code(0));
    assert_eq!(master.exit(tool), ExitStatus::Code(0));
}

#[test]
fn a_reader_that_leaves_stops_the_program_and_its_status_counts() {
    let mut master = Master::start();
    let tool = master.tool_shell("{ ssh far yes; echo $? >&2; } | head -n 1");
    let handles = master.next_reverse().handles;
    master.send(handles.stdout, b"y\ny\ny\n");
    master.until("a stop", |master| {
        if !master.stopped.contains(&handles.stdout) {
            master.send(handles.stdout, &b"y\n".repeat(1000));
        }
        master.stopped.contains(&handles.stdout)
    });
    master.mux.finish(handles.stderr);
    master.outcome(handles, ToShim::Exited(ExitStatus::Signal(13)));
    assert_eq!(master.tool_succeeds(tool), "y\n");
    assert_eq!(master.text(tool.stderr), "141\n");
}

#[test]
fn a_program_that_reads_no_more_breaks_the_writers_pipe() {
    let mut master = Master::start();
    let tool = master.tool_shell("{ yes; echo $? >&2; } 2>&2 | ssh far x; echo ssh $?");
    let handles = master.next_reverse().handles;
    master.until("input", |master| master.of(handles.stdin).len > 100_000);
    master.mux.stop(handles.stdin);
    master.until("the writer's end", |master| master.of(tool.stderr).len > 0);
    master.answer(handles, b"still output\n", ExitStatus::Code(0));
    assert_eq!(master.tool_succeeds(tool), "still output\nssh 0\n");
    assert!(master.text(tool.stderr).contains("141"), "{}", master.text(tool.stderr));
}

#[test]
fn signals_and_the_death_of_a_shim_reach_the_master() {
    let mut master = Master::start();
    let tool = master.tool_shell("ssh far x & p=$!; read go; kill -INT $p; wait $p; echo $?; cat");
    // A shell without job control starts what is in the background with SIGINT ignored.
    let handles = master.next_reverse().handles;
    master.send(tool.stdin, b"go\n");
    master.mux.finish(tool.stdin);
    master.until("nothing", |master| master.is_flushed());
    master.answer(handles, b"", ExitStatus::Code(0));
    assert_eq!(master.tool_succeeds(tool), "0\n");
    assert_eq!(master.said, []);

    let tool = master.tool_shell("ssh far x & p=$!; read go; kill -TERM $p; wait $p; echo $?");
    let handles = master.next_reverse().handles;
    master.send(tool.stdin, b"go\n");
    master.until("its death", |master| master.gone == [handles.control]);
    assert_eq!(master.said, [(handles.control, FromShim::Signal(15))]);
    assert_eq!(master.tool_succeeds(tool), "143\n");

    let tool = master.tool_shell("ssh far x & p=$!; read go; kill -KILL $p; wait $p; echo $?");
    let handles = master.next_reverse().handles;
    master.send(tool.stdin, b"go\n");
    master.until("its death", |master| master.gone.contains(&handles.control));
    assert_eq!(master.tool_succeeds(tool), "137\n");
    assert_eq!((master.said.len(), master.gone.len()), (1, 2));
    // Both have closed their ends.
    master.until("closed ends", |master| {
        master.of(handles.stdin).ended && !master.mux.is_sending(handles.stdout)
    });
}

#[test]
fn what_the_master_says_reaches_the_shim() {
    let mut master = Master::start();
    let tool = master.tool(&[
        "sh",
        "-c",
        "SSH_ASKPASS_REQUIRE=force SSH_ASKPASS=/bin/echo ssh far x; echo $?",
    ]);
    let handles = master.next_reverse().handles;
    master.message(handles, &ToSlave::ToShim(ToShim::Notice(Notice::ours("take note"))));
    let question = Question::secret("what?");
    master.message(handles, &ToSlave::ToShim(ToShim::Ask(question)));
    master.until("an answer", |master| !master.said.is_empty());
    let (control, FromShim::Answer(Some(answer))) = &master.said[0] else { panic!() };
    assert_eq!((*control, &answer.0[..]), (handles.control, "what?"));
    master.mux.reset(handles.stdout);
    master.mux.reset(handles.stderr);
    master.outcome(handles, ToShim::Failed(Failure::other("it was lost")));
    assert_eq!(master.tool_succeeds(tool), "255\n");
    assert_eq!(master.text(tool.stderr), "fakessh: take note\nfakessh: it was lost\n");
    assert_eq!(master.gone, []);
}

#[test]
fn an_output_that_was_cut_ends_with_the_outcome_and_not_before() {
    let mut master = Master::start();
    let tool = master.tool_shell("{ ssh far x; echo $? >&2; } | { cat; echo end; }");
    let handles = master.next_reverse().handles;
    master.send(handles.stdout, b"some\n");
    master.until("output", |master| master.text(tool.stdout) == "some\n");
    master.mux.reset(handles.stdout);
    assert_eq!(master.run("echo between", b"").1, "between\n");
    assert_eq!(master.text(tool.stdout), "some\n");
    master.mux.finish(handles.stderr);
    master.outcome(handles, ToShim::Failed(Failure::other("it was lost")));
    assert_eq!(master.tool_succeeds(tool), "some\nend\n");
    assert_eq!(master.text(tool.stderr), "fakessh: it was lost\n255\n");
}

#[test]
fn two_hundred_at_once_have_their_own_answers() {
    let mut master = Master::start();
    let tool = master
        .tool_shell("for n in $(seq 200); do (echo $n | ssh far $n; echo $n $?) & done; wait");
    let mut sessions = Vec::new();
    for _ in 0..200 {
        sessions.push(master.next_reverse());
    }
    // None has ended before all are there.
    for start in sessions {
        let Request::Command(number) = start.handoff.unpack().unwrap().invocation.request else {
            panic!()
        };
        let number = String::from_utf8(number).unwrap();
        let handles = start.handles;
        master.until("input", |master| master.of(handles.stdin).ended);
        assert_eq!(master.text(handles.stdin), format!("{number}\n"));
        let status = ExitStatus::Code((number.parse::<u32>().unwrap() % 100) as u8);
        master.answer(handles, b"", status);
    }
    let text = master.tool_succeeds(tool);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> = (1..=200).map(|n| format!("{n} {}", n % 100)).collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn a_reader_that_stops_stops_only_its_own_session() {
    let mut master = Master::start();
    let tool = master.tool_shell("ssh far x | { kill -STOP $$; sleep 1000; }");
    let _ = tool;
    let handles = master.next_reverse().handles;
    master.send(handles.stdout, &vec![b'x'; 2_000_000]);
    let window = fakessh_protocol::mux::INITIAL_WINDOW as usize;
    master.until("a full window", |master| master.unsent(handles.stdout) + window <= 2_000_000);
    for _ in 0..20 {
        assert_eq!(master.run("cat", b"free").1, "free");
    }
    master.until_the_slave_sleeps();
}

/// A tool that ends its `ssh` as soon as it sees the end of an output, again and again, and says
/// whether that `ssh` had spoken.
const HASTY: &str = r#"
import subprocess, sys, threading
pipe = subprocess.PIPE
for _ in range(int(sys.argv[1])):
    ssh = subprocess.Popen(["ssh", "far", "command"], stdin=pipe, stdout=pipe, stderr=pipe)
    said = []
    listening = threading.Thread(target=lambda: said.append(ssh.stderr.read()))
    listening.start()
    ssh.stdout.read()
    ssh.kill()
    listening.join()
    print(b"it is broken" in said[0], flush=True)
"#;

#[test]
fn the_streams_of_a_failed_session_end_after_its_ssh_has_said_why() {
    const TIMES: usize = 20;
    let mut master = Master::start();
    let tool = master.tool(&["python3", "-c", HASTY, &TIMES.to_string()]);
    for _ in 0..TIMES {
        let handles = master.next_reverse().handles;
        master.mux.stop(handles.stdin);
        master.mux.reset(handles.stdout);
        master.mux.reset(handles.stderr);
        master.outcome(handles, ToShim::Failed(Failure::other("it is broken")));
    }
    assert_eq!(master.tool_succeeds(tool), "True\n".repeat(TIMES));
}
