//! Hosts behind hosts: the second is reached only from the first, and what is on it as well.

use std::fs;
use std::os::unix::fs::MetadataExt;

use fakessh_lab::account::PASSWORD;
use fakessh_lab::privilege::{containers_for, root_for};
use fakessh_lab::{Askpass, Docker, Lab, Network, Terminal, both_clients, root, tree};

/// `remote`, and `db` that is reached only from there.
fn bastion_and_db() -> (Lab, Lab) {
    let network = Network::start(&[("here", "bastion"), ("bastion", "db")]);
    let bastion = Lab::builder().at(&network, "bastion").clients_at("here").start();
    let db = Lab::builder()
        .at(&network, "db")
        .another_account()
        .environment("DOCKER_HOST", Docker::HOST)
        .etc("sudoers.d/lab", "Defaults requiretty\n$ACCOUNT ALL=(ALL) ALL\n")
        .etc("doas.conf", "permit $ACCOUNT as root\n")
        .start();
    bastion.know("db", &db, &["ConnectTimeout 5"]);
    (bastion, db)
}

both_clients! {
    fn a_host_that_is_not_reached_from_here_is_255(client) {
        if !root_for("network namespaces") {
            return;
        }
        let (bastion, db) = bastion_and_db();
        let done = bastion.tool_to(client, "db", ["ssh", "db", "true"]).run().expect_status(255);
        assert!(done.err().to_lowercase().contains("unreachable"), "{}", done.shown());
        assert_eq!(db.logins(), 0);
    }
}

#[test]
fn every_tool_reaches_a_host_behind_a_host() {
    if !root_for("network namespaces") {
        return;
    }
    let (bastion, db) = bastion_and_db();
    let local = bastion.local_dir("tools");
    let tree = local.join("tree");
    tree::make(&tree, 150);
    let script = format!(
        r#"set -ex
        rsync -aH tree/ remote:{dir}/tree/
        rsync -aH remote:{dir}/tree/ back/
        scp -q tree/big remote:{dir}/big
        echo 'get {dir}/big got' | sftp -q -b - remote
        cmp got tree/big
        ssh remote git init -q --bare -b main {dir}/r.git
        git clone -q remote:{dir}/r.git r
        cd r && git checkout -q -b main && cp ../tree/big . && git add . && git commit -q -m m
        git push -q origin main
        test "$(ssh remote id -un)" = {account}
        "#,
        dir = db.remote_dir().display(),
        account = db.account().name,
    );
    let tool = bastion.run(["remote+db"], ["bash", "-c", &script]).directory(&local);
    tool.run().expect_status(0);
    tree::assert_same(&tree, &local.join("back"));
    tree::assert_same(&tree, &db.remote_dir().join("tree"));
    assert_eq!((bastion.logins(), db.logins()), (1, 1));
    bastion.expect_nothing_left();
    db.expect_nothing_left();
}

#[test]
fn the_host_behind_is_checked_by_its_own_key() {
    if !root_for("network namespaces") {
        return;
    }
    let (bastion, db) = bastion_and_db();
    db.rotate_host_key();
    // The port is the same, and so is the name: only the key differs.
    let done = bastion.run(["remote+db"], ["ssh", "remote", "true"]).run();
    let done = done.expect_status(255).expect_out("");
    assert!(done.err().to_lowercase().contains("host key"), "{}", done.shown());
    assert_eq!((bastion.logins(), db.logins()), (1, 0));
    db.trust_host_key();
    let done = bastion.run(["remote+db"], ["ssh", "remote", "echo in"]).run();
    done.expect_status(0).expect_out("in\n");
}

#[test]
fn root_on_a_host_behind_a_host_by_sudo_su_and_doas() {
    if !root_for("network namespaces") {
        return;
    }
    let (bastion, db) = bastion_and_db();
    let tree = bastion.local_dir("etc");
    tree::make(&tree, 30);
    let other = db.other().name.clone();
    for (number, (hop, uid)) in
        [("sudo".to_owned(), 0), (format!("su:{other}"), db.other().uid), ("doas".to_owned(), 0)]
            .into_iter()
            .enumerate()
    {
        let route = format!("remote+db+{hop}");
        let there = match uid {
            0 => db.remote_dir().join(format!("tree{number}")),
            _ => db.other().home.join("tree"),
        };
        let to = format!("remote:{}/", there.display());
        let words = ["rsync", "-rlpt", &format!("{}/", tree.display()), &to].map(str::to_owned);
        let terminal = Terminal::new();
        let running = bastion.run([&route], &words).on_terminal(&terminal).start();
        terminal.wait_for("assword");
        terminal.type_line(PASSWORD);
        running.finish().expect_status(0).expect_err("");
        assert_eq!(fs::metadata(there.join("big")).unwrap().uid(), uid);
        let again = Terminal::new();
        bastion.run([&route], &words).on_terminal(&again).run().expect_status(0);
        assert_eq!(again.text(), "", "asked again");
    }
    assert_eq!((bastion.logins(), db.logins()), (1, 1));
    bastion.expect_nothing_left();
    db.expect_nothing_left();
}

#[test]
fn a_container_on_a_host_behind_a_host() {
    if !containers_for("Docker") {
        return;
    }
    let (bastion, db) = bastion_and_db();
    let docker = db.docker();
    let image = db.dir().join("root");
    root::make(&image);
    docker.import(&image, "app");
    docker.run("app", "app", &["sleep", "1000000"]);
    let local = bastion.local_dir("container");
    let mut big = Vec::new();
    fakessh_lab::pattern::write(&mut big, 2_000_000).unwrap();
    fs::write(local.join("big"), &big).unwrap();
    let script = "set -e; scp -q big remote:/srv/big; echo 'get /srv/big got' | sftp -q -b - remote >listed
        cmp big got; tar -cf - big | ssh remote tar -xf - -C /tmp; ssh remote cat /tmp/big | cmp - big
        ssh remote 'id -un; exit 7'";
    let tool = bastion.run(["remote+db+docker:app"], ["sh", "-c", script]).directory(&local);
    tool.run().expect_status(7).expect_out("root\n");
    assert_eq!(docker.read("app", "/srv/big"), Some(big));
    assert_eq!((bastion.logins(), db.logins()), (1, 1));
    bastion.expect_nothing_left();
    db.expect_nothing_left();
}

#[test]
fn names_for_routes_stand_in_the_configuration() {
    if !root_for("network namespaces") {
        return;
    }
    let (bastion, db) = bastion_and_db();
    bastion.configure("[route.far]\nvia = \"remote+db\"\n\n[route.far-root]\nvia = \"far+sudo\"\n");
    let done = bastion.run(["far"], ["ssh", "remote", "id -un"]).run();
    done.expect_status(0).expect_out(&format!("{}\n", db.account().name));
    let askpass = Askpass::new(&bastion, "ask", &[PASSWORD]);
    let tool = bastion.run(["--route", "x=far-root"], ["ssh", "x", "id -un"]);
    askpass.for_tool(tool).run().expect_status(0).expect_out("root\n");
    // Without a destination, hosts are looked up; a name of a route is one of them.
    let done = bastion.run([""; 0], ["ssh", "far", "id -un"]).run();
    done.expect_status(0).expect_out(&format!("{}\n", db.account().name));
    assert_eq!((bastion.logins(), db.logins()), (1, 1));
    assert_eq!(bastion.held(), ["remote+db", "remote+db+sudo"]);
}

#[test]
fn a_bastion_that_goes_takes_what_is_behind_it() {
    if !root_for("network namespaces") {
        return;
    }
    let (bastion, db) = bastion_and_db();
    let words = ["ssh", "remote", "echo up; cat"];
    let mut running = bastion.run(["remote+db"], words).input_open().start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    bastion.kill_connections();
    running.finish().expect_fault(255, &["remote"]);
    db.expect_no_sessions();
    // And the next run makes a new way.
    let done = bastion.run(["remote+db"], ["ssh", "remote", "echo in"]).run();
    done.expect_status(0).expect_out("in\n");
    assert_eq!((bastion.logins(), db.logins()), (2, 2));
    bastion.expect_nothing_left();
    db.expect_nothing_left();
}

#[test]
fn a_slave_connects_where_the_ssh_server_forwards_nothing() {
    let db = Lab::start();
    let bastion = Lab::builder().sshd("AllowTcpForwarding no").start();
    bastion.know("db", &db, &["ProxyJump remote"]);
    for route in ["remote+db", "db"] {
        let done = bastion.run([route], ["ssh", "remote", "id -un"]).run();
        done.expect_status(0).expect_out(&format!("{}\n", db.account().name)).expect_err("");
    }
    assert_eq!((bastion.logins(), db.logins()), (1, 1));
    assert_eq!(bastion.held(), ["remote", "remote+db"]);
    bastion.expect_nothing_left();

    let bastion = Lab::builder()
        .sshd("AllowTcpForwarding no")
        .sshd("ForceCommand echo no programs here")
        .start();
    bastion.know("db", &db, &["ProxyJump remote"]);
    let done = bastion.run(["db"], ["ssh", "remote", "true"]).run();
    done.expect_fault(255, &["remote cannot reach", "AllowTcpForwarding"]);
    bastion.expect_nothing_left();
}

#[test]
fn what_a_jump_host_says_of_the_way_on_is_shown() {
    let bastion = Lab::start();
    bastion.host("db", &["HostName 127.0.0.1", "Port 1", "ProxyJump remote"].map(str::to_owned));
    let done = bastion.run(["db"], ["ssh", "remote", "true"]).run();
    done.expect_fault(255, &["remote cannot reach 127.0.0.1:1", "Connection refused"]);
    bastion.expect_nothing_left();
}
