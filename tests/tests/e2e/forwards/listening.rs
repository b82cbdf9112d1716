//! Where forwards listen and connect, and what is said if they can't.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use fakessh_lab::port::ClosedPort;
use fakessh_lab::{Client, GUARD, Lab, both_clients};

use super::{
    allocated, connect, echo_server, end, end_quietly, exchange, exchange_unix, is_up, refuses,
    session, try_socks,
};

/// The port of an address of this machine that nobody listens on.
fn at(address: IpAddr, port: u16) -> bool {
    TcpStream::connect(SocketAddr::new(address, port)).is_ok()
}

/// An address of this machine that is none of the loopback's, if it has one.
fn outer() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// What comes of a connection that can't be passed on: never a byte.
#[track_caller]
fn expect_nothing(mut stream: TcpStream) {
    let read = stream.read(&mut [0; 1]);
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    assert!(
        read.as_ref()
            .err()
            .is_none_or(|error| { error.kind() == std::io::ErrorKind::ConnectionReset }),
        "{read:?}"
    );
}

both_clients! {
    fn the_listen_address_is_the_one_that_is_asked_for(client) {
        let lab = Lab::start();
        let there = echo_server();
        let second = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
        let (four, six) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
        for (options, bind, yes, no) in [
            (&[][..], "", &[four, six][..], &[second][..]),
            (&[], "localhost:", &[four, six], &[second]),
            (&[], "127.0.0.2:", &[second], &[four, six]),
            (&[], "[::1]:", &[six], &[four, second]),
            (&[], "*:", &[four, second, six], &[]),
            (&[], ":", &[four, second, six], &[]),
            (&["-g"], "", &[four, second, six], &[]),
            (&["-oGatewayPorts=yes"], "", &[four, second, six], &[]),
            (&["-g"], "127.0.0.1:", &[four], &[second, six]),
        ] {
            let port = ClosedPort::any().number();
            let forward = format!("{bind}{port}:127.0.0.1:{there}");
            let session = session(&lab, client, &[options, &["-L", &forward]].concat());
            for address in yes {
                assert!(at(*address, port), "{options:?} {bind:?} {address}");
            }
            let outer = outer().filter(|_| !yes.contains(&second));
            for address in no.iter().chain(&outer) {
                assert!(!at(*address, port), "{options:?} {bind:?} {address}");
            }
            end(session);
        }
    }

    fn the_same_forward_twice_is_one(client) {
        let lab = Lab::start();
        let (here, there) = (ClosedPort::any(), echo_server());
        let forward = format!("{}:127.0.0.1:{there}", here.number());
        let session = session(&lab, client, &["-L", &forward, "-L", &forward]);
        assert_eq!(exchange(connect(here.number()), "one"), "got one");
        end(session);
        assert!(refuses(here.number()));
    }

    fn a_name_that_means_nothing_ends_its_connection_and_no_other(client) {
        let lab = Lab::start();
        let (here, there) = (ClosedPort::any(), echo_server());
        let (nowhere, closed) = (ClosedPort::any(), ClosedPort::any());
        let good = format!("{}:localhost:{there}", here.number());
        let bad = format!("{}:nowhere.invalid:1", nowhere.number());
        let back = "0:nowhere.invalid:1";
        let options = ["-L", &good, "-L", &bad, "-R", back];
        let session_one = session(&lab, client, &options);
        expect_nothing(connect(nowhere.number()));
        expect_nothing(connect(allocated(&session_one)));
        assert_eq!(exchange(connect(here.number()), "one"), "got one");
        end_quietly(session_one);
        // A port that nobody listens on, here and there.
        let bad = format!("{}:127.0.0.1:{}", nowhere.number(), closed.number());
        let back = format!("0:127.0.0.1:{}", closed.number());
        let session = session(&lab, client, &["-L", &good, "-L", &bad, "-R", &back]);
        expect_nothing(connect(nowhere.number()));
        expect_nothing(connect(allocated(&session)));
        assert_eq!(exchange(connect(here.number()), "two"), "got two");
        end_quietly(session);
        lab.expect_nothing_left();
    }

    fn a_host_that_never_answers_holds_up_nothing_else(client) {
        let lab = Lab::start();
        let there = echo_server();
        // A queue that is full: whoever connects waits for ever.
        let full = rustix::net::socket(
            rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
        rustix::net::bind(&full, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let silent: SocketAddr = rustix::net::getsockname(&full).unwrap().try_into().unwrap();
        let _waiting = TcpStream::connect(silent).unwrap();
        let (here, stuck) = (ClosedPort::any(), ClosedPort::any());
        let good = format!("{}:127.0.0.1:{there}", here.number());
        let bad = format!("{}:127.0.0.1:{}", stuck.number(), silent.port());
        let back = format!("0:127.0.0.1:{}", silent.port());
        let mut session = session(&lab, client, &["-L", &good, "-L", &bad, "-R", &back]);
        let local = connect(stuck.number());
        let remote = (client == Client::Fakessh).then(|| connect(allocated(&session)));
        assert_eq!(exchange(connect(here.number()), "one"), "got one");
        session.write(b"still\n").unwrap();
        assert_eq!(session.read_line().as_deref(), Some("still"));
        // The connection is given up there, too.
        drop((local, remote));
        session.signal(rustix::process::Signal::TERM);
        session.finish();
    }

    fn a_socket_that_is_there_is_replaced_only_if_that_is_asked_for(client) {
        let lab = Lab::start();
        let there = echo_server();
        let dir = lab.local_dir("near");
        let path = dir.join("s");
        drop(UnixListener::bind(&path).unwrap());
        let local = format!("{}:127.0.0.1:{there}", path.display());
        let done = lab.tool(client, ["ssh", "-L", &local, "remote", "true"]).run();
        let done = done.expect_status(0);
        assert!(done.err().contains("cannot bind to path"), "{}", done.shown());
        let options = ["-oStreamLocalBindUnlink=yes", "-oStreamLocalBindMask=0117", "-L", &local];
        let session = session(&lab, client, &options);
        assert_eq!(exchange_unix(&path, "one"), "got one");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        end(session);
        // A file that is no socket stays.
        let file = dir.join("file");
        std::fs::write(&file, "mine").unwrap();
        let local = format!("{}:127.0.0.1:{there}", file.display());
        let words = ["ssh", "-oStreamLocalBindUnlink=yes", "-oExitOnForwardFailure=yes", "-L", &local];
        let done = lab.tool(client, words.iter().chain(&["remote", "true"])).run();
        if client == Client::Fakessh {
            done.expect_status(255);
            assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        }
    }

    fn a_socket_there_has_the_rights_of_its_account(client) {
        let lab = Lab::start();
        let here = echo_server();
        let path = lab.remote_dir().join("back");
        let forward = format!("{}:127.0.0.1:{here}", path.display());
        let first = session(&lab, client, &["-R", &forward]);
        assert_eq!(exchange_unix(&path, "one"), "got one");
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.uid()), (0o600, lab.account().uid));
        end(first);
        // ssh and its server leave the file; ours does not.
        assert_eq!(path.exists(), client == Client::Ssh);
    }

    fn a_path_that_is_too_long_is_refused(client) {
        let lab = Lab::start();
        let long = format!("/tmp/{}", "x".repeat(120));
        for forward in [format!("{long}:127.0.0.1:1"), format!("1:{long}")] {
            let done = lab.tool(client, ["ssh", "-L", &forward, "remote", "true"]).run();
            let done = done.expect_status(255);
            assert!(done.err().contains("Bad local forwarding specification"), "{}", done.shown());
        }
    }

    fn a_socket_here_may_be_named_from_the_working_directory(client) {
        let lab = Lab::start();
        let there = echo_server();
        let dir = lab.local_dir("near");
        let forward = format!("./s:127.0.0.1:{there}");
        let words = ["ssh", "-L", &forward, "remote", "cat"];
        let session = is_up(lab.tool(client, words).directory(&dir).input_open().start());
        assert_eq!(exchange_unix(&dir.join("s"), "one"), "got one");
        end(session);
        assert_eq!(dir.join("s").exists(), client == Client::Ssh);
    }

    fn who_connects_there_says_where_to_as_far_as_it_is_permitted(client) {
        let lab = Lab::start();
        let (one, other) = (echo_server(), echo_server());
        let open = session(&lab, client, &["-R", "0"]);
        let socks = allocated(&open);
        assert_eq!(exchange(try_socks(socks, one).unwrap(), "one"), "got one");
        assert_eq!(exchange(try_socks(socks, other).unwrap(), "other"), "got other");
        end_quietly(open);
        let permit = format!("PermitRemoteOpen=localhost:{one}");
        let narrow = session(&lab, client, &["-o", &permit, "-R", "0"]);
        let socks = allocated(&narrow);
        assert_eq!(exchange(try_socks(socks, one).unwrap(), "one"), "got one");
        assert!(try_socks(socks, other).is_err());
        end_quietly(narrow);
        let none = session(&lab, client, &["-o", "PermitRemoteOpen=none", "-R", "0"]);
        assert!(try_socks(allocated(&none), one).is_err());
        end_quietly(none);
        lab.expect_nothing_left();
    }

    fn the_target_listens_where_it_is_asked_to(client) {
        let lab = Lab::builder().sshd("GatewayPorts clientspecified").start();
        let here = echo_server();
        let second = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
        for (bind, yes, no) in [
            ("", Ipv4Addr::LOCALHOST.into(), Some(second)),
            ("127.0.0.2:", second, Some(Ipv4Addr::LOCALHOST.into())),
            ("[::1]:", Ipv6Addr::LOCALHOST.into(), Some(second)),
            ("*:", second, None),
        ] {
            let session = session(&lab, client, &["-R", &format!("{bind}0:127.0.0.1:{here}")]);
            let port = allocated(&session);
            assert!(at(yes, port), "{bind:?}");
            assert!(no.is_none_or(|no| !at(no, port)), "{bind:?}");
            end_quietly(session);
        }
    }
}

#[test]
fn a_port_in_use_is_said_in_one_line() {
    let lab = Lab::start();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let forward = format!("127.0.0.1:{port}:127.0.0.1:1");
    let words = ["ssh", "-oExitOnForwardFailure=yes", "-L", &forward, "remote", "true"];
    let done = lab.tool(Client::Fakessh, words).guard(GUARD).run();
    done.expect_fault(255, &["local forwarding", "Address already in use"]);
}
