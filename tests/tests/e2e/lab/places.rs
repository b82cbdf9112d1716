//! The places that routes lead to are real: tried with the plain programs, without fakessh.

use std::fs;
use std::path::PathBuf;

use fakessh_lab::account::PASSWORD;
use fakessh_lab::privilege::{containers_for, root_for};
use fakessh_lab::{
    Client, Container, Docker, Finished, Lab, Lxc, Network, Terminal, process, root, stand_ins,
};

/// `ssh NAME COMMAND` with the real ssh.
fn ssh(lab: &Lab, name: &str, command: &str) -> Finished {
    lab.tool(Client::Ssh, ["ssh", name, command]).run()
}

/// A root of busybox in the lab.
fn busybox(lab: &Lab) -> PathBuf {
    let root = lab.dir().join("root");
    root::make(&root);
    root
}

#[test]
fn sudo_asks_on_the_terminal_and_only_there() {
    if !root_for("rules of sudo") {
        return;
    }
    let password = "pässwörd with spaces";
    let lab = Lab::builder()
        .account_password(password)
        .etc("sudoers.d/lab", "Defaults requiretty\n$ACCOUNT ALL=(ALL) ALL\n")
        .start();
    let done = ssh(&lab, "remote", "sudo -S id -un").expect_status(1);
    assert!(done.err().contains("must have a tty"), "{}", done.shown());
    let terminal = Terminal::new();
    let tool = lab.tool(Client::Ssh, ["ssh", "-t", "remote", "sudo -p 'secret please: ' id -un"]);
    let running = tool.on_terminal(&terminal).start();
    running.wait_for_output("secret please: ");
    terminal.type_line(password);
    let done = running.finish().expect_status(0);
    assert!(done.out().contains("root"), "{}", done.shown());
    lab.expect_nothing_left();
}

#[test]
fn another_account_has_its_password_and_doas_its_rules() {
    if !root_for("rules of doas") {
        return;
    }
    let lab = Lab::builder()
        .another_account()
        .etc("doas.conf", "permit nopass $ACCOUNT as root\n")
        .start();
    ssh(&lab, "remote", "doas id -un").expect_status(0).expect_out("root\n");
    let other = &lab.other().name;
    let command =
        format!("python3 -c \"import pty; pty.spawn(['su', '{other}', '-c', 'id -un'])\"");
    let tool = lab.tool(Client::Ssh, ["ssh", "remote", &command]).input_open();
    let mut running = tool.start();
    running.wait_for_output("assword");
    running.write(format!("{PASSWORD}\n").as_bytes()).unwrap();
    running.wait_for_output(other);
    drop(running);
    let rules = fs::read_to_string("/etc/doas.conf").unwrap_or_default();
    assert!(!rules.contains("fakessh-lab"), "the machine's own rules were changed");
}

#[test]
fn a_host_is_reached_where_there_is_a_link_and_nowhere_else() {
    if !root_for("network namespaces") {
        return;
    }
    let network = Network::start(&[("here", "bastion"), ("bastion", "db")]);
    let bastion = Lab::builder().at(&network, "bastion").clients_at("here").start();
    let db = Lab::builder().at(&network, "db").start();
    bastion.know("direct", &db, &["ConnectTimeout 5"]);
    bastion.know("db", &db, &["ProxyJump remote"]);
    ssh(&bastion, "remote", "true").expect_status(0);
    let done = ssh(&bastion, "direct", "true").expect_status(255);
    assert!(done.err().contains("unreachable"), "{}", done.shown());
    ssh(&bastion, "db", "id -un").expect_status(0).expect_out(&format!("{}\n", db.account().name));
    assert_eq!((bastion.logins(), db.logins()), (2, 1));
}

#[test]
fn docker_runs_containers() {
    if !containers_for("Docker") {
        return;
    }
    let lab = Lab::builder().environment("DOCKER_HOST", Docker::HOST).start();
    let docker = lab.docker();
    docker.import(&busybox(&lab), "busybox");
    let pid = docker.run("app", "busybox", &["sleep", "1000000"]);
    assert!(process::mount_namespace(pid).is_some());
    let done = lab.tool(Client::Ssh, ["ssh", "remote", "docker exec -i app sh -c 'cat; id -un'"]);
    done.input("in\n").run().expect_status(0).expect_out("in\nroot\n");
    assert!(docker.read("app", "/etc/passwd").is_some());
    lab.expect_nothing_left();
    docker.remove("app");
}

#[test]
fn lxc_runs_containers() {
    if !containers_for("LXC") {
        return;
    }
    let lab = Lab::builder()
        .etc(Lxc::ETC.0, Lxc::ETC.1)
        .etc("sudoers.d/lab", "$ACCOUNT ALL=(ALL) NOPASSWD: ALL\n")
        .start();
    lab.keep(Lxc::start(&lab, "box", &busybox(&lab)));
    let command = "sudo lxc-attach --clear-env --name box -- sh -c 'cat; id -un; hostname'";
    let done = lab.tool(Client::Ssh, ["ssh", "remote", command]).input("in\n").run();
    done.expect_status(0).expect_out("in\nroot\nbox\n");
    lab.expect_nothing_left();
}

#[test]
fn stand_ins_enter_a_container_and_refuse_what_the_real_ones_would() {
    if !root_for("a container") {
        return;
    }
    let lab = Lab::builder()
        .etc(stand_ins::RULE.0, stand_ins::RULE.1)
        .environment("PATH", stand_ins::PATH)
        .start();
    let container = Container::start(&lab, &busybox(&lab));
    stand_ins::install(&lab, container.pid());
    for command in [
        "podman exec -i app sh -c 'hostname; id -un'",
        "kubectl exec -i app -- sh -c 'hostname; id -un'",
        "kubectl exec -n prod -i app -c web -- sh -c 'hostname; id -un'",
        "incus exec --mode=non-interactive app -- sh -c 'hostname; id -un'",
    ] {
        ssh(&lab, "remote", command).expect_status(0).expect_out("container\nroot\n");
    }
    let done = ssh(&lab, "remote", "podman exec -i -u app app id -un");
    done.expect_status(0).expect_out("app\n");
    let done = ssh(&lab, "remote", "machinectl show --property=Leader --value app");
    done.expect_status(0).expect_out(&format!("{}\n", container.pid()));
    ssh(&lab, "remote", "podman exec -t app true").expect_status(1);
    ssh(&lab, "remote", "podman exec -i gone true").expect_status(125);
    ssh(&lab, "remote", "kubectl exec -it app -- true").expect_status(1);
    ssh(&lab, "remote", "kubectl exec -i app true").expect_status(1);
    assert!(stand_ins::calls(&lab).lines().count() >= 8);
    lab.expect_nothing_left();
}
