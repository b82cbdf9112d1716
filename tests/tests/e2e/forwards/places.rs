//! Forwards through every kind of context, with the rights and the view that it has.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use fakessh_lab::port::ClosedPort;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Client, Container, Lab, Running, both_clients, root, wait_until};

use super::{
    allocated, connect, echo, echo_server, end_quietly, exchange, exchange_unix, is_up, session,
    socks_to,
};

/// Rules of sudo that ask nothing.
const RULES: &str = "$ACCOUNT ALL=(ALL) NOPASSWD: ALL\n";

/// Uses `-L`, `-R`, `-D` and `-W`. `start` starts an `ssh` with these options before the host.
#[track_caller]
fn try_all(start: impl Fn(&[&str]) -> Running) {
    let port = echo_server();
    let (local, socks) = (ClosedPort::any(), ClosedPort::any());
    let local_forward = format!("{}:127.0.0.1:{port}", local.number());
    let remote_forward = format!("0:127.0.0.1:{port}");
    let words = ["-L", &local_forward, "-R", &remote_forward, "-D", &socks.number().to_string()];
    let mut session = is_up(start(&words));
    let big = "x".repeat(2_000_000);
    for port in [local.number(), allocated(&session)] {
        assert_eq!(exchange(connect(port), "one"), "got one");
        assert_eq!(exchange(connect(port), &big), format!("got {big}"));
    }
    assert_eq!(exchange(socks_to(socks.number(), port), "two"), "got two");
    session.close_stdin();
    session.finish().expect_status(0);
    let mut stdio = start(&["-W", &format!("127.0.0.1:{port}")]);
    stdio.write(b"three").unwrap();
    let done = stdio.finish().expect_status(0);
    done.expect_out("got three");
}

/// A socket at this path that gives back what it reads, for root alone.
fn roots_socket(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(echo));
}

/// A port below 1024 that nobody listens on.
fn low_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (600..1024).find(is_free).unwrap()
}

#[test]
fn as_root_there() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", RULES).start();
    let start = |route: &str, options: &[&str]| {
        let words = ["ssh"].iter().chain(options).chain(&["remote", "cat"]);
        lab.run([route], words).input_open().start()
    };
    try_all(|options| start("remote+sudo", options));
    let far = lab.remote_dir().join("roots");
    roots_socket(&far);
    let (echoes, here, low) = (echo_server(), ClosedPort::any(), low_port());
    let local = format!("{}:{}", here.number(), far.display());
    let remote = format!("{low}:127.0.0.1:{echoes}");
    let options = ["-L", &local, "-R", &remote];
    let session = is_up(start("remote+sudo", &options));
    assert_eq!(exchange(connect(here.number()), "root"), "got root");
    assert_eq!(exchange(connect(low), "low"), "got low");
    session.finish().expect_status(0).expect_err("");
    // The account itself may do neither.
    let session = is_up(start("remote", &options));
    session.wait_for_error(&format!("remote port forwarding failed for listen port {low}"));
    let answer = std::io::Read::read(&mut connect(here.number()), &mut [0; 1]);
    assert!(!matches!(answer, Ok(1..)), "{answer:?}");
    session.finish().expect_status(0);
    lab.expect_nothing_left();
}

#[test]
fn in_a_container_and_in_another_root() {
    if !root_for("a container") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", RULES).start();
    let root = lab.dir().join("root");
    root::make(&root);
    let container = Container::start(&lab, &root);
    let pid = container.pid();
    lab.keep(container);
    let jail = lab.dir().join("jail");
    root::make(&jail);
    lab.furnish(&jail);
    for (route, inside) in [
        (format!("remote+sudo+nsenter:{pid}"), PathBuf::from(format!("/proc/{pid}/root"))),
        (
            format!("remote+sudo+chroot:{}", jail.display()),
            lab.seen_by_target(jail.to_str().unwrap()),
        ),
    ] {
        let start = |options: &[&str]| {
            let words = ["ssh"].iter().chain(options).chain(&["remote", "cat"]);
            lab.run([&route], words).input_open().start()
        };
        try_all(start);
        // Paths are those of its root.
        roots_socket(&inside.join("srv/far"));
        let echoes = echo_server();
        let here = ClosedPort::any();
        let local = format!("{}:/srv/far", here.number());
        let remote = format!("/srv/back:127.0.0.1:{echoes}");
        let session = is_up(start(&["-L", &local, "-R", &remote]));
        assert_eq!(exchange(connect(here.number()), "in"), "got in");
        let back = inside.join("srv/back");
        assert_eq!(exchange_unix(&back, "back"), "got back");
        session.finish().expect_status(0).expect_err("");
        wait_until(|| !back.exists(), "the socket there is left");
    }
    lab.expect_nothing_left();
}

both_clients! {
    fn where_a_forced_command_runs(client) {
        let lab = Lab::builder().sshd("ForceCommand cat").start();
        try_all(|options| {
            let words = ["ssh"].iter().chain(options).chain(&["remote"]);
            lab.tool(client, words).input_open().start()
        });
        if client == Client::Fakessh {
            assert!(lab.direct().is_some(), "a slave runs there");
        }
        lab.expect_nothing_left();
    }

    fn where_there_is_sftp_alone(client) {
        let lab = Lab::builder().sftp("internal-sftp").sshd("ForceCommand internal-sftp").start();
        let (port, here) = (echo_server(), ClosedPort::any());
        let local = format!("{}:127.0.0.1:{port}", here.number());
        let remote = format!("0:127.0.0.1:{port}");
        let words = ["ssh", "-N", "-L", &local, "-R", &remote, "remote"];
        let session = lab.tool(client, words).input_open().start();
        assert_eq!(exchange(connect(allocated(&session)), "one"), "got one");
        assert_eq!(exchange(connect(here.number()), "two"), "got two");
        session.signal(rustix::process::Signal::TERM);
        session.finish();
        lab.expect_nothing_left();
    }

    fn a_port_there_can_be_had_again_at_once(client) {
        for builder in [Lab::builder(), Lab::builder().sshd("ForceCommand cat")] {
            let lab = builder.start();
            let (there, port) = (ClosedPort::any(), echo_server());
            let remote = format!("{}:127.0.0.1:{port}", there.number());
            for _ in 0..5 {
                let session = session(&lab, client, &["-R", &remote]);
                assert_eq!(exchange(connect(there.number()), "again"), "got again");
                // It is another one, and not to be taken for the first.
                if client == Client::Fakessh {
                    let taken = format!("{}:127.0.0.1:1", there.number());
                    let words = ["ssh", "-R", &taken, "remote", "true"];
                    let done = lab.tool(client, words).run();
                    assert!(done.err().contains("failed for listen port"), "{}", done.shown());
                    assert_eq!(exchange(connect(there.number()), "still"), "got still");
                }
                end_quietly(session);
            }
            lab.expect_nothing_left();
        }
    }
}
