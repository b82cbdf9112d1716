//! `fakessh forward`, and forwards that more than one session uses.

use fakessh_lab::port::ClosedPort;
use fakessh_lab::{Client, GUARD, Lab, wait_until};
use serde_json::Value;

use super::{allocated, connect, echo_server, end, end_quietly, exchange, refuses, session};

fn list(lab: &Lab) -> Vec<Value> {
    let done = lab.fakessh(["forward", "--json"]).run().expect_status(0);
    serde_json::from_str(&done.out()).unwrap()
}

#[test]
fn forwards_are_listed_and_cancelled() {
    let lab = Lab::start();
    lab.fakessh(["forward"]).run().expect_status(0);
    let (here, there) = (ClosedPort::any(), echo_server());
    let local = format!("{}:127.0.0.1:{there}", here.number());
    let remote = format!("0:127.0.0.1:{there}");
    let session = session(&lab, Client::Fakessh, &["-L", &local, "-R", &remote]);
    let allocated = allocated(&session);
    assert_eq!(exchange(connect(here.number()), "one"), "got one");
    let mut held = connect(here.number());
    wait_until(|| list(&lab)[0]["connections"] == 1, "one connection is not seen");
    let all = list(&lab);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["forward"], format!("-L localhost:{local}"));
    assert_eq!(all[1]["forward"], format!("-R localhost:{allocated}:127.0.0.1:{there}"));
    assert_eq!((&all[0]["context"], &all[0]["served"]), (&"remote".into(), &2.into()));
    assert_eq!(all[0]["port"], here.number());
    let table = lab.fakessh(["forward"]).run().expect_status(0).out();
    assert_eq!(table.lines().count(), 3, "{table}");
    let unknown = lab.fakessh(["forward", "cancel", "999"]).run();
    assert_ne!(unknown.code(), 0);
    assert!(unknown.err().contains("no forward 999"), "{}", unknown.shown());
    let ids: Vec<String> = all.iter().map(|forward| forward["id"].to_string()).collect();
    lab.fakessh(["forward", "cancel", &ids[0]]).run().expect_status(0);
    assert!(refuses(here.number()));
    let read = std::io::Read::read(&mut held, &mut [0; 1]);
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(exchange(connect(allocated), "two"), "got two");
    lab.fakessh(["forward", "cancel", &ids[1]]).run().expect_status(0);
    wait_until(|| refuses(allocated), "the target listens still");
    assert!(list(&lab).is_empty());
    // The session goes on.
    assert!(session.is_running());
    end_quietly(session);
    lab.expect_nothing_left();
}

#[test]
fn the_first_of_two_sessions_ends_and_the_forward_stays() {
    let lab = Lab::start();
    let (here, there) = (ClosedPort::any(), ClosedPort::any());
    let port = echo_server();
    let local = format!("{}:127.0.0.1:{port}", here.number());
    let remote = format!("{}:127.0.0.1:{port}", there.number());
    let options = ["-L", &local, "-R", &remote];
    let first = session(&lab, Client::Fakessh, &options);
    let second = session(&lab, Client::Fakessh, &options);
    assert_eq!(list(&lab).len(), 2);
    end(first);
    assert_eq!(exchange(connect(here.number()), "one"), "got one");
    assert_eq!(exchange(connect(there.number()), "two"), "got two");
    // One that is killed takes nothing with it, either.
    let third = session(&lab, Client::Fakessh, &options);
    third.signal_group(rustix::process::Signal::KILL);
    drop(third);
    assert_eq!(exchange(connect(there.number()), "three"), "got three");
    // The last one that ends waits for connections.
    let held = connect(here.number());
    wait_until(|| list(&lab)[0]["connections"] == 1, "the connection is not there");
    let mut second = second;
    second.close_stdin();
    assert_eq!(exchange(held, "last"), "got last");
    second.finish().expect_status(0).expect_err("");
    assert!(refuses(here.number()));
    lab.expect_nothing_left();
}

#[test]
fn many_sessions_at_once_share_one_forward() {
    let lab = Lab::start();
    let (here, port) = (ClosedPort::any(), echo_server());
    let local = format!("{}:127.0.0.1:{port}", here.number());
    let script = format!(
        "for i in $(seq 20); do ssh -L {local} -R /tmp/never-$$/s:/s remote true & done; wait"
    );
    lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).run().expect_status(0);
    let done = lab.tool(Client::Fakessh, ["bash", "-c", &script]).guard(GUARD).run();
    assert!(!done.err().contains("local forwarding"), "{}", done.shown());
    assert_eq!(done.err().matches("failed for listen path").count(), 20, "{}", done.shown());
    lab.expect_nothing_left();
}
