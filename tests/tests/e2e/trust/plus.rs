//! A host with a plus in its name is a host, and a typed route is a route.

use std::os::unix::fs::symlink;

use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Lab, binary, tool};

/// A lab that knows the target by names with a plus, one of which would be a route.
fn lab() -> Lab {
    let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    for name in ["c++", "remote+sudo", "docker:app"] {
        lab.host_through(name, lab.port(), &[]);
    }
    lab
}

#[test]
fn a_host_of_ssh_config_with_a_plus_is_that_host_for_a_tool() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = lab();
    let user = format!("{}\n", lab.account().name);
    let links = lab.local_dir("links");
    symlink(binary::fakessh(), links.join("ssh")).unwrap();
    let path = format!("{}:{}", links.display(), tool::PATH);
    let config = lab.config_path().display().to_string();
    for host in ["c++", "remote+sudo", "docker:app"] {
        let words = ["ssh", host, "id -un"];
        lab.run([""; 0], words).run().expect_status(0).expect_out(&user);
        let words = ["ssh", "-F", &config, host, "id -un"];
        let linked = lab.program(words).env("PATH", &path);
        linked.run().expect_status(0).expect_out(&user);
        // So does a route that a run names.
        let route = format!("{host}=remote");
        let before = ["--route", &route];
        lab.run(before, ["ssh", host, "id -un"]).run().expect_status(0).expect_out(&user);
    }
    lab.expect_nothing_left();
}

#[test]
fn a_host_that_looks_like_a_route_is_refused_with_the_way_to_have_one() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    for host in ["remote+sudo", "local+sudo", "local"] {
        let done = lab.run([""; 0], ["ssh", host, "true"]).run();
        done.expect_fault(255, &[host, "fakessh ssh web1+sudo", "config.toml"]).expect_out("");
    }
    let done = lab.run([""; 0], ["ssh", "no-such-host", "true"]).run().expect_status(255);
    assert!(!done.err().contains("route"), "{}", done.shown());
    lab.expect_nothing_left();
}

#[test]
fn a_typed_destination_is_a_route_with_the_options_of_its_steps() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    lab.configure("[route.admin]\nvia = \"remote+sudo\"\n\n[route.round]\nvia = \"round\"\n");
    let config = lab.config_path().display().to_string();
    let typed = |words: &[&str]| lab.fakessh([&["ssh", "-F", &config], words].concat()).run();
    let user = lab.account().name.clone();
    for destination in ["remote+sudo", "admin", "admin+exec:env A=b"] {
        typed(&[destination, "id -un"]).expect_status(0).expect_out("root\n");
    }
    typed(&["-l", &user, "remote+sudo", "id -un"]).expect_status(0).expect_out("root\n");
    typed(&["remote+dokcer:app", "id"]).expect_status(255).expect_out("");
    typed(&["round", "id"]).expect_fault(255, &["circle"]);
    typed(&[&format!("{user}@remote"), "id -un"]).expect_status(0).expect_out(&format!("{user}\n"));
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}
