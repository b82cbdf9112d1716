//! Which names mean the DEST of a run: a tool that names another host must not write to this one.

use fakessh_lab::privilege::root_for;
use fakessh_lab::{Finished, Lab};

/// A lab in which `web1` is the target as well, and `prod-db` another host.
fn lab() -> Lab {
    let lab = Lab::start();
    lab.host_through("web1", lab.port(), &[]);
    lab.host("prod-db", &["HostName 127.0.0.1".into(), "Port 1".into()]);
    lab
}

fn ssh(lab: &Lab, before: &[&str], host: &str) -> Finished {
    lab.run(before, ["ssh", host, "echo in"]).run()
}

#[test]
fn a_host_that_is_not_the_destination_is_refused_with_the_way_to_it() {
    let lab = lab();
    let file = lab.remote_dir().join("copy");
    let to = format!("prod-db:{}", file.display());
    let done = lab.run(["web1"], ["rsync", "/etc/passwd", &to]).run();
    assert!(done.code() != 0 && !file.exists(), "{}", done.shown());
    let done = ssh(&lab, &["web1"], "prod-db").expect_status(255).expect_out("");
    let expected = "fakessh: prod-db would mean web1 in this run; write remote for that, or add \
                    --route prod-db=prod-db for prod-db itself (--any-name: every name means \
                    web1)\n";
    assert_eq!(done.err(), expected);
    for host in ["web", "web1.example", "localhost", "web1+sudo", "local"] {
        ssh(&lab, &["web1"], host).expect_fault(255, &[host, "would mean web1"]).expect_out("");
    }
    // A route's name does not make others mean the destination.
    let before = ["web1", "--route", "db=web1"];
    ssh(&lab, &before, "prod-db").expect_fault(255, &["prod-db would mean web1"]);
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn the_destination_has_its_own_names_and_the_placeholders() {
    let lab = lab();
    for host in ["web1", "WEB1", "remote", "_", "127.0.0.1"] {
        ssh(&lab, &["web1"], host).expect_status(0).expect_out("in\n");
    }
    let user = lab.account().name.clone();
    let key = lab.key().display().to_string();
    let (at, port) = (format!("{user}@127.0.0.1:{}", lab.port()), lab.port().to_string());
    let before = [&at, "-o", "HostKeyAlias=fakessh-lab", "-i", &key];
    let own = format!("{user}@127.0.0.1");
    for words in [&["127.0.0.1"][..], &["-p", &port, &own], &["-p", "1", "127.0.0.1"]] {
        let words = [&["ssh"], words, &["echo in"]].concat();
        lab.run(before, words).run().expect_status(0).expect_out("in\n");
    }
    lab.expect_nothing_left();
}

#[test]
fn a_name_of_the_configuration_is_a_name_of_the_destination() {
    let lab = lab();
    lab.configure("[route.far]\nvia = \"ssh:web1\"\n\n[route.other]\nvia = \"prod-db\"\n");
    for host in ["far", "web1", "remote", "127.0.0.1"] {
        ssh(&lab, &["far"], host).expect_status(0).expect_out("in\n");
    }
    for host in ["other", "prod-db"] {
        ssh(&lab, &["far"], host)
            .expect_fault(255, &["would mean far", &format!("--route {host}={host}")]);
    }
    lab.expect_nothing_left();
}

#[test]
fn another_account_has_the_names_of_its_host_and_a_jail_has_none() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", fakessh_lab::etc::SUDO_WITHOUT_PASSWORD).start();
    for host in ["remote", "127.0.0.1", "_"] {
        let done = lab.run(["remote+sudo"], ["ssh", host, "id -un"]).run();
        done.expect_status(0).expect_out("root\n");
    }
    let inside = "remote+sudo+exec:env IN=1";
    ssh(&lab, &[inside], "_").expect_status(0).expect_out("in\n");
    ssh(&lab, &[inside], "127.0.0.1").expect_fault(255, &["127.0.0.1 would mean remote+sudo"]);
    lab.expect_nothing_left();
}

#[test]
fn any_name_means_the_destination_if_the_person_says_so() {
    let lab = lab();
    for host in ["prod-db", "whatever", "web1"] {
        ssh(&lab, &["--any-name", "web1"], host).expect_status(0).expect_out("in\n");
    }
    // Named routes come first.
    let before = ["--any-name", "web1", "--route", "db=prod-db"];
    let done = ssh(&lab, &before, "whatever");
    done.expect_fault(255, &["prod-db"]);
    let done = lab.run(["--any-name"], ["ssh", "web1", "true"]).run();
    done.expect_status(255).expect_out("");
    lab.expect_nothing_left();
}

#[test]
fn routes_and_a_destination_go_together() {
    let lab = lab();
    let before = ["web1", "--route", "db=remote"];
    for host in ["db", "web1", "remote"] {
        ssh(&lab, &before, host).expect_status(0).expect_out("in\n");
    }
    lab.expect_nothing_left();
}
