//! The shim finds its master whatever the tool does to descriptors, environment and sessions.

use std::time::Duration;

use fakessh_lab::{Client, Finished, Gate, Lab, SharedLab};

static LAB: SharedLab = SharedLab::new(Lab::start);

fn run(words: &[&str]) -> Finished {
    LAB.get().tool(Client::Fakessh, words).run()
}

#[test]
fn from_a_subprocess_of_python_that_closes_descriptors() {
    let script = "import subprocess; print(subprocess.run(['ssh', 'remote', 'echo found'], \
                  close_fds=True).returncode)";
    run(&["python3", "-u", "-c", script]).expect_status(0).expect_out("found\n0\n");
}

#[test]
fn from_an_environment_that_keeps_only_path() {
    run(&["sh", "-c", "env -i PATH=\"$PATH\" ssh remote 'echo found'"])
        .expect_status(0)
        .expect_out("found\n");
}

#[test]
fn with_neither_descriptors_nor_environment() {
    let script = "import os, subprocess; subprocess.run(['ssh', 'remote', 'echo found'], \
                  close_fds=True, env={'PATH': os.environ['PATH']})";
    run(&["python3", "-c", script]).expect_status(0).expect_out("found\n");
}

#[test]
fn by_its_absolute_path_without_path_environment_and_descriptors() {
    let script = "import shutil, subprocess; subprocess.run([shutil.which('ssh'), 'remote', \
                  'echo found'], close_fds=True, env={})";
    run(&["python3", "-c", script]).expect_status(0).expect_out("found\n");
}

#[test]
fn through_a_symbolic_link_to_it() {
    let script = "ln -s \"$(command -v ssh)\" \"$TMPDIR/other\"; \"$TMPDIR/other\" remote 'echo found'; \
                  rm \"$TMPDIR/other\"";
    // Called by another name it is still the shim: tools rename ssh.
    run(&["sh", "-c", script]).expect_status(0).expect_out("found\n");
}

#[test]
fn when_the_inherited_descriptor_is_another_file() {
    let script =
        "for fd in $(seq 3 63); do eval \"exec $fd</dev/null\"; done; ssh remote 'echo found'";
    run(&["bash", "-c", script]).expect_status(0).expect_out("found\n");
}

#[test]
fn from_a_session_of_its_own() {
    run(&["setsid", "--wait", "ssh", "remote", "echo found"])
        .expect_status(0)
        .expect_out("found\n");
}

#[test]
fn from_an_orphan_in_a_session_of_its_own() {
    let script = "mkfifo \"$TMPDIR/answer\"; \
                  ( setsid sh -c 'ssh remote \"echo found\" >\"$TMPDIR/answer\"' & ) ; \
                  cat \"$TMPDIR/answer\"; rm \"$TMPDIR/answer\"";
    run(&["sh", "-c", script]).expect_status(0).expect_out("found\n");
}

#[test]
fn from_a_process_that_outlives_the_tool() {
    let lab = LAB.get();
    let [up, gate, told] = [(); 3].map(|()| Gate::new(&lab));
    // As sshfs does: the program that was started ends, a daemon goes on with its session.
    let script = format!(
        "( setsid sh -c 'ssh remote \"echo up >{}; cat {}\" | cat >{}' </dev/null >/dev/null 2>&1 & ); \
         cat {}; exit 5",
        up.path(),
        gate.path(),
        told.path(),
        up.path(),
    );
    let done = lab.tool(Client::Fakessh, ["sh", "-c", &script]).run();
    done.expect_status(5).expect_out("up\n");
    gate.open("still served");
    assert_eq!(told.read(), "still served");
}

#[test]
fn by_thirty_at_once_over_one_run() {
    let script = "for i in $(seq 30); do ssh remote \"echo $i; exit $i\" & pids=\"$pids $!\"; done; \
                  for pid in $pids; do wait $pid; echo status $?; done";
    let done = run(&["bash", "-c", script]).expect_status(0);
    let out = done.out();
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> = (1..=30).map(|n| n.to_string()).collect();
    expected.extend((1..=30).map(|n| format!("status {n}")));
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

/// Starts 1,000 sessions that all wait at a gate, so that all are there at once.
fn a_thousand_at_once(max_sessions: u32) {
    let lab = Lab::builder().max_sessions(max_sessions).start();
    let script = r#"
import os, resource, subprocess, sys
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
count = 1000
command = 'echo up; read line; echo "$line"; exit 7'
sessions = [subprocess.Popen(["ssh", "remote", command], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE) for _ in range(count)]
up = sum(session.stdout.readline() == b"up\n" for session in sessions)
print("up", up, flush=True)
right = 0
for number, session in enumerate(sessions):
    out, _ = session.communicate(b"%d\n" % number)
    right += out == b"%d\n" % number and session.returncode == 7
print("right", right)
"#;
    let tool = lab.tool(Client::Fakessh, ["python3", "-c", script]);
    let done = tool.guard(Duration::from_secs(180)).run();
    done.expect_status(0).expect_out("up 1000\nright 1000\n");
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn by_a_thousand_at_once_where_sshd_allows_ten() {
    a_thousand_at_once(10);
}

#[test]
fn by_a_thousand_at_once_where_sshd_allows_one() {
    a_thousand_at_once(1);
}
