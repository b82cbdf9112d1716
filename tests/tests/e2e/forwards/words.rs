//! Forwards in configurations, and tools whose `ssh` meets them there.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use fakessh_lab::port::ClosedPort;
use fakessh_lab::privilege::has;
use fakessh_lab::{Client, Lab, both_clients, tree};

use super::{allocated, connect, echo_server, end_quietly, exchange, refuses, socks_to};

/// A lab whose `remote` has these lines as well.
fn lab_with(lines: &[String]) -> Lab {
    lines.iter().fold(Lab::builder(), |builder, line| builder.client(line)).start()
}

/// A session without options.
fn plain(lab: &Lab, client: Client, options: &[&str]) -> fakessh_lab::Running {
    super::session(lab, client, options)
}

both_clients! {
    fn a_configuration_has_forwards(client) {
        let (local, socks) = (ClosedPort::any(), ClosedPort::any());
        let port = echo_server();
        let lab = lab_with(&[
            format!("LocalForward {} localhost:{port}", local.number()),
            format!("LocalForward localhost:{} [127.0.0.1]:{port}", local.number()),
            format!("RemoteForward 0 127.0.0.1:{port}"),
            format!("DynamicForward {}", socks.number()),
        ]);
        let session = plain(&lab, client, &[]);
        assert_eq!(exchange(connect(local.number()), "one"), "got one");
        assert_eq!(exchange(connect(allocated(&session)), "two"), "got two");
        assert_eq!(exchange(socks_to(socks.number(), port), "three"), "got three");
        end_quietly(session);
        assert!(refuses(local.number()));
        for clear in ["-oClearAllForwardings=yes", "-oclearallforwardings yes"] {
            let session = plain(&lab, client, &[clear]);
            assert!(refuses(local.number()) && refuses(socks.number()));
            session.finish().expect_status(0).expect_err("");
        }
        let done = lab.tool(client, ["ssh", "-W", &format!("127.0.0.1:{port}"), "remote"]);
        done.input("four").run().expect_status(0).expect_out("got four").expect_err("");
    }

    fn a_configuration_clears_all_forwards(client) {
        let (local, port) = (ClosedPort::any(), echo_server());
        let lab = lab_with(&["ClearAllForwardings yes".to_owned()]);
        let forward = format!("{}:localhost:{port}", local.number());
        let session = plain(&lab, client, &["-L", &forward]);
        assert!(refuses(local.number()));
        session.finish().expect_status(0).expect_err("");
        drop(local);
    }

    fn a_configuration_ends_a_session_that_lacks_a_forward(client) {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let lab = lab_with(&[
            "ExitOnForwardFailure yes".to_owned(),
            format!("LocalForward 127.0.0.1:{port} localhost:1"),
        ]);
        lab.tool(client, ["ssh", "remote", "echo in"]).run().expect_status(255).expect_out("");
        let words = ["ssh", "-oExitOnForwardFailure=no", "remote", "echo in"];
        lab.tool(client, words).run().expect_status(0).expect_out("in\n");
    }

    fn tools_work_whatever_is_forwarded(client) {
        // Another one of this person has the port: a tool is told so, and goes on.
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken_port = taken.local_addr().unwrap().port();
        let (local, port) = (ClosedPort::any(), echo_server());
        let lab = lab_with(&[
            format!("LocalForward {} localhost:{port}", local.number()),
            format!("LocalForward 127.0.0.1:{taken_port} localhost:1"),
            format!("RemoteForward 127.0.0.1:{taken_port} localhost:1"),
        ]);
        let near = lab.local_dir("tools");
        tree::make(&near.join("tree"), 20);
        let remote = lab.remote_dir();
        let there = remote.display();
        let script = format!(
            "set -ex
            scp -q tree/big remote:{there}/scp && cmp tree/big {there}/scp
            printf 'put tree/big {there}/sftp\\n' | sftp -q -b - remote && cmp tree/big {there}/sftp
            ssh remote git init -q --bare -b main {there}/r.git
            git clone -q remote:{there}/r.git r
            cd r && git commit -q --allow-empty -m m && git push -q origin HEAD:main && cd ..
            for i in 1 2 3 4; do git ls-remote remote:{there}/r.git >ls.$i & done; wait
            cat ls.1 ls.2 ls.3 ls.4 | grep -c refs/heads/main >count"
        );
        lab.tool(client, ["bash", "-c", &script]).directory(&near).run().expect_status(0);
        assert_eq!(fs::read_to_string(near.join("count")).unwrap(), "4\n");
        if has("rsync") {
            let words = ["rsync", "-aH", "tree/", &format!("remote:{there}/tree/")];
            lab.tool(client, words).directory(&near).run().expect_status(0);
            tree::assert_same(&near.join("tree"), &remote.join("tree"));
        }
        assert!(refuses(local.number()));
        lab.expect_nothing_left();
    }
}

#[test]
fn a_session_says_once_what_it_can_not_have_and_two_share_what_they_can() {
    let (local, port) = (ClosedPort::any(), echo_server());
    let lab = lab_with(&[format!("LocalForward {} localhost:{port}", local.number())]);
    let first = plain(&lab, Client::Fakessh, &[]);
    let second = plain(&lab, Client::Fakessh, &[]);
    first.finish().expect_status(0).expect_err("");
    assert_eq!(exchange(connect(local.number()), "one"), "got one");
    second.finish().expect_status(0).expect_err("");
    assert!(refuses(local.number()));
}

#[test]
fn a_tool_on_a_target_has_no_forwards_yet() {
    let lab = Lab::start();
    let local = ClosedPort::any();
    lab.host_with_key(
        "second",
        &lab.key(),
        &[&format!("LocalForward {} localhost:1", local.number())],
    );
    let at = |words: &[&str]| {
        let before = ["--on", "remote", "--route", "second=second"];
        lab.run(before, words).run()
    };
    // What the configuration here says is not for it.
    at(&["ssh", "second", "echo in"]).expect_status(0).expect_out("in\n").expect_err("");
    assert!(refuses(local.number()));
    for option in ["-L1234:localhost:1", "-R1234:localhost:1", "-D1234"] {
        at(&["ssh", option, "second", "echo in"])
            .expect_fault(255, &["target", "forward"])
            .expect_out("");
    }
    let there = format!("localhost:{}", echo_server());
    let before = ["--on", "remote", "--route", "second=second"];
    let words = ["sh", "-c", &format!("echo -n in | ssh -W {there} second")];
    lab.run(before, words).run().expect_status(0).expect_out("got in");
    lab.expect_nothing_left();
}
