//! Containers: Docker and LXC for real, nsenter and chroot, stand-ins of the other engines. None
//! of their roots has an `sftp-server`: the slave serves it.

use std::fs;
use std::path::PathBuf;

use fakessh_lab::privilege::{containers_for, root_for};
use fakessh_lab::{Container, Docker, Lab, Lxc, SharedLab, root, stand_ins, tree};

/// What containers run that do nothing.
const NOTHING: [&str; 2] = ["sleep", "1000000"];

/// Rules of sudo that ask nothing, and let `docker` find its daemon.
const RULES: &str = "$ACCOUNT ALL=(ALL) NOPASSWD: ALL\nDefaults env_keep += DOCKER_HOST\n";

/// A lab with Docker, and with sudo for what needs root. Docker is started by the first who asks.
static DOCKER: SharedLab = SharedLab::new(|| {
    Lab::builder()
        .environment("DOCKER_HOST", Docker::HOST)
        .etc("sudoers.d/lab", RULES)
        .etc(Lxc::ETC.0, Lxc::ETC.1)
        .start()
});

/// Runs a container of this name in which nothing happens.
fn start_container(lab: &Lab, name: &str, prepare: impl FnOnce(&std::path::Path)) {
    let root = lab.dir().join(format!("root-{name}"));
    root::make(&root);
    prepare(&root);
    let docker = lab.docker();
    docker.import(&root, name);
    docker.run(name, name, &NOTHING);
}

/// Copies a tree to `remote` with the tools that need nothing there, and back: by scp (SFTP, which
/// the slave serves), sftp and busybox's tar. `PLACE` is a directory there.
const TOOLS: &str = r#"set -ex
    ssh remote mkdir $PLACE
    scp -q -r -p tree remote:$PLACE/scp
    scp -q -r -p remote:$PLACE/scp scp
    printf 'put -pR tree %s/sftp\nget -pR %s/sftp sftp\n' $PLACE $PLACE | sftp -q -b - remote
    ssh remote mkdir $PLACE/tar
    tar -cf - --format=ustar -C tree . | ssh remote tar -xpf - -C $PLACE/tar
    mkdir tar
    ssh remote tar -cf - -C $PLACE/tar . | tar -xpf - -C tar
    printf 'rename %s/scp/big %s/moved\nln %s/moved %s/second\nls -l %s\nrm %s/second\n' \
        $PLACE $PLACE $PLACE $PLACE $PLACE $PLACE | sftp -q -b - remote >listed
    grep -q second listed
    ssh remote "cat $PLACE/moved; rm -r $PLACE" | cmp - tree/big
    "#;

/// Runs [`TOOLS`] at a route, and holds the trees against each other.
#[track_caller]
fn try_tools(lab: &Lab, name: &str, route: &str) {
    let local = lab.local_dir(name);
    let tree = local.join("tree");
    tree::make_for_scp(&tree, 30);
    let tool = lab.run([route], ["sh", "-c", TOOLS]).directory(&local);
    tool.env("PLACE", format!("/tmp/{name}")).run().expect_status(0);
    for copy in ["scp", "sftp", "tar"] {
        tree::assert_same_for_scp(&tree, &local.join(copy));
    }
}

/// Runs a command at a route.
fn at(lab: &Lab, route: &str, command: &str) -> fakessh_lab::Finished {
    lab.run([route], ["ssh", "remote", command]).run()
}

#[test]
fn docker() {
    if !containers_for("Docker") {
        return;
    }
    let lab = DOCKER.get();
    let add_rsync = |root: &std::path::Path| root::add_program(root, "/usr/bin/rsync");
    start_container(&lab, "app", add_rsync);
    let done = at(&lab, "remote+docker:app", "id -un; pwd; echo err >&2; exit 9");
    done.expect_status(9).expect_out("root\n/root\n").expect_err("err\n");
    try_tools(&lab, "docker", "remote+docker:app");
    let tree = lab.local_dir("docker-rsync").join("tree");
    tree::make(&tree, 300);
    let (from, back) = (format!("{}/", tree.display()), tree.with_file_name("back"));
    let to = format!("{}/", back.display());
    let run = |words: [&str; 4]| lab.run(["remote+docker:app"], words).run().expect_status(0);
    run(["rsync", "-aH", &from, "remote:/srv/tree/"]);
    run(["rsync", "-aH", "remote:/srv/tree/", &to]);
    tree::assert_same(&tree, &back);
    let copy = lab.docker().read("app", "/srv/tree/big");
    assert_eq!(copy, fs::read(tree.join("big")).ok());
    // As another user of the container, whose home is another.
    let done = at(&lab, "remote+docker:app@app", "id -un; pwd; echo $HOME");
    done.expect_status(0).expect_out("app\n/srv\n/srv\n");
    // Behind sudo it is the same container.
    let done = at(&lab, "remote+sudo+docker:app", "cat /srv/tree/d000/f00001");
    done.expect_status(0).expect_out("file 1\n");
    lab.docker().remove("app");
}

#[test]
fn docker_containers_that_can_not_be_entered() {
    if !containers_for("Docker") {
        return;
    }
    let lab = DOCKER.get();
    let docker = lab.docker();
    at(&lab, "remote+docker:gone", "true")
        .expect_fault(255, &["docker", "gone", "no such container"]);
    let root = lab.dir().join("root-bare");
    root::make_without_shell(&root);
    docker.import(&root, "bare");
    docker.run("bare", "bare", &["/bin/sleep", "1000000"]);
    at(&lab, "remote+docker:bare", "true").expect_fault(255, &["docker", "/bin/sh"]);
    at(&lab, "remote+docker:nobody@bare", "true").expect_fault(255, &["nobody"]);
    assert_eq!(at(&lab, "remote", "echo in").out(), "in\n", "the host is not touched by it");
}

#[test]
fn docker_container_that_ends_in_the_middle() {
    if !containers_for("Docker") {
        return;
    }
    let lab = DOCKER.get();
    start_container(&lab, "ending", |_| {});
    let words = ["ssh", "remote", "echo up; cat"];
    let mut running = lab.run(["remote+docker:ending"], words).input_open().start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    lab.docker().remove("ending");
    running.finish().expect_fault(255, &["docker:ending"]);
    assert_eq!(at(&lab, "remote", "echo in").out(), "in\n", "the parent goes on");
    assert!(!lab.held().contains(&"remote+docker:ending".to_owned()), "{:?}", lab.held());
}

#[test]
fn docker_containers_are_siblings_behind_one_host() {
    if !containers_for("Docker") {
        return;
    }
    let lab = DOCKER.get();
    for name in ["one", "two"] {
        start_container(&lab, name, |_| {});
    }
    let before = ["--route", "one=remote+docker:one", "--route", "two=remote+docker:two"];
    let script = "ssh one 'cat >/tmp/file; hostname >/tmp/name' <big && scp -q -3 one:/tmp/file \
                  two:/tmp/ && ssh two cat /tmp/file | cmp - big";
    let local = lab.local_dir("siblings");
    fs::write(local.join("big"), "some bytes\n".repeat(200_000)).unwrap();
    lab.run(before, ["sh", "-c", script]).directory(&local).run().expect_status(0).expect_err("");
    for name in ["one", "two"] {
        lab.docker().remove(name);
    }
}

#[test]
fn lxc() {
    if !containers_for("LXC") {
        return;
    }
    let lab = DOCKER.get();
    let root = lab.dir().join("root-lxc");
    root::make(&root);
    lab.keep(Lxc::start(&lab, "box", &root));
    let done = at(&lab, "remote+sudo+lxc:box", "id -un; hostname; exit 9");
    done.expect_status(9).expect_out("root\nbox\n").expect_err("");
    try_tools(&lab, "lxc", "remote+sudo+lxc:box");
    at(&lab, "remote+sudo+lxc:gone", "true").expect_fault(255, &["lxc", "gone"]);
}

/// A lab with a container that the stand-ins know, and the first process of that.
fn with_stand_ins() -> (Lab, u32) {
    let lab = Lab::builder()
        .etc(stand_ins::RULE.0, stand_ins::RULE.1)
        .environment("PATH", stand_ins::PATH)
        .start();
    let root: PathBuf = lab.dir().join("root");
    root::make(&root);
    let container = Container::start(&lab, &root);
    let pid = container.pid();
    stand_ins::install(&lab, pid);
    lab.keep(container);
    (lab, pid)
}

#[test]
fn nsenter_and_chroot() {
    if !root_for("a container") {
        return;
    }
    let (lab, pid) = with_stand_ins();
    let route = format!("remote+sudo+nsenter:{pid}");
    let done = at(&lab, &route, "id -un; hostname; exit 9");
    done.expect_status(9).expect_out("root\ncontainer\n").expect_err("");
    try_tools(&lab, "nsenter", &route);
    let jail = lab.dir().join("jail");
    root::make(&jail);
    lab.furnish(&jail);
    let route = format!("remote+sudo+chroot:{}", jail.display());
    at(&lab, &route, "id -un; ls /; exit 9")
        .expect_status(9)
        .expect_out("root\nbin\ndev\netc\nproc\nroot\nsrv\ntmp\n");
    try_tools(&lab, "chroot", &route);
    at(&lab, "remote+sudo+chroot:/no/such/place", "true")
        .expect_fault(255, &["chroot", "/no/such/place", "no such file"]);
    at(&lab, "remote+sudo+nsenter:999999999", "true").expect_fault(255, &["nsenter", "999999999"]);
    // Without root the kernel refuses, in the words of the program.
    at(&lab, "remote+chroot:/", "true").expect_fault(255, &["chroot", "not permitted"]);
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn stand_ins_of_engines() {
    if !root_for("a container") {
        return;
    }
    let (lab, _) = with_stand_ins();
    for (hop, behind) in [
        ("podman:app", ""),
        ("kubectl:app", ""),
        ("kubectl:prod/app/web", ""),
        ("incus:app", ""),
        ("machine:app", "sudo+"),
    ] {
        let route = format!("remote+{behind}{hop}");
        let done = at(&lab, &route, "id -un; hostname; echo err >&2; exit 9");
        done.expect_status(9).expect_out("root\ncontainer\n").expect_err("err\n");
    }
    at(&lab, "remote+podman:app@app", "id -un").expect_status(0).expect_out("app\n");
    try_tools(&lab, "podman", "remote+podman:app");
    for (hop, said) in [
        ("podman:gone", "no such container"),
        ("kubectl:gone", "not found"),
        ("kubectl:nowhere/app", "not found"),
        ("incus:gone", "not found"),
        ("machine:gone", "gone"),
    ] {
        at(&lab, &format!("remote+sudo+{hop}"), "true")
            .expect_fault(255, &[hop.split(':').next().unwrap(), said]);
    }
    assert_eq!(lab.logins(), 1, "{}", stand_ins::calls(&lab));
    lab.expect_nothing_left();
}
