//! The master at its limit of open descriptors: what is begun there is refused in words, what runs
//! goes on, and later there is room again.

use fakessh_lab::{Client, Lab, binary};

/// What the master of these tests may open: enough for some dozen sessions.
const LIMIT: u32 = 100;

/// Sessions that are started, many more than there is room for.
const SESSIONS: u32 = 60;

/// Starts sessions that wait for the end of their input, says how many run, and waits for a line.
/// Then it ends their input, and says how each session ended.
const TOOL: &str = r#"
import subprocess, sys
line = "fakessh: the master is at its limit of open descriptors (%s);" % sys.argv[1]
pipe = subprocess.PIPE
words = sys.argv[3:] + ["remote", "echo up; cat; echo over"]
def start():
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe)
sessions = [start() for _ in range(int(sys.argv[2]))]
up = []
def is_up(session):
    if session.stdout.readline() == b"up\n":
        up.append(session)
        return True
    out, error = session.communicate()
    error = error.decode()
    if session.returncode != 255 or not error.startswith(line) or error.count("\n") != 1:
        sys.exit("refused with status %d: %s" % (session.returncode, error))
    return False
refused = [session for session in sessions if not is_up(session)]
good = up and refused
# Two that were refused at once may have left room for one.
while good and is_up(start()):
    pass
print("up" if good else "%d of %d" % (len(up), len(sessions)), flush=True)
sys.stdin.readline()
for number, session in enumerate(up):
    out, error = session.communicate(b"input %d\n" % number)
    if (out, error, session.returncode) != (b"input %d\nover\n" % number, b"", 0):
        sys.exit("session %d: %r" % (number, (out, error, session.returncode)))
print("over", flush=True)
"#;

/// A lab with a master that is connected to `remote` and may open [`LIMIT`] descriptors.
fn lab_at_its_limit() -> Lab {
    let lab = Lab::start();
    let script = format!("ulimit -n {LIMIT}; exec \"$@\"");
    let (program, config) = (binary::fakessh(), lab.config_path());
    let words = [program.to_str().unwrap(), "connect", "-F", config.to_str().unwrap(), "remote"];
    lab.program(["sh", "-c", &script, "sh"].iter().chain(&words)).run().expect_status(0);
    lab
}

/// Fills the master up with sessions that this `ssh` starts, and empties it again.
fn fill(lab: &Lab, ssh: &[&str]) {
    let (limit, sessions) = (LIMIT.to_string(), SESSIONS.to_string());
    let words = ["python3", "-c", TOOL, &limit, &sessions].into_iter().chain(ssh.iter().copied());
    let mut running = lab.tool(Client::Fakessh, words).input_open().start();
    let line = running.read_line();
    assert_eq!(line.as_deref(), Some("up"), "{}", running.errors());
    // Another run has no room, and who wants to see or to end something has.
    let other = lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).run();
    other.expect_fault(255, &["limit of open descriptors", &limit]);
    lab.fakessh(["ls"]).run().expect_status(0).expect_err("");
    running.write(b"\n").unwrap();
    running.finish().expect_status(0).expect_out("up\nover\n").expect_err("");
}

#[test]
fn sessions_at_the_limit_of_descriptors_run_or_are_refused_in_words() {
    let lab = lab_at_its_limit();
    for _ in 0..3 {
        fill(&lab, &["ssh"]);
        let after = lab.tool(Client::Fakessh, ["ssh", "remote", "echo again"]).run();
        after.expect_status(0).expect_out("again\n");
    }
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn sessions_that_come_over_the_runs_socket_are_refused_in_words_too() {
    let lab = lab_at_its_limit();
    fill(&lab, &["sh", "-c", "exec env -i PATH=\"$PATH\" ssh \"$@\"", "sh"]);
    let after = lab.tool(Client::Fakessh, ["ssh", "remote", "echo again"]).run();
    after.expect_status(0).expect_out("again\n");
    lab.expect_nothing_left();
}

#[test]
fn a_master_at_its_limit_can_be_ended() {
    let lab = lab_at_its_limit();
    let (limit, sessions) = (LIMIT.to_string(), SESSIONS.to_string());
    let words = ["python3", "-c", TOOL, &limit, &sessions, "ssh"];
    let mut running = lab.tool(Client::Fakessh, words).input_open().start();
    let line = running.read_line();
    assert_eq!(line.as_deref(), Some("up"), "{}", running.errors());
    lab.fakessh(["close", "remote"]).run().expect_status(0).expect_err("");
    lab.fakessh(["stop"]).run().expect_status(0).expect_err("");
    running.write(b"\n").unwrap();
    assert_ne!(running.finish().code(), 0);
    lab.expect_nothing_left();
}

/// Fifty runs at once look up as many configurations, each with a program of its own.
#[test]
fn many_runs_at_once_run_or_are_refused_in_words() {
    let lab = lab_at_its_limit();
    let start = |number: u32| {
        let command = format!("exit {number}");
        lab.tool(Client::Fakessh, ["ssh", "remote", &command]).start()
    };
    let runs: Vec<_> = (0..50).map(start).collect();
    for (number, running) in runs.into_iter().enumerate() {
        let done = running.finish();
        if done.code() == 255 {
            done.expect_fault(255, &["limit of open descriptors"]);
        } else {
            done.expect_status(number as i32).expect_err("");
        }
    }
    start(7).finish().expect_status(7);
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}
