//! What happens to a session when something on the way dies: one line, status 255, and never a
//! success that was none.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use fakessh_lab::files::write_script;
use fakessh_lab::privilege::root_for;
use fakessh_lab::process::Process;
use fakessh_lab::{Client, Finished, GUARD, Lab, Relay, Running, Terminal, both_clients};

/// Starts a program that says its process id and then waits for input, and gives it.
fn start(lab: &Lab, client: Client, name: &str) -> (Running, Process) {
    let words = ["ssh", name, "echo $$; cat"];
    let mut running = lab.tool_to(client, name, words).input_open().start();
    let line = running.read_line().expect("the program's process id");
    let program = Process::open(line.parse().expect("a process id")).expect("the program runs");
    (running, program)
}

/// Starts an rsync to the target that is slow enough to be in its middle, and waits until it is.
fn start_rsync(lab: &Lab, client: Client, name: &str) -> Running {
    let big = lab.local_dir("transfer").join("big");
    fs::write(&big, vec![b'x'; 20_000_000]).unwrap();
    let to = format!("{name}:{}/", lab.remote_dir().display());
    let words = ["rsync", "-a", "--bwlimit=1m", "--info=progress2", big.to_str().unwrap(), &to];
    // What ends a master may end the ssh of rsync as well: rsync sends SIGUSR1 to what it has
    // started when it gives up.
    let ssh = lab.local_dir("transfer").join("ssh");
    write_script(&ssh, "#!/bin/sh\ntrap '' USR1\nexec ssh \"$@\"\n");
    let running = lab.tool_to(client, name, words).env("RSYNC_RSH", ssh).start();
    running.wait_for_output("%");
    running
}

/// The same with an ssh as it is, in this direction.
fn start_plain_rsync(lab: &Lab, name: &str, up: bool) -> Running {
    let near = lab.local_dir("transfer");
    let remote = lab.remote_dir();
    let big = if up { near.join("big") } else { remote.join("big") };
    fs::write(&big, vec![b'x'; 20_000_000]).unwrap();
    let far = |path: &Path| format!("{name}:{}", path.display());
    let (from, to) = if up {
        (big.display().to_string(), far(&remote))
    } else {
        (far(&big), near.join("down/").display().to_string())
    };
    let words = ["rsync", "-a", "--bwlimit=1m", "--info=progress2", &from, &to];
    let running = lab.tool_to(Client::Fakessh, name, words).start();
    running.wait_for_output("%");
    running
}

/// What a cut session looks like.
fn cut(client: Client, done: Finished, words: &[&str]) -> Finished {
    match client {
        Client::Ssh => done.expect_status(255),
        Client::Fakessh => done.expect_fault(255, words),
    }
}

/// What a cut rsync looks like: an error of its own, and one line of ours.
fn cut_rsync(client: Client, done: &Finished) {
    assert!([10, 12, 30, 255].contains(&done.code()), "{}\n{}", done.code(), done.shown());
    if client == Client::Fakessh {
        let ours = done.err().lines().filter(|line| line.starts_with("fakessh:")).count();
        assert_eq!(ours, 1, "{}", done.shown());
    }
}

/// After the fault, everything works again.
fn works_again(lab: &Lab, client: Client, name: &str) {
    lab.tool_to(client, name, ["ssh", name, "echo again"])
        .run()
        .expect_status(0)
        .expect_out("again\n");
    if client == Client::Fakessh {
        lab.expect_nothing_left();
    }
}

both_clients! {
    fn a_connection_that_the_server_loses(client) {
        let lab = Lab::start();
        let (running, program) = start(&lab, client, "remote");
        lab.kill_connections();
        cut(client, running.finish(), &["remote", "lost"]);
        assert!(program.wait(GUARD), "the program lives on");
        works_again(&lab, client, "remote");
    }

    fn a_connection_that_the_server_loses_under_rsync(client) {
        let lab = Lab::start();
        let running = start_rsync(&lab, client, "remote");
        lab.kill_connections();
        cut_rsync(client, &running.finish());
        assert!(!lab.remote_dir().join("big").exists());
        works_again(&lab, client, "remote");
    }

    fn a_connection_that_is_cut(client) {
        let lab = Lab::start();
        let relay = Relay::start(lab.port(), Duration::ZERO);
        lab.host_through("far", relay.port(), &[]);
        let (running, program) = start(&lab, client, "far");
        relay.cut();
        cut(client, running.finish(), &["far", "lost"]);
        assert!(program.wait(GUARD), "the program lives on");
        works_again(&lab, client, "far");
    }

    fn a_network_that_goes_silent(client) {
        let lab = Lab::start();
        let relay = Relay::start(lab.port(), Duration::ZERO);
        let options = ["ServerAliveInterval 3", "ServerAliveCountMax 3"];
        lab.host_through("far", relay.port(), &options);
        let (running, _program) = start(&lab, client, "far");
        relay.set_silent(true);
        cut(client, running.finish(), &["far"]);
        relay.cut();
        relay.set_silent(false);
        works_again(&lab, client, "far");
    }

    fn an_ssh_that_is_killed_under_rsync(client) {
        let lab = Lab::start();
        let running = start_rsync(&lab, client, "remote");
        // What rsync started, found by the command that it passes on.
        let mut ssh = lab.processes();
        ssh.retain(|process| process.command.contains("ssh remote rsync --server")
            || process.command.contains("ssh -F") && process.command.contains("rsync --server"));
        ssh.retain(|process| !process.command.contains("fakessh run"));
        assert_eq!(ssh.len(), 1, "{ssh:?}");
        ssh[0].kill();
        let done = running.finish();
        assert!(done.code() != 0, "{}", done.shown());
        assert!(!lab.remote_dir().join("big").exists());
        works_again(&lab, client, "remote");
    }

    fn a_download_that_is_cut_is_no_success(client) {
        let lab = Lab::start();
        let (mut output, output_end) = std::io::pipe().unwrap();
        let running =
            lab.tool(client, ["ssh", "remote", "cat /dev/zero"]).stdout(output_end).start();
        output.read_exact(&mut vec![0; 10_000_000]).unwrap();
        lab.kill_connections();
        output.read_to_end(&mut Vec::new()).unwrap();
        cut(client, running.finish(), &["remote", "lost"]);
    }
}

/// Times that what depends on who is faster is tried.
const TIMES: usize = 8;

#[test]
fn an_rsync_whose_connection_is_lost_shows_why_each_time_with_fakessh() {
    let lab = Lab::start();
    for up in [true, false] {
        for _ in 0..TIMES {
            let running = start_plain_rsync(&lab, "remote", up);
            lab.kill_connections();
            cut_rsync(Client::Fakessh, &running.finish());
        }
    }
}

#[test]
fn a_killed_slave_with_fakessh() {
    let lab = Lab::start();
    let (running, program) = start(&lab, Client::Fakessh, "remote");
    let slave = program.parent().expect("the program has a parent");
    assert!(lab.slaves().iter().any(|it| it.pid == slave.pid), "no slave: {slave:?}");
    slave.kill();
    running.finish().expect_fault(255, &["remote"]);
    assert!(program.wait(GUARD), "the program lives on");
    works_again(&lab, Client::Fakessh, "remote");
}

#[test]
fn a_killed_slave_under_rsync_with_fakessh() {
    let lab = Lab::start();
    let running = start_rsync(&lab, Client::Fakessh, "remote");
    for slave in lab.slaves() {
        slave.kill();
    }
    cut_rsync(Client::Fakessh, &running.finish());
    assert!(!lab.remote_dir().join("big").exists());
    works_again(&lab, Client::Fakessh, "remote");
}

#[test]
fn a_killed_master_with_fakessh() {
    let lab = Lab::start();
    let (running, program) = start(&lab, Client::Fakessh, "remote");
    lab.master().kill();
    running.finish().expect_fault(255, &["master"]);
    assert!(program.wait(GUARD), "the program lives on");
    works_again(&lab, Client::Fakessh, "remote");
}

#[test]
fn a_question_ends_with_the_master_that_asks_it_with_fakessh() {
    if !root_for("an account with a password") {
        return;
    }
    let lab = Lab::builder().password().start();
    let config = lab.config_path().display().to_string();
    let connect = ["connect", "-F", &config, "remote"];
    let ssh = ["ssh", "-F", &config, "remote", "true"];
    for (words, is_killed) in [(&connect[..], true), (&ssh[..], true), (&connect[..], false)] {
        let terminal = Terminal::new();
        let running = lab.fakessh(words).on_terminal(&terminal).start();
        terminal.wait_for("password:");
        assert!(!terminal.echoes());
        if is_killed {
            lab.master().kill();
        } else {
            lab.fakessh(["stop"]).run().expect_status(0);
        }
        running.finish().expect_fault(255, &["master", "ended"]);
        assert!(terminal.echoes());
    }
    lab.expect_nothing_left();
}

#[test]
fn a_killed_master_under_rsync_with_fakessh() {
    let lab = Lab::start();
    let running = start_rsync(&lab, Client::Fakessh, "remote");
    lab.master().kill();
    cut_rsync(Client::Fakessh, &running.finish());
    assert!(!lab.remote_dir().join("big").exists());
    works_again(&lab, Client::Fakessh, "remote");
}

#[test]
fn the_slave_is_gone_from_the_target_when_the_network_was_silent_with_fakessh() {
    let lab = Lab::start();
    let relay = Relay::start(lab.port(), Duration::ZERO);
    let options = ["ServerAliveInterval 3", "ServerAliveCountMax 3"];
    lab.host_through("far", relay.port(), &options);
    let (running, program) = start(&lab, Client::Fakessh, "far");
    let slaves = lab.slaves();
    // The target never learns that the connection is over: its own patience has to end.
    relay.set_silent(true);
    running.finish().expect_fault(255, &["far"]);
    assert!(!slaves.is_empty());
    assert!(slaves.iter().all(|slave| slave.wait(GUARD)), "the slave lives on");
    assert!(program.wait(GUARD), "the program lives on");
}

#[test]
fn a_network_that_loses_one_direction_alone_with_fakessh() {
    for (up, down) in [(true, false), (false, true)] {
        let lab = Lab::start();
        let relay = Relay::start(lab.port(), Duration::ZERO);
        let options = ["ServerAliveInterval 1", "ServerAliveCountMax 2"];
        lab.host_through("far", relay.port(), &options);
        let (running, program) = start(&lab, Client::Fakessh, "far");
        // What is still heard from the far side is no answer.
        relay.hold(up, down);
        running.finish().expect_fault(255, &["far", "no answer"]);
        assert!(program.wait(GUARD), "the program lives on");
    }
}

#[test]
fn the_connection_of_a_dead_slave_is_ended_at_once_with_fakessh() {
    let lab = Lab::start();
    let words = ["sh", "-c", "ssh remote echo ready; cat"];
    let mut running = lab.tool(Client::Fakessh, words).input_open().start();
    assert_eq!(running.read_line().as_deref(), Some("ready"));
    lab.slaves().iter().for_each(Process::kill);
    // The run still holds the context, and nobody asks for it again.
    lab.expect_no_sessions();
    running.close_stdin();
    running.finish().expect_status(0);
}

#[test]
fn a_session_beside_a_killed_one_goes_on_with_fakessh() {
    let lab = Lab::start();
    let (mut first, _) = start(&lab, Client::Fakessh, "remote");
    let (second, program) = start(&lab, Client::Fakessh, "remote");
    second.signal_group(rustix::process::Signal::KILL);
    assert!(program.wait(GUARD), "the program lives on");
    first.write(b"still here\n").unwrap();
    assert_eq!(first.read_line().as_deref(), Some("still here"));
    first.finish().expect_status(0);
}
