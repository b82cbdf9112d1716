//! Signals to `ssh`, and what becomes of the remote program.

use fakessh_lab::process::Process;
use fakessh_lab::{Client, GUARD, Gate, Lab, Running, SharedLab, both_clients};
use rustix::process::Signal;

static LAB: SharedLab = SharedLab::new(Lab::start);

/// Starts `ssh remote COMMAND` below a shell, and gives its process. The command has no `'` in it.
fn start_below_shell(lab: &Lab, client: Client, before: &str, command: &str) -> (Running, Process) {
    // It says its own id, before the program can say anything.
    let ssh = "echo $$; exec ssh remote \"$0\"";
    let script = format!("{before} sh -c '{ssh}' '{command}' & wait $!");
    let mut running = lab.tool(client, ["bash", "-c", &script]).start();
    let ssh = process(&mut running);
    (running, ssh)
}

/// The process whose id is the tool's next line.
fn process(running: &mut Running) -> Process {
    let line = running.read_line().expect("a process id");
    let pid = line.trim().parse().unwrap_or_else(|_| panic!("no process id: {line:?}"));
    Process::open(pid).unwrap_or_else(|| panic!("no process {pid}"))
}

both_clients! {
    fn an_ssh_that_is_told_to_end_does(client) {
        let lab = LAB.get();
        for (signal, number) in
            [(Signal::TERM, 15), (Signal::HUP, 1)]
        {
            let (mut running, ssh) = start_below_shell(&lab, client, "", "echo $$; exec sleep 1000");
            let program = process(&mut running);
            ssh.signal(signal);
            running.finish().expect_status(client.status_of_signal(number));
            // OpenSSH's leaves it running.
            if client == Client::Fakessh {
                assert!(program.wait(GUARD), "the program lives on after signal {number}");
            }
            program.kill();
        }
    }

    fn an_ignored_interrupt_stays_ignored(client) {
        let lab = LAB.get();
        let gate = Gate::new(&lab);
        let command = format!("echo up; cat {}; exit 6", gate.path());
        let (mut running, ssh) = start_below_shell(&lab, client, "trap \"\" INT;", &command);
        assert_eq!(running.read_line().as_deref(), Some("up"));
        ssh.signal(Signal::INT);
        gate.open("");
        running.finish().expect_status(6);
    }

    fn a_stop_really_stops_and_a_continue_continues(client) {
        let lab = LAB.get();
        let gate = Gate::new(&lab);
        let script = r#"
import os, signal, subprocess, sys
# In a group of its own, as a shell's job is: the kernel stops no orphaned group.
ssh = subprocess.Popen(["ssh", "remote", "echo up; cat " + sys.argv[1]], stdout=subprocess.PIPE,
                       stdin=subprocess.DEVNULL, preexec_fn=os.setpgrp)
print(ssh.stdout.readline().decode().strip())
os.kill(ssh.pid, signal.SIGTSTP)
_, status = os.waitpid(ssh.pid, os.WUNTRACED)
print(os.WIFSTOPPED(status), flush=True)
os.kill(ssh.pid, signal.SIGCONT)
sys.stdin.readline()
print(ssh.stdout.read().decode().strip(), ssh.wait())
"#;
        let words = ["python3", "-c", script, &gate.path()];
        let mut running = lab.tool(client, words).input_open().start();
        assert_eq!(running.read_line().as_deref(), Some("up"));
        assert_eq!(running.read_line().as_deref(), Some("True"));
        gate.open("after\n");
        running.write(b"\n").unwrap();
        running.finish().expect_status(0).expect_out("up\nTrue\nafter 0\n");
    }
}

#[test]
fn a_killed_shim_takes_the_program_and_its_children_along_with_fakessh() {
    let lab = LAB.get();
    let command = "sleep 1000 & echo $$; echo $!; wait";
    let (mut running, shim) = start_below_shell(&lab, Client::Fakessh, "", command);
    let (program, child) = (process(&mut running), process(&mut running));
    shim.kill();
    assert!(program.wait(GUARD) && child.wait(GUARD), "they live on");
    running.finish().expect_status(137);
}

#[test]
fn a_program_that_detached_itself_outlives_its_session_with_fakessh() {
    let lab = LAB.get();
    let [ready, gate, told] = [(); 3].map(|()| Gate::new(&lab));
    let command = format!(
        "setsid sh -c \"echo up >{}; cat {} >{}\" </dev/null >/dev/null 2>&1 & \
         cat {}; exec sleep 1000",
        ready.path(),
        gate.path(),
        told.path(),
        ready.path()
    );
    let (mut running, shim) = start_below_shell(&lab, Client::Fakessh, "", &command);
    assert_eq!(running.read_line().as_deref(), Some("up"));
    shim.kill();
    running.finish().expect_status(137);
    gate.open("still here");
    assert_eq!(told.read(), "still here");
}

#[test]
fn an_interrupt_reaches_the_program_with_fakessh() {
    let lab = LAB.get();
    let told = Gate::new(&lab);
    // The hangup that follows is for those who did not end.
    let command = format!(
        "exec 9>{}; trap \"\" HUP; trap \"echo got >&9; exit 3\" INT; echo up; \
         while :; do sleep 0.1 9>&-; done",
        told.path()
    );
    let script = r#"
import os, signal, subprocess, sys
ssh = subprocess.Popen(["ssh", "remote", sys.argv[1]], stdout=subprocess.PIPE)
ssh.stdout.readline()
os.kill(ssh.pid, signal.SIGINT)
print(ssh.wait())
"#;
    let running = lab.tool(Client::Fakessh, ["python3", "-c", script, &command]).start();
    assert_eq!(told.read(), "got\n");
    // The shim has died of it, as a shell expects; it does not wait for the program.
    running.finish().expect_status(0).expect_out("-2\n");
}
