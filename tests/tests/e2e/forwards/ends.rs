//! Forwards in the background, and what is left when something on the way dies.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use fakessh_lab::port::ClosedPort;
use fakessh_lab::process::Process;
use fakessh_lab::{Client, GUARD, Lab, Relay, Running, both_clients, wait_until};
use rustix::process::Signal;

use super::{
    allocated, connect, echo_server, end_quietly, exchange, exchange_unix, refuses, session,
};

/// The process of an `ssh` with this word on its command line.
fn ssh_with(lab: &Lab, word: &str) -> Process {
    let mut found = lab.processes();
    found.retain(|process| {
        let program = process.command.split(' ').next().unwrap_or_default();
        (program == "ssh" || program.ends_with("/ssh")) && process.command.contains(word)
    });
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// A connection in the middle of a transfer, and what is at its other end.
struct Transfer {
    /// Who has connected.
    near: TcpStream,
    /// Who was connected to.
    far: TcpStream,
}

/// A session whose `-L` and `-R` carry a transfer each.
fn transfers(lab: &Lab, client: Client, host: &str) -> (Running, [Transfer; 2]) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let here = ClosedPort::any();
    let local = format!("{}:127.0.0.1:{port}", here.number());
    let remote = format!("0:127.0.0.1:{port}");
    let words = ["ssh", "-L", &local, "-R", &remote, host, "cat"];
    let session = super::is_up(lab.tool_to(client, host, words).input_open().start());
    let transfers = [here.number(), allocated(&session)].map(|port| {
        let mut near = connect(port);
        let (mut far, _) = listener.accept().unwrap();
        far.set_read_timeout(Some(GUARD)).unwrap();
        near.write_all(b"up").unwrap();
        far.read_exact(&mut [0; 2]).unwrap();
        far.write_all(b"down").unwrap();
        near.read_exact(&mut [0; 4]).unwrap();
        Transfer { near, far }
    });
    (session, transfers)
}

/// What whoever is still there sees of a transfer that was cut: with ours a reset, and no end.
#[track_caller]
fn expect_cut(client: Client, which: &str, stream: &mut TcpStream) {
    let read = stream.read(&mut [0; 1]);
    match client {
        Client::Ssh => assert!(!matches!(read, Ok(1..)), "{which}: {read:?}"),
        Client::Fakessh => {
            let kind = read.as_ref().map_err(std::io::Error::kind);
            assert_eq!(kind, Err(ErrorKind::ConnectionReset), "{which}");
        }
    }
}

#[track_caller]
fn expect_all_cut(client: Client, transfers: [Transfer; 2]) {
    for (mut transfer, which) in transfers.into_iter().zip(["-L", "-R"]) {
        expect_cut(client, &format!("{which}, who connected"), &mut transfer.near);
        expect_cut(client, &format!("{which}, the peer"), &mut transfer.far);
    }
}

both_clients! {
    fn in_the_background_it_is_there_when_the_caller_goes_on(client) {
        let lab = Lab::start();
        let (here, there) = (ClosedPort::any(), echo_server());
        let near = lab.local_dir("near").join("s");
        let local = format!("{}:127.0.0.1:{there}", here.number());
        let socket = format!("{}:127.0.0.1:{there}", near.display());
        let words = ["ssh", "-f", "-N", "-oExitOnForwardFailure=yes", "-L", &local, "-L", &socket, "remote"];
        let mut started = lab.tool(client, words).start();
        assert_eq!(started.wait().code(), Some(0));
        assert_eq!(exchange(connect(here.number()), "one"), "got one");
        assert_eq!(exchange_unix(&near, "two"), "got two");
        let process = ssh_with(&lab, &local);
        process.signal(Signal::TERM);
        assert!(process.wait(GUARD));
        wait_until(|| refuses(here.number()), "it is listened on still");
        if client == Client::Fakessh {
            wait_until(|| !near.exists(), "the socket is left");
        }
        lab.expect_nothing_left();
    }

    fn in_the_background_one_that_fails_says_so_first(client) {
        let lab = Lab::start();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let local = format!("127.0.0.1:{}:127.0.0.1:1", taken.local_addr().unwrap().port());
        let words = ["ssh", "-f", "-N", "-oExitOnForwardFailure=yes", "-L", &local, "remote"];
        lab.tool(client, words).run().expect_status(255);
        lab.expect_nothing_left();
    }

    fn who_is_killed_leaves_nothing(client) {
        let lab = Lab::start();
        let near = lab.local_dir("near").join("s");
        let socket = format!("{}:127.0.0.1:{}", near.display(), echo_server());
        let there = lab.remote_dir().join("back");
        let back = format!("{}:127.0.0.1:{}", there.display(), echo_server());
        let session = session(&lab, client, &["-L", &socket, "-R", &back]);
        assert_eq!(exchange_unix(&there, "one"), "got one");
        ssh_with(&lab, &socket).kill();
        session.finish();
        if client == Client::Fakessh {
            wait_until(|| !near.exists() && !there.exists(), "a socket is left");
        }
        lab.expect_nothing_left();
    }

    fn the_shim_is_killed_in_a_transfer(client) {
        let lab = Lab::start();
        let (session, transfers) = transfers(&lab, client, "remote");
        ssh_with(&lab, "-L").kill();
        expect_all_cut(client, transfers);
        session.finish();
        lab.expect_nothing_left();
    }

    fn the_network_is_lost_in_a_transfer(client) {
        let lab = Lab::start();
        let relay = Relay::start(lab.port(), Duration::ZERO);
        lab.host_through("relayed", relay.port(), &[]);
        let (session, transfers) = transfers(&lab, client, "relayed");
        relay.cut();
        expect_all_cut(client, transfers);
        session.finish().expect_status(255);
        lab.expect_nothing_left();
    }

    fn a_direct_connection_is_lost_in_a_transfer(client) {
        let lab = Lab::builder().sshd("ForceCommand cat").start();
        let relay = Relay::start(lab.port(), Duration::ZERO);
        lab.host_through("relayed", relay.port(), &[]);
        let (session, transfers) = transfers(&lab, client, "relayed");
        relay.cut();
        // What is on the target is the server's.
        let [mut local, mut remote] = transfers;
        expect_cut(client, "-L, who connected", &mut local.near);
        expect_cut(client, "-R, the peer", &mut remote.far);
        session.finish().expect_status(255);
        lab.expect_nothing_left();
    }

    fn who_connected_resets_the_connection(client) {
        let lab = Lab::start();
        let (session, transfers) = transfers(&lab, client, "remote");
        for (Transfer { near, mut far }, which) in transfers.into_iter().zip(["-L", "-R"]) {
            rustix::net::sockopt::set_socket_linger(&near, Some(Duration::ZERO)).unwrap();
            drop(near);
            expect_cut(client, which, &mut far);
        }
        end_quietly(session);
        lab.expect_nothing_left();
    }

    fn a_shim_that_is_stopped_holds_up_no_forward_of_others(client) {
        let lab = Lab::start();
        let (here, there) = (ClosedPort::any(), ClosedPort::any());
        let port = echo_server();
        let stopped_forward = format!("0:127.0.0.1:{port}");
        let stopped = session(&lab, client, &["-R", &stopped_forward]);
        let stuck = allocated(&stopped);
        let local = format!("{}:127.0.0.1:{port}", here.number());
        let remote = format!("{}:127.0.0.1:{port}", there.number());
        let other = session(&lab, client, &["-L", &local, "-R", &remote]);
        let process = ssh_with(&lab, &stopped_forward);
        process.signal(Signal::STOP);
        let waiting = connect(stuck);
        assert_eq!(exchange(connect(here.number()), "one"), "got one");
        assert_eq!(exchange(connect(there.number()), "two"), "got two");
        process.signal(Signal::CONT);
        assert_eq!(exchange(waiting, "three"), "got three");
        end_quietly(other);
        end_quietly(stopped);
        lab.expect_nothing_left();
    }
}

#[test]
fn the_slave_is_killed_in_a_transfer() {
    let lab = Lab::start();
    let (session, transfers) = transfers(&lab, Client::Fakessh, "remote");
    lab.slaves().iter().for_each(Process::kill);
    expect_all_cut(Client::Fakessh, transfers);
    session.finish().expect_status(255);
    lab.expect_nothing_left();
}

#[test]
fn the_master_is_killed_in_a_transfer() {
    let lab = Lab::start();
    let (session, transfers) = transfers(&lab, Client::Fakessh, "remote");
    lab.master().kill();
    expect_all_cut(Client::Fakessh, transfers);
    session.finish().expect_status(255);
    lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).run().expect_status(0);
    lab.expect_nothing_left();
}

#[test]
fn a_cancelled_context_takes_its_forwards() {
    let lab = Lab::start();
    let (session, transfers) = transfers(&lab, Client::Fakessh, "remote");
    lab.fakessh(["close", "remote"]).run().expect_status(0);
    expect_all_cut(Client::Fakessh, transfers);
    session.finish().expect_status(255);
    assert!(fs::read_dir(lab.remote_dir()).unwrap().next().is_none());
    lab.expect_nothing_left();
}
