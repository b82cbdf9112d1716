//! Tools that run on a target: their `ssh` leads back through the master, and nowhere else.

use std::fs;
use std::os::unix::fs::MetadataExt;

use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Lab, Network, Tool, pattern, tree};
use rustix::process::Signal;

/// `remote` and `other`, which can't reach each other: both are reached from here alone.
fn siblings() -> (Lab, Lab) {
    let network = Network::start(&[("here", "one"), ("here", "two")]);
    let one = Lab::builder().at(&network, "one").clients_at("here");
    let one = one.etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    let two = Lab::builder().at(&network, "two");
    let two = two.etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    one.know("other", &two, &[]);
    (one, two)
}

/// Two labs on loopback, where it does not matter that they could reach each other.
fn neighbours() -> (Lab, Lab) {
    let (one, two) = (Lab::start(), Lab::start());
    one.know("other", &two, &[]);
    (one, two)
}

/// A tool on `remote` that knows `other` as `b`.
fn on(lab: &Lab, words: &[&str]) -> Tool {
    lab.run(["--on", "remote", "--route", "b=other"], words)
}

/// Holds that a server was called from the client's host alone.
#[track_caller]
fn expect_no_login_between(one: &Lab, two: &Lab) {
    for lab in [one, two] {
        let log = lab.log().text();
        let from = |line: &&str| line.starts_with("Connection from ");
        assert!(
            log.lines().filter(from).all(|line| {
                let address = line.split(' ').nth(2).unwrap();
                // The first address of a link is that of who calls.
                address.ends_with(".1")
            }),
            "{log}"
        );
        assert_eq!(lab.logins(), 1);
    }
}

#[test]
fn rsync_copies_between_hosts_that_can_not_reach_each_other() {
    if !root_for("network namespaces") {
        return;
    }
    let (one, two) = siblings();
    let tree = one.remote_dir().join("tree");
    tree::make(&tree, 300);
    let chown = ["chown", "-R", &one.account().name, tree.to_str().unwrap()];
    one.program(chown).run().expect_status(0);
    let (from, there) = (format!("{}/", tree.display()), two.remote_dir().join("tree"));
    let to = format!("b:{}/", there.display());
    on(&one, &["rsync", "-aH", &from, &to]).run().expect_status(0).expect_out("").expect_err("");
    tree::assert_same(&tree, &there);
    // And the other way round.
    let back = format!("{}/", one.remote_dir().join("back").display());
    on(&one, &["rsync", "-aH", &to, &back]).run().expect_status(0);
    tree::assert_same(&tree, &one.remote_dir().join("back"));
    expect_no_login_between(&one, &two);
    one.expect_nothing_left();
    two.expect_nothing_left();
}

#[test]
fn scp_sftp_git_and_pipes_between_hosts_that_can_not_reach_each_other() {
    if !root_for("network namespaces") {
        return;
    }
    let (one, two) = siblings();
    let (here, there) = (one.remote_dir(), two.remote_dir());
    let mut bytes = Vec::new();
    pattern::write(&mut bytes, 40 << 20).unwrap();
    fs::write(here.join("big"), &bytes).unwrap();
    let script = format!(
        r#"set -e; cd {here}
        export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        ssh b cat <big >out; cmp big out; rm out
        scp -q big b:{there}/scp
        scp -q b:{there}/scp got; cmp big got; rm got
        printf 'put big {there}/sftp\nget {there}/sftp got\n' | sftp -q -b - b >listed; cmp big got
        ssh b git init -q --bare -b main {there}/r.git
        git clone -q b:{there}/r.git r 2>/dev/null
        cd r; git checkout -q -b main; seq 1000 >file; git add .; git commit -q -m m
        git push -q origin main; git clone -q b:{there}/r.git ../r2; cmp file ../r2/file
        for i in $(seq 20); do ssh b "echo $i; exit $i" >/dev/null & done; wait
        set +e; ssh b 'echo err >&2; exit 9'; exit $?"#,
        here = here.display(),
        there = there.display()
    );
    let done = on(&one, &["bash", "-c", &script]).run();
    done.expect_status(9).expect_out("").expect_err("err\n");
    for copy in ["scp", "sftp"] {
        assert!(fs::read(there.join(copy)).unwrap() == bytes, "{copy} differs");
    }
    expect_no_login_between(&one, &two);
    one.expect_nothing_left();
    two.expect_nothing_left();
}

#[test]
fn the_readme_s_example_copies_as_other_accounts() {
    if !root_for("rules of sudo") {
        return;
    }
    let (one, two) = siblings();
    let tree = one.remote_dir().join("tree");
    tree::make(&tree, 30);
    let there = two.remote_dir().join("tree");
    let to = format!("b:{}/", there.display());
    let before = ["--on", "remote+sudo", "--route", "b=other+sudo"];
    let words = ["rsync", "-aH", &format!("{}/", tree.display()), &to];
    one.run(before, words).run().expect_status(0).expect_err("");
    tree::assert_same(&tree, &there);
    assert_eq!(fs::metadata(there.join("big")).unwrap().uid(), 0);
    expect_no_login_between(&one, &two);
    one.expect_nothing_left();
    two.expect_nothing_left();
}

#[test]
fn a_tool_s_streams_and_status_are_those_of_the_caller() {
    let (one, two) = neighbours();
    let script = "id -un; cat; echo err >&2; exit 7";
    let done = on(&one, &["sh", "-c", script]).input("in\n").run();
    let name = &one.account().name;
    done.expect_status(7).expect_out(&format!("{name}\nin\n")).expect_err("err\n");
    on(&one, &["sh", "-c", "kill -TERM $$"]).run().expect_status(143);
    on(&one, &["/no/such/tool"]).run().expect_fault(127, &["/no/such/tool"]);
    on(&one, &["no-such-tool"]).run().expect_fault(127, &["no-such-tool"]);
    on(&one, &["/etc/passwd"]).run().expect_fault(126, &["/etc/passwd"]);
    // The words are words, whatever a shell would make of them.
    let words = ["printf", "%s|", "a b", "$HOME", "'q'", "*", ""];
    on(&one, &words).run().expect_status(0).expect_out("a b|$HOME|'q'|*||");
    // Without any route it is a program on another host, and its ssh knows nobody.
    let done = one.run(["--on", "remote"], ["sh", "-c", "echo in; ssh b true"]).run();
    done.expect_fault(255, &["b: no --route"]).expect_out("in\n");
    assert_eq!((one.logins(), two.logins()), (1, 1));
    one.expect_nothing_left();
    two.expect_nothing_left();
}

#[test]
fn names_that_were_not_given_are_refused() {
    let (one, two) = neighbours();
    // `remote` and `other` are names that the caller could reach. The tool can't.
    for name in ["other", "remote", "c", "localhost"] {
        let done = on(&one, &["ssh", name, "true"]).run();
        done.expect_fault(255, &[name, "--route"]).expect_out("");
    }
    on(&one, &["ssh", "someone-else@b", "true"]).run().expect_fault(255, &["someone-else"]);
    on(&one, &["ssh", "b", "id -un"]).run().expect_out(&format!("{}\n", two.account().name));
    one.expect_nothing_left();
    two.expect_nothing_left();
}

#[test]
fn a_tool_ends_with_its_caller() {
    let (one, two) = neighbours();
    let script = "ssh b 'echo up; sleep 1000'";
    for signal in [Signal::TERM, Signal::KILL] {
        let mut running = on(&one, &["sh", "-c", script]).start();
        assert_eq!(running.read_line().as_deref(), Some("up"));
        running.signal(signal);
        running.finish();
        let still = |lab: &Lab| {
            lab.processes()
                .into_iter()
                .filter(|process| process.command.contains("sleep 1000"))
                .collect::<Vec<_>>()
        };
        for process in still(&one).into_iter().chain(still(&two)) {
            let ended = process.wait(std::time::Duration::from_secs(30));
            assert!(ended, "after {signal:?} still there: {process:?}");
        }
    }
    one.expect_nothing_left();
    two.expect_nothing_left();
}

#[test]
fn a_lost_host_is_255_for_the_tool_s_ssh_and_names_it() {
    let (one, two) = neighbours();
    let script = "ssh b 'echo up; sleep 1000'; echo $?; ssh b true; echo $?";
    let mut running = on(&one, &["sh", "-c", script]).start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    let _closed = two.stop_server();
    let done = running.finish().expect_status(0).expect_out("up\n255\n255\n");
    let said = done.err();
    assert!(said.lines().all(|line| line.starts_with("fakessh:")), "{said}");
    assert!(said.contains("other"), "{said}");
    one.expect_nothing_left();
}

#[test]
fn a_target_is_not_told_how_another_one_is_reached() {
    let (one, two) = neighbours();
    // What its ssh says there is kept apart from what the caller is told.
    let script = "ssh b 'echo up; sleep 1000' 2>there; ssh b true 2>>there; \
                  ssh nobody@b true 2>>there; ssh c true 2>>there; \
                  cat there";
    let mut running = on(&one, &["sh", "-c", script]).start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    let closed = two.stop_server();
    let done = running.finish();
    let (there, here) = (done.out(), done.err());
    let lines: Vec<&str> = there.lines().skip(1).collect();
    assert!(lines.len() >= 4, "{}", done.shown());
    let port = closed.number().to_string();
    let secrets = ["other", &*port, "127.0.0.1", "refused", &*two.account().name];
    for line in lines {
        assert!(line.starts_with("fakessh: "), "{line}");
        assert!(secrets.iter().all(|secret| !line.contains(secret)), "{line}");
    }
    // The caller is told where it was refused.
    assert!(here.contains("refused") && here.contains(&port), "{}", done.shown());
    one.expect_nothing_left();
}

#[test]
fn a_tool_whose_own_host_is_lost_is_255() {
    let (one, two) = neighbours();
    let mut running = on(&one, &["sh", "-c", "ssh b 'echo up; sleep 1000'"]).start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    one.kill_connections();
    running.finish().expect_fault(255, &["remote"]);
    one.expect_nothing_left();
    two.expect_nothing_left();
}

#[test]
fn a_tool_on_one_account_reaches_another_on_the_same_host() {
    if !root_for("rules of sudo") {
        return;
    }
    let builder = Lab::builder().another_account();
    let lab = builder.etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    let file = lab.remote_dir().join("file");
    fs::write(&file, "content\n").unwrap();
    let other = lab.other();
    let route = format!("db=remote+sudo:{}", other.name);
    let to = format!("db:{}", other.home.join("copy").display());
    let words = ["scp", "-q", file.to_str().unwrap(), &to];
    lab.run(["--on", "remote", "--route", &route], words).run().expect_status(0).expect_err("");
    let copy = other.home.join("copy");
    assert_eq!(fs::metadata(&copy).unwrap().uid(), other.uid);
    assert_eq!(fs::read_to_string(copy).unwrap(), "content\n");
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}
