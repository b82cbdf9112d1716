//! Routes that begin alike share their connections, and end together.

use std::fs;

use fakessh_lab::account::PASSWORD;
use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::files::write_script;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Container, Finished, Gate, Lab, Terminal, root, tool};
use serde_json::Value;

/// A lab with sudo that asks nothing, and the route to a root of busybox in it.
fn lab_with_a_root() -> (Lab, String) {
    let builder = Lab::builder().another_account();
    let lab = builder.etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    let jail = lab.dir().join("jail");
    root::make(&jail);
    lab.furnish(&jail);
    let route = format!("remote+sudo+chroot:{}", jail.display());
    (lab, route)
}

fn at(lab: &Lab, route: &str, command: &str) -> Finished {
    lab.run([route], ["ssh", "remote", command]).run()
}

fn field<'a>(list: &'a [Value], name: &str, field: &str) -> &'a Value {
    let entry = list.iter().find(|entry| entry["name"] == name);
    &entry.unwrap_or_else(|| panic!("no {name} in {list:?}"))[field]
}

#[test]
fn routes_that_begin_alike_take_one_login_and_ls_shows_the_tree() {
    if !root_for("rules of sudo") {
        return;
    }
    let (lab, jail) = lab_with_a_root();
    let user = lab.account().name.clone();
    let other = format!("remote+sudo:{}", lab.other().name);
    // The last first: what is on its way is held as well.
    at(&lab, &jail, "id -un").expect_status(0).expect_out("root\n");
    at(&lab, &other, "id -un").expect_status(0).expect_out(&format!("{}\n", lab.other().name));
    at(&lab, "remote+sudo:root", "id -un").expect_status(0).expect_out("root\n");
    at(&lab, "remote", "id -un").expect_status(0).expect_out(&format!("{user}\n"));
    assert_eq!(lab.logins(), 1);
    let mut names = ["remote", "remote+sudo", &other, &jail].map(str::to_owned);
    names.sort();
    assert_eq!(lab.held(), names);
    let list = lab.list();
    assert_eq!(*field(&list, "remote", "parent"), Value::Null);
    assert_eq!(field(&list, "remote+sudo", "parent"), "remote");
    assert_eq!(field(&list, &other, "parent"), "remote");
    assert_eq!(field(&list, &jail, "parent"), "remote+sudo");
    assert_eq!(field(&list, "remote", "user"), user.as_str());
    assert_eq!(field(&list, "remote+sudo", "user"), "root");
    assert_eq!(field(&list, &other, "user"), lab.other().name.as_str());
    let tree = lab.fakessh(["ls"]).run().expect_status(0).out();
    let lines: Vec<&str> = tree.lines().collect();
    assert_eq!(lines.len(), 5, "{tree}");
    let place = |name: &str| lines.iter().position(|line| line.contains(name)).unwrap();
    assert!(place("sudo") > place("remote") && place("chroot:") > place("sudo"), "{tree}");
    lab.expect_nothing_left();
}

#[test]
fn ls_shows_what_hangs_on_two_of_one_name_once() {
    if !root_for("rules of sudo") {
        return;
    }
    let (lab, _) = lab_with_a_root();
    let copy = lab.dir().join("known_hosts_too");
    fs::copy(lab.known_hosts(), &copy).unwrap();
    let config = lab.config_path().display().to_string();
    let other = format!("UserKnownHostsFile={}", copy.display());
    for options in [&[][..], &["-o", &other]] {
        let words = [&["connect", "-F", &config], options, &["remote+sudo"]].concat();
        lab.fakessh(words).run().expect_status(0);
    }
    assert_eq!(lab.logins(), 2);
    let fields = ["name", "parent", "parent_index", "depth"];
    let seen: Vec<_> = lab.list().iter().map(|it| fields.map(|field| it[field].clone())).collect();
    let expected = serde_json::json!([
        ["remote", null, null, 0],
        ["remote+sudo", "remote", 0, 1],
        ["remote", null, null, 0],
        ["remote+sudo", "remote", 2, 1],
    ]);
    assert_eq!(serde_json::json!(seen), expected);
    let tree = lab.fakessh(["ls"]).run().expect_status(0).out();
    assert_eq!(tree.lines().count(), 5, "{tree}");
    lab.expect_nothing_left();
}

#[test]
fn a_hundred_sessions_at_once_ask_for_one_hop() {
    if !root_for("rules of sudo") {
        return;
    }
    let (lab, _) = lab_with_a_root();
    let script = "for i in $(seq 100); do ssh remote \"echo $i\" & done; wait";
    let done = lab.run(["remote+sudo"], ["sh", "-c", script]).run().expect_status(0);
    assert_eq!(done.out().lines().count(), 100, "{}", done.shown());
    // Runs that start together wait for the same context.
    lab.close_all();
    let runs: Vec<_> =
        (0..10).map(|_| lab.run(["remote+sudo"], ["ssh", "remote", "id -un"]).start()).collect();
    for run in runs {
        run.finish().expect_status(0).expect_out("root\n");
    }
    assert_eq!(lab.held(), ["remote", "remote+sudo"]);
    assert_eq!(lab.logins(), 2);
    lab.expect_nothing_left();
}

#[test]
fn closing_a_context_closes_what_hangs_on_it_and_nothing_else() {
    if !root_for("rules of sudo") {
        return;
    }
    let (lab, jail) = lab_with_a_root();
    let gate = Gate::new(&lab);
    let command = format!("echo up; cat {}", gate.path());
    let mut above = lab.run(["remote"], ["ssh", "remote", &command]).start();
    assert_eq!(above.read_line().as_deref(), Some("up"));
    let mut below = lab.run([&jail], ["ssh", "remote", "echo up; sleep 1000"]).start();
    assert_eq!(below.read_line().as_deref(), Some("up"));
    lab.fakessh(["close", "remote+sudo"]).run().expect_status(0).expect_err("");
    below.finish().expect_fault(255, &[]);
    assert_eq!(lab.held(), ["remote"]);
    gate.open("end\n");
    above.finish().expect_status(0).expect_out("up\nend\n");

    let mut below = lab.run([&jail], ["ssh", "remote", "echo up; sleep 1000"]).start();
    assert_eq!(below.read_line().as_deref(), Some("up"));
    lab.fakessh(["close", "remote"]).run().expect_status(0).expect_err("");
    below.finish().expect_fault(255, &[]);
    assert_eq!(lab.held(), [""; 0]);
    lab.expect_no_sessions();
    lab.expect_nothing_left();
}

#[test]
fn a_local_route_needs_no_server() {
    if !root_for("rules of sudo") {
        return;
    }
    let (lab, _) = lab_with_a_root();
    let script = "ssh remote 'id -u; cat; exit 7'";
    let done = lab.fakessh(["run", "local", "--", "sh", "-c", script]).input("in\n").run();
    done.expect_status(7).expect_out("0\nin\n").expect_err("");
    let place = lab.dir().join("container");
    root::make(&place);
    let container = Container::start(&lab, &place);
    let route = format!("nsenter:{}", container.pid());
    let done = lab.fakessh(["run", &route, "--", "ssh", "remote", "hostname; ls /"]).run();
    done.expect_status(0).expect_out("container\nbin\ndev\netc\nproc\nroot\nsrv\ntmp\n");
    assert_eq!(lab.logins(), 0);
    lab.expect_nothing_left();
}

#[test]
fn exec_and_openssh_are_ways_as_well() {
    if !root_for("a configuration of the system's ssh") {
        return;
    }
    let lab = Lab::builder().etc("ssh/ssh_config", "").start();
    lab.change_etc("ssh/ssh_config", |_| fs::read_to_string(lab.config_path()).unwrap());
    let fakessh = fakessh_lab::binary::fakessh().display().to_string();
    let run = |route: &str, command: &str| {
        let words = [&fakessh, "run", route, "--", "ssh", "remote", command];
        lab.program_at_server(words).run()
    };
    let user = format!("{}\n", lab.account().name);
    run("openssh:remote", "id -un; exit 3").expect_status(3).expect_out(&user);
    assert_eq!(lab.logins(), 1);
    let route = "openssh:remote+exec:IN='a  b' env";
    run(route, "echo \"$IN\"; exit 4").expect_status(4).expect_out("a  b\n");
    assert_eq!(lab.logins(), 1);
    run("exec:IN=here env", "echo $IN").expect_status(0).expect_out("here\n");
    run("exec:echo no slave; exit 1; echo", "true").expect_fault(255, &["exec", "no slave"]);
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn a_hop_from_this_host_leads_where_its_caller_says() {
    let lab = Lab::start();
    let programs = lab.local_dir("programs");
    let stand_in = "#!/bin/sh\n[ \"$1 $2 $3\" = 'exec -i app' ] || exit 9\nshift 3\n\
                    ENGINE=$DOCKER_HOST FILES=$HOME exec \"$@\"\n";
    write_script(&programs.join("docker"), stand_in);
    let path = format!("{}:{}", programs.display(), tool::PATH);
    let run = |route: &str, engine: &str, command: &str| {
        let tool = lab.fakessh(["run", route, "--", "ssh", "remote", command]);
        tool.env("PATH", &path).env("DOCKER_HOST", engine).run().expect_status(0)
    };
    let files = lab.dir().join("user").display().to_string();
    for engine in ["prod", "staging", "prod"] {
        let done = run("docker:app", engine, "echo $ENGINE $FILES");
        done.expect_out(&format!("{engine} {files}\n"));
    }
    assert_eq!(lab.held(), ["docker:app", "docker:app", "local"]);
    // Whoever came first is nobody there.
    run("local", "prod", "echo \"<$DOCKER_HOST>\"").expect_out("<>\n");
    // Also where several commands of one run use one name.
    lab.configure("[route.app]\nvia = \"docker:app\"\n");
    let script = "for engine in prod staging prod; do
        DOCKER_HOST=$engine ssh app 'echo $ENGINE'; done";
    let done = lab.run([""; 0], ["sh", "-c", script]).env("PATH", &path).run();
    done.expect_status(0).expect_out("prod\nstaging\nprod\n");
    lab.expect_nothing_left();
}

#[test]
fn openssh_asks_its_caller() {
    if !root_for("a configuration of the system's ssh") {
        return;
    }
    let lab = Lab::builder()
        .password()
        .client("UserKnownHostsFile /dev/null")
        .client("StrictHostKeyChecking ask")
        .etc("ssh/ssh_config", "")
        .start();
    lab.change_etc("ssh/ssh_config", |_| fs::read_to_string(lab.config_path()).unwrap());
    let fakessh = fakessh_lab::binary::fakessh().display().to_string();
    let run = |options: &[&str]| {
        let words = [&[&*fakessh, "run"], options, &["openssh:remote", "--"]].concat();
        lab.program_at_server([&words[..], &["ssh", "remote", "id -un"]].concat())
    };
    run(&[]).run().expect_fault(255, &["openssh", "nobody to ask"]);
    let terminal = Terminal::new();
    // The password of a hop on the target is not for the server.
    let file = lab.dir().join("password");
    fs::write(&file, "not the account's\n").unwrap();
    let running = run(&["--password-file", file.to_str().unwrap()]).on_terminal(&terminal).start();
    let shown = terminal.wait_for("(yes/no");
    assert!(shown.contains("SHA256:"), "{shown}");
    terminal.type_line("yes");
    terminal.wait_for("password:");
    terminal.type_line(PASSWORD);
    running.finish().expect_status(0).expect_out(&format!("{}\n", lab.account().name));
    assert_eq!((lab.logins(), lab.log().count("Failed password")), (1, 0));
    lab.expect_nothing_left();
}
