//! How long masters, connections and run directories live, and the commands that show and end
//! them.

use std::time::Duration;

use fakessh_lab::{Client, GUARD, Gate, Lab, Relay, Running};
use rustix::process::Signal;

/// How often a connection is closed while sessions come.
const CLOSED: u32 = 10;

/// A run that does nothing, successfully.
fn run_true(lab: &Lab) {
    lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).run().expect_status(0).expect_err("");
}

/// A run that is in the middle of a session.
fn start_session(lab: &Lab) -> (Running, Gate) {
    let gate = Gate::new(lab);
    let command = format!("echo up; cat {}", gate.path());
    let mut running = lab.tool(Client::Fakessh, ["ssh", "remote", &command]).start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    (running, gate)
}

#[test]
fn a_run_directory_lives_as_long_as_its_run() {
    let lab = Lab::start();
    let (running, gate) = start_session(&lab);
    assert_eq!(lab.run_directories().len(), 1);
    gate.open("");
    running.finish().expect_status(0);
    assert_eq!(lab.run_directories(), [""; 0]);
    lab.expect_nothing_left();
}

#[test]
fn a_run_directory_is_gone_after_a_killed_tool() {
    let lab = Lab::start();
    lab.tool(Client::Fakessh, ["sh", "-c", "kill -9 $$"]).run().expect_status(137);
    assert_eq!(lab.run_directories(), [""; 0]);
    lab.expect_nothing_left();
}

#[test]
fn the_next_start_cleans_up_after_a_killed_run() {
    let lab = Lab::start();
    let (running, _gate) = start_session(&lab);
    running.signal_group(Signal::KILL);
    running.finish().expect_status(137);
    run_true(&lab);
    // The master removes it when it sees that the last process that held the run is gone.
    lab.expect_no_run_directories();
    assert_eq!(lab.logins(), 1, "the connection is still good");
    lab.expect_nothing_left();
}

#[test]
fn the_next_start_cleans_up_after_a_killed_master() {
    let lab = Lab::start();
    let (running, _gate) = start_session(&lab);
    lab.master().kill();
    running.finish().expect_fault(255, &[]);
    run_true(&lab);
    assert_eq!(lab.run_directories(), [""; 0]);
    assert_eq!(lab.logins(), 2);
    lab.expect_nothing_left();
}

#[test]
fn fifty_that_start_at_once_share_one_master_and_one_login() {
    let lab = Lab::start();
    let runs: Vec<Running> = (0..50)
        .map(|number| {
            let command = format!("exit {number}");
            lab.tool(Client::Fakessh, ["ssh", "remote", &command]).start()
        })
        .collect();
    for (number, running) in runs.into_iter().enumerate() {
        running.finish().expect_status(number as i32).expect_err("");
    }
    lab.master();
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn a_connection_is_closed_while_new_sessions_come() {
    let lab = Lab::start();
    // A session that was open when the connection was closed has failed, and says so.
    let script = r#"
import subprocess, sys, threading
faults = []
over = threading.Event()
def session():
    last = False
    while not last:
        last = over.is_set()
        done = subprocess.run(["ssh", "remote", "echo up"], capture_output=True, text=True)
        lost = done.returncode == 255 and done.stderr.startswith("fakessh: ")
        lost = lost and done.stderr.count("\n") == 1
        if not lost and (done.returncode, done.stdout, done.stderr) != (0, "up\n", ""):
            faults.append(done)
threads = [threading.Thread(target=session) for _ in range(4)]
[thread.start() for thread in threads]
sys.stdin.read()
over.set()
[thread.join() for thread in threads]
print(faults or "good")
"#;
    let running = lab.tool(Client::Fakessh, ["python3", "-c", script]).input_open().start();
    let mut closed = 0;
    while closed < CLOSED && running.is_running() {
        match lab.fakessh(["close", "remote"]).run() {
            done if done.code() == 0 => closed += 1,
            // Not yet, or not again.
            done if done.err().contains("no master") => _ = done.expect_fault(255, &[]),
            done => _ = done.expect_fault(255, &["remote", "no connection"]),
        }
    }
    running.finish().expect_status(0).expect_out("good\n").expect_err("");
    assert_eq!(closed, CLOSED);
    // Sessions were begun after the last one was closed.
    assert!(lab.logins() > 1);
    run_true(&lab);
    lab.expect_nothing_left();
}

#[test]
fn a_master_that_is_stopped_is_named_and_waited_for() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    run_true(&lab);
    for words in [&["ls"][..], &["connect", "-F", &config, "remote"], &["close", "remote"]] {
        let master = lab.master();
        master.signal(Signal::STOP);
        let running = lab.fakessh(words).start();
        running.wait_for_error(&format!("kill -KILL {}", master.pid));
        assert!(running.is_running());
        master.signal(Signal::CONT);
        running.finish().expect_fault(0, &["master", "is stopped", "kill -CONT"]);
    }
    let master = lab.master();
    master.signal(Signal::STOP);
    let running = lab.fakessh(["stop"]).start();
    running.wait_for_error(&format!("kill -KILL {}", master.pid));
    master.kill();
    // It has ended, as was wished.
    running.finish().expect_status(0);
    run_true(&lab);
    lab.expect_nothing_left();
}

#[test]
fn a_connection_outlives_its_run_and_ends_with_close() {
    let lab = Lab::start();
    run_true(&lab);
    run_true(&lab);
    assert_eq!(lab.logins(), 1);
    lab.fakessh(["close", "remote"]).run().expect_status(0).expect_out("").expect_err("");
    assert_eq!(lab.list().len(), 0);
    run_true(&lab);
    assert_eq!(lab.logins(), 2);
    lab.close_all();
    assert_eq!(lab.list().len(), 0);
    lab.expect_nothing_left();
}

#[test]
fn connect_connects_before_any_run() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    lab.fakessh(["connect", "-F", &config, "remote"]).run().expect_status(0).expect_out("");
    assert_eq!(lab.logins(), 1);
    run_true(&lab);
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn ls_shows_what_is_open() {
    let lab = Lab::start();
    assert_eq!(lab.list().len(), 0, "without a master");
    let (running, gate) = start_session(&lab);
    let listed = lab.list();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["name"], "remote");
    assert_eq!(listed[0]["user"], lab.account().name.as_str());
    assert_eq!(listed[0]["port"], lab.port());
    assert_eq!(listed[0]["sessions"], 1);
    let table = lab.fakessh(["ls"]).run().expect_status(0).out();
    assert!(table.contains("remote") && table.lines().count() == 2, "{table}");
    gate.open("");
    running.finish().expect_status(0);
    assert_eq!(lab.list()[0]["sessions"], 0);
}

#[test]
fn close_and_stop_end_what_runs_with_a_reason() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    for words in [&["close", "remote"][..], &["close", "--all"], &["stop"]] {
        let (running, _gate) = start_session(&lab);
        lab.fakessh(words).run().expect_status(0).expect_err("");
        running.finish().expect_fault(255, &[]);
        lab.fakessh(["connect", "-F", &config, "remote"]).run().expect_status(0);
    }
    lab.expect_nothing_left();
}

#[test]
fn an_ssh_that_comes_after_its_master_has_ended_is_told_so() {
    let lab = Lab::start();
    let gate = lab.local_dir("gates").join("gate");
    // Once by the inherited descriptor, and once by the socket in the run's directory.
    for forget in ["", "unset FAKESSH_FD; "] {
        let script = format!("echo up >&2; cat {0}; {forget}ssh remote true", gate.display());
        rustix::fs::mkfifoat(rustix::fs::CWD, &gate, 0o600.into()).unwrap();
        let running = lab.run([""; 0], ["sh", "-c", &script]).start();
        running.wait_for_error("up");
        lab.fakessh(["stop"]).run().expect_status(0);
        std::fs::write(&gate, "").unwrap();
        running.finish().expect_fault(255, &["its master has ended", "fakessh run"]);
        std::fs::remove_file(&gate).unwrap();
    }
    lab.expect_nothing_left();
}

#[test]
fn what_is_not_there_can_be_stopped_and_not_closed() {
    let lab = Lab::start();
    lab.fakessh(["stop"]).run().expect_status(0).expect_out("").expect_err("");
    run_true(&lab);
    lab.fakessh(["close", "nowhere"]).run().expect_fault(255, &["nowhere"]);
    let master = lab.master();
    lab.fakessh(["stop"]).run().expect_status(0).expect_out("").expect_err("");
    assert!(master.wait(Duration::ZERO), "stop returns when the master has ended");
}

#[test]
fn a_name_that_several_connections_have_closes_none_and_an_id_closes_one() {
    let lab = Lab::start();
    let copy = lab.dir().join("known_hosts_too");
    std::fs::copy(lab.known_hosts(), &copy).unwrap();
    let config = lab.config_path().display().to_string();
    let other = format!("UserKnownHostsFile={}", copy.display());
    for options in [&[][..], &["-o", &other]] {
        let words = [&["connect", "-F", &config], options, &["remote"]].concat();
        lab.fakessh(words).run().expect_status(0);
    }
    let ids = || -> Vec<String> {
        lab.list().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    let both = ids();
    assert_eq!(both.len(), 2);
    let at = format!("{} at 127.0.0.1:{}", lab.account().name, lab.port());
    let expected = [&both[0], &both[1], &at, "remote: 2 connections", "fakessh close @"];
    lab.fakessh(["close", "remote"]).run().expect_fault(255, &expected);
    assert_eq!(ids(), both, "none is closed");
    let table = lab.fakessh(["ls"]).run().expect_status(0).out();
    assert!(both.iter().all(|id| table.contains(id)), "{table}");
    lab.fakessh(["close", &both[1]]).run().expect_status(0).expect_err("");
    assert_eq!(ids(), both[..1]);
    lab.fakessh(["close", &both[1]]).run().expect_fault(255, &[&both[1], "no connection"]);
    // Now the name says which one.
    lab.fakessh(["close", "remote"]).run().expect_status(0).expect_err("");
    assert_eq!(lab.list().len(), 0);
    lab.expect_nothing_left();
}

#[test]
fn a_configuration_that_others_can_write_is_not_obeyed() {
    use std::os::unix::fs::PermissionsExt;

    let lab = Lab::start();
    lab.configure("[route.short]\nvia = \"remote\"\n");
    let file = lab.dir().join("user/.config/fakessh/config.toml");
    let config = lab.config_path().display().to_string();
    let connect = || lab.fakessh(["connect", "-F", &config, "short"]).run();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    connect().expect_fault(255, &["config.toml", "written by others", "chmod go-w"]);
    assert_eq!(lab.logins(), 0);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    connect().expect_status(0);
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn what_is_asked_for_in_the_moment_of_a_stop_is_done_by_the_next_master() {
    let lab = Lab::start();
    let relay = Relay::start(lab.port(), Duration::ZERO);
    lab.host_through("far", relay.port(), &[]);
    let config = lab.config_path().display().to_string();
    for _ in 0..3 {
        // The first master is connecting when it is stopped.
        relay.hold(false, true);
        let log = lab.log().len();
        let connecting = lab.fakessh(["connect", "-F", &config, "far"]).start();
        let running = lab.run(["far"], ["ssh", "far", "echo in"]).start();
        lab.log().wait_for(log, "Connection from");
        lab.fakessh(["stop"]).run().expect_status(0).expect_err("");
        relay.hold(false, false);
        connecting.finish().expect_status(0).expect_err("");
        running.finish().expect_status(0).expect_out("in\n").expect_err("");
        lab.close_all();
    }
    lab.expect_nothing_left();
}

#[test]
fn an_idle_master_ends_when_nothing_is_open() {
    let lab = Lab::start();
    let tool = lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).env("FAKESSH_IDLE_EXIT", "5");
    tool.run().expect_status(0);
    let master = lab.master();
    lab.close_all();
    assert!(master.wait(GUARD), "the master is still there");
    lab.expect_nothing_left();
}

#[test]
fn a_master_in_the_foreground_serves_until_it_is_told_to_end_with_fakessh() {
    let lab = Lab::start();
    for signal in [Signal::TERM, Signal::INT] {
        let master = lab.fakessh(["master"]).start();
        master.wait_for_error("master started");
        // It has not said what it is: there is one, and this is it.
        lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).run().expect_status(0);
        assert_eq!(lab.master().pid, master.pid());
        lab.fakessh(["master"]).run().expect_fault(255, &["master", "already"]);
        let words = ["ssh", "remote", "echo up; exec sleep 1000"];
        let mut session = lab.tool(Client::Fakessh, words).start();
        assert_eq!(session.read_line().as_deref(), Some("up"));
        master.signal(signal);
        master.finish().expect_status(0).expect_out("");
        session.finish().expect_fault(255, &[]);
        lab.expect_no_processes();
    }
    lab.fakessh(["master", "--idle-exit", "1"]).run().expect_status(0);
    lab.expect_nothing_left();
}

#[test]
fn a_connection_that_its_server_closed_is_not_used_again() {
    let lab = Lab::start();
    run_true(&lab);
    lab.kill_connections();
    lab.expect_no_sessions();
    run_true(&lab);
    assert_eq!(lab.logins(), 2);
    lab.expect_nothing_left();
}

#[test]
fn a_master_holds_nothing_of_its_caller() {
    let lab = Lab::start();
    run_true(&lab);
    let proc = format!("/proc/{}", lab.master().pid);
    assert_eq!(std::fs::read_link(format!("{proc}/cwd")).unwrap().to_str(), Some("/"));
    for fd in 0..3 {
        let open = std::fs::read_link(format!("{proc}/fd/{fd}")).unwrap();
        assert_eq!(open.to_str(), Some("/dev/null"), "descriptor {fd}");
    }
    let stat = std::fs::read_to_string(format!("{proc}/stat")).unwrap();
    let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().to_owned();
    let caller = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ours = caller.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().to_owned();
    assert_ne!(session, ours);
    lab.expect_nothing_left();
}

/// Another server with an account of its own, which the first one's users know as `other`.
fn second(lab: &Lab) -> Lab {
    let second = Lab::start();
    lab.know("other", &second, &[]);
    second
}

#[test]
fn a_run_needs_no_destination_where_command_lines_say_it() {
    let lab = Lab::start();
    let other = second(&lab);
    let script = "for host in remote other remote; do ssh $host 'id -un'; done";
    let done = lab.run([""; 0], ["sh", "-c", script]).run();
    let (one, two) = (&lab.account().name, &other.account().name);
    done.expect_status(0).expect_out(&format!("{one}\n{two}\n{one}\n"));
    assert_eq!((lab.logins(), other.logins()), (1, 1));
    lab.expect_nothing_left();
}

#[test]
fn routes_give_names_to_destinations() {
    let lab = Lab::start();
    let other = second(&lab);
    let script = "ssh one 'id -un'; ssh two 'id -un'; ssh one true";
    let before = ["--route", "one=remote", "--route", "two=other"];
    let done = lab.run(before, ["sh", "-c", script]).run();
    let (one, two) = (&lab.account().name, &other.account().name);
    done.expect_status(0).expect_out(&format!("{one}\n{two}\n"));
    assert_eq!((lab.logins(), other.logins()), (1, 1));
    lab.expect_nothing_left();
}

#[test]
fn files_pass_between_two_hosts_that_do_not_know_each_other() {
    let lab = Lab::start();
    let other = second(&lab);
    std::fs::write(lab.remote_dir().join("file"), "content\n").unwrap();
    let from = format!("one:{}/file", lab.remote_dir().display());
    let to = format!("two:{}/file", other.remote_dir().display());
    let before = ["--route", "one=remote", "--route", "two=other"];
    lab.run(before, ["scp", "-q", "-3", &from, &to]).run().expect_status(0);
    let copy = std::fs::read_to_string(other.remote_dir().join("file")).unwrap();
    assert_eq!(copy, "content\n");
    lab.expect_nothing_left();
}

#[test]
fn names_of_one_account_share_its_connection() {
    let lab = Lab::start();
    lab.host_through("alias", lab.port(), &[]);
    let script = "ssh remote echo one; ssh alias echo two";
    let done = lab.run([""; 0], ["sh", "-c", script]).run();
    done.expect_status(0).expect_out("one\ntwo\n");
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn a_process_that_outlives_the_tool_keeps_its_ssh() {
    let lab = Lab::start();
    let gate = Gate::new(&lab);
    let script = format!(
        "(read x <{gate}; command -v ssh; ssh remote echo still ours) >{out} 2>&1 &",
        gate = gate.path(),
        out = lab.dir().join("user/outlives").display()
    );
    lab.tool(Client::Fakessh, ["sh", "-c", &script]).run().expect_status(0);
    assert_eq!(lab.run_directories().len(), 1);
    gate.open("");
    lab.expect_no_run_directories();
    let said = std::fs::read_to_string(lab.dir().join("user/outlives")).unwrap();
    assert!(said.contains("/run-") && said.ends_with("still ours\n"), "{said}");
    lab.expect_nothing_left();
}

#[test]
fn an_interrupted_connect_leaves_nothing_and_holds_up_nobody() {
    let lab = Lab::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    lab.host_through("silent", silent.local_addr().unwrap().port(), &[]);
    let running = lab.tool_to(Client::Fakessh, "silent", ["true"]).start();
    // The server sees the attempt, and says nothing.
    let (attempt, _) = silent.accept().unwrap();
    running.signal_group(Signal::INT);
    running.finish().expect_status(130);
    // The attempt is given up: its connection ends.
    let ended = std::io::Read::read_to_end(&mut &attempt, &mut Vec::new());
    assert!(ended.is_ok() || ended.is_err_and(|error| error.raw_os_error() == Some(104)));
    run_true(&lab);
    lab.expect_nothing_left();
}

#[test]
fn variables_are_those_of_the_name_that_was_used() {
    let lab = Lab::start();
    lab.host_through("one", lab.port(), &["SetEnv V=one"]);
    lab.host_through("two", lab.port(), &["SetEnv V=two"]);
    for name in ["one", "two"] {
        let command = ["ssh", name, "echo $V"];
        let done = lab.tool_to(Client::Fakessh, name, command).run().expect_status(0);
        done.expect_out(&format!("{name}\n"));
    }
    assert_eq!(lab.logins(), 1, "the connection is shared");
}
