//! Agents that are forwarded (`-A`, `ForwardAgent`).

use std::path::PathBuf;

use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Client, Gate, Lab, both_clients};

/// An agent with the lab's key, which ends with this.
struct Agent {
    socket: PathBuf,
    process: std::process::Child,
}

impl Agent {
    fn start(lab: &Lab) -> Agent {
        let agent = Agent::start_without_key(lab, "agent");
        let add = lab.program(["ssh-add", "-q", lab.key().to_str().unwrap()]);
        add.env("SSH_AUTH_SOCK", &agent.socket).run().expect_status(0);
        agent
    }

    fn start_without_key(lab: &Lab, name: &str) -> Agent {
        let socket = lab.local_dir(name).join("socket");
        let mut command = std::process::Command::new("ssh-agent");
        let process = command.arg("-D").arg("-a").arg(&socket).stdout(std::process::Stdio::null());
        let process = process.spawn().unwrap();
        fakessh_lab::wait_until(|| socket.exists(), "there is no agent");
        Agent { socket, process }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The fingerprint of the lab's key, as `ssh-add -l` shows it.
fn fingerprint(lab: &Lab) -> String {
    let shown = lab.program(["ssh-keygen", "-lf", lab.key().to_str().unwrap()]).run();
    shown.out().split(' ').nth(1).unwrap().to_owned()
}

both_clients! {
    fn a_session_reaches_the_agent_if_it_asks_for_that(client) {
        let lab = Lab::start();
        let agent = Agent::start(&lab);
        let key = fingerprint(&lab);
        let run = |options: &[&str], command: &str| {
            let words = [&["ssh"], options, &["remote", command]].concat();
            lab.tool(client, words).env("SSH_AUTH_SOCK", &agent.socket).run()
        };
        for options in [&["-A"][..], &["-o", "ForwardAgent=yes"], &["-a", "-A"], &["-tt", "-A"]] {
            let done = run(options, "ssh-add -l").expect_status(0);
            assert!(done.out().contains(&key), "{options:?}: {}", done.shown());
        }
        for options in [&[][..], &["-A", "-a"], &["-o", "ForwardAgent=no"]] {
            run(options, "echo agent=$SSH_AUTH_SOCK").expect_status(0).expect_out("agent=\n");
        }
        // It signs.
        let sign = "echo text >text; ssh-add -L >key.pub; \
                    ssh-keygen -q -Y sign -f key.pub -n test text && cat text.sig";
        let done = run(&["-A"], sign).expect_status(0);
        assert!(done.out().starts_with("-----BEGIN SSH SIGNATURE"), "{}", done.shown());
        // Two at once have one each, and each is gone with its session.
        let paths: Vec<String> = (0..2)
            .map(|_| run(&["-A"], "ssh-add -l >/dev/null && echo $SSH_AUTH_SOCK").out())
            .collect();
        let look = format!("ls {} {} 2>/dev/null; true", paths[0].trim(), paths[1].trim());
        run(&[], &look).expect_out("");
        drop(agent);
        lab.expect_nothing_left();
    }

    fn without_an_agent_the_session_goes_on(client) {
        let lab = Lab::start();
        let tool = lab.tool(client, ["ssh", "-A", "remote", "echo agent=$SSH_AUTH_SOCK"]);
        tool.env_remove("SSH_AUTH_SOCK").run().expect_status(0).expect_out("agent=\n");
    }

    fn the_configuration_asks_for_an_agent(client) {
        let lab = Lab::start();
        let agent = Agent::start(&lab);
        let key = fingerprint(&lab);
        let own = format!("ForwardAgent {}", agent.socket.display());
        lab.host_through("own", lab.port(), &[&own]);
        // ssh wants another one to be there nevertheless.
        let other = Agent::start_without_key(&lab, "other");
        let tool = lab.tool_to(client, "own", ["ssh", "own", "ssh-add -l"]);
        let done = tool.env("SSH_AUTH_SOCK", &other.socket).run().expect_status(0);
        assert!(done.out().contains(&key), "{}", done.shown());
    }

    /// A key that may be used from here to the host, and from there to nowhere.
    fn a_restricted_key_knows_which_host_uses_it(client) {
        let lab = Lab::start();
        let agent = Agent::start(&lab);
        let with_agent = |words: &[&str]| {
            lab.program(words).env("SSH_AUTH_SOCK", &agent.socket).run()
        };
        with_agent(&["ssh-add", "-q", "-D"]).expect_status(0);
        let hosts = lab.known_hosts();
        let words = ["ssh-add", "-q", "-H", hosts.to_str().unwrap(), "-h", "fakessh-lab"];
        let added = with_agent(&[&words[..], &[lab.key().to_str().unwrap()]].concat());
        added.expect_status(0);
        let words = ["ssh", "-A", "remote", "ssh-add -l"];
        let done = lab.tool(client, words).env("SSH_AUTH_SOCK", &agent.socket).run();
        assert!(done.out().contains("no identities"), "{}", done.shown());
    }
}

#[test]
fn the_agent_reaches_who_asks_behind_sudo_and_nobody_before() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    let agent = Agent::start(&lab);
    let key = fingerprint(&lab);
    let run = |route: &str, command: &str| {
        let words = ["ssh", "-A", "remote", command];
        lab.run([route], words).env("SSH_AUTH_SOCK", &agent.socket).run()
    };
    let done = run("remote+sudo", "id -un; ssh-add -l; stat -c %a $(dirname $SSH_AUTH_SOCK)");
    let out = done.expect_status(0).out();
    assert!(out.starts_with("root\n") && out.contains(&key) && out.ends_with("700\n"), "{out}");
    let done = run("remote+sudo", "ssh-add -l; kill -9 $PPID; sleep 60");
    done.expect_status(255);
    drop(agent);
    lab.expect_nothing_left();
}

#[test]
fn where_no_slave_runs_the_server_forwards_the_agent() {
    let what = "case $SSH_ORIGINAL_COMMAND in (*fakessh*) exit 1;; esac; \
                eval \"$SSH_ORIGINAL_COMMAND\"";
    let lab = Lab::builder().sshd(&format!("ForceCommand {what}")).start();
    let agent = Agent::start(&lab);
    let key = fingerprint(&lab);
    let words = ["ssh", "-A", "remote", "ssh-add -l"];
    let tool = lab.tool(Client::Fakessh, words).env("SSH_AUTH_SOCK", &agent.socket);
    let done = tool.run().expect_status(0);
    assert!(done.out().contains(&key), "{}", done.shown());
    assert!(lab.direct().is_some());
    let session = lab.wait_for_event("session", &[("program", "command")]);
    assert_eq!(session["agent"], 1, "{session}");
    // The end of one of two sessions is not that of the other's agent.
    let words = ["ssh", "-A", "remote", "echo up; cat"];
    let start = || {
        let tool = lab.tool(Client::Fakessh, words).env("SSH_AUTH_SOCK", &agent.socket);
        let mut running = tool.input_open().start();
        assert_eq!(running.read_line().as_deref(), Some("up"));
        running
    };
    let first = start();
    let gate = Gate::new(&lab);
    let command = format!("echo up; cat {}; ssh-add -l", gate.path());
    let tool = lab.tool(Client::Fakessh, ["ssh", "-A", "remote", &command]);
    let mut second = tool.env("SSH_AUTH_SOCK", &agent.socket).start();
    assert_eq!(second.read_line().as_deref(), Some("up"));
    let third = start();
    for mut ended in [first, third] {
        ended.close_stdin();
        ended.finish().expect_status(0);
    }
    gate.open("");
    let done = second.finish().expect_status(0);
    assert!(done.out().contains(&key), "{}", done.shown());
}
