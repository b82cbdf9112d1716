//! What each kind of forward does with the bytes of its connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use fakessh_lab::port::ClosedPort;
use fakessh_lab::{Client, GUARD, Lab, both_clients};

use super::{allocated, connect, echo, echo_server, end, exchange, session, socks_to};

both_clients! {
    fn a_port_here_leads_to_a_port_there(client) {
        let lab = Lab::start();
        let (here, there) = (ClosedPort::any(), echo_server());
        let forward = format!("{}:127.0.0.1:{there}", here.number());
        let session = session(&lab, client, &["-L", &forward]);
        assert_eq!(exchange(connect(here.number()), "one"), "got one");
        let big = "x".repeat(3_000_000);
        let answers: Vec<_> = (0..5)
            .map(|_| {
                let (stream, big) = (connect(here.number()), big.clone());
                thread::spawn(move || exchange(stream, &big))
            })
            .collect();
        assert!(answers.into_iter().all(|answer| answer.join().unwrap() == format!("got {big}")));
        end(session);
        let gone = TcpStream::connect((Ipv4Addr::LOCALHOST, here.number()));
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        lab.expect_nothing_left();
    }

    fn sockets_are_forwarded_as_ports_are(client) {
        let lab = Lab::start();
        let (near, far) = (lab.local_dir("near").join("s"), lab.remote_dir().join("far"));
        let listener = UnixListener::bind(&far).unwrap();
        std::fs::set_permissions(&far, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        thread::spawn(move || listener.incoming().flatten().for_each(echo));
        let forward = format!("{}:{}", near.display(), far.display());
        let session = session(&lab, client, &["-L", &forward]);
        let mut stream = UnixStream::connect(&near).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(b"two").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "got two");
        end(session);
        // ssh leaves the file.
        assert_eq!(near.exists(), client == Client::Ssh);
    }

    fn a_port_there_leads_to_a_port_here(client) {
        let lab = Lab::start();
        let port = echo_server();
        let session = session(&lab, client, &["-R", &format!("0:localhost:{port}")]);
        let allocated = allocated(&session);
        assert_eq!(exchange(connect(allocated), "three"), "got three");
        let big = "x".repeat(3_000_000);
        assert_eq!(exchange(connect(allocated), &big), format!("got {big}"));
        let mut session = session;
        session.close_stdin();
        session.finish().expect_status(0);
        lab.expect_nothing_left();
    }

    fn each_connection_says_where_it_wants_to_go(client) {
        let lab = Lab::start();
        let (socks, there) = (ClosedPort::any(), echo_server());
        let session = session(&lab, client, &["-D", &socks.number().to_string()]);
        let five = socks_to(socks.number(), there);
        assert_eq!(exchange(five, "five"), "got five");
        let [high, low] = there.to_be_bytes();
        for name in [&[127, 0, 0, 1, 0][..], b"\0\0\0\x01me\0localhost\0"] {
            let mut four = connect(socks.number());
            four.write_all(&[&[4, 1, high, low][..], name].concat()).unwrap();
            let mut answer = [0; 8];
            four.read_exact(&mut answer).unwrap();
            assert_eq!(answer[..2], [0, 90]);
            assert_eq!(exchange(four, "four"), "got four");
        }
        end(session);
    }

    fn standard_input_and_output_lead_to_a_port(client) {
        let lab = Lab::start();
        let there = format!("127.0.0.1:{}", echo_server());
        let done = lab.tool(client, ["ssh", "-W", &there, "remote"]).input("in").run();
        done.expect_status(0).expect_out("got in").expect_err("");
        let closed = ClosedPort::any();
        let there = format!("127.0.0.1:{}", closed.number());
        let done = lab.tool(client, ["ssh", "-W", &there, "remote"]).input("in").run();
        let expected = ["open failed: connect failed: Connection refused", "stdio forwarding failed"];
        done.expect_status(255).expect_out("");
        let done = lab.tool(client, ["ssh", "-W", &there, "remote"]).run();
        assert!(expected.iter().all(|words| done.err().contains(words)), "{}", done.shown());
    }

    fn a_port_that_is_in_use_is_said_and_the_session_goes_on_unless_it_may_not(client) {
        let lab = Lab::start();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let local = format!("127.0.0.1:{port}:127.0.0.1:1");
        let remote = format!("127.0.0.1:{port}:127.0.0.1:1");
        for (letter, forward, words) in [
            ("-L", &local, "Could not request local forwarding"),
            ("-R", &remote, "remote port forwarding failed for listen port"),
        ] {
            let done = lab.tool(client, ["ssh", letter, forward, "remote", "echo on"]).run();
            assert!(done.err().contains(words), "{}", done.shown());
            done.expect_status(0).expect_out("on\n");
            let strict = ["ssh", "-o", "ExitOnForwardFailure=yes", letter, forward, "remote", "echo on"];
            let done = lab.tool(client, strict).run();
            done.expect_status(255).expect_out("");
        }
        lab.expect_nothing_left();
    }

    fn a_session_lasts_as_long_as_its_connections(client) {
        let lab = Lab::start();
        let (here, there) = (ClosedPort::any(), echo_server());
        let forward = format!("{}:127.0.0.1:{there}", here.number());
        let mut session = session(&lab, client, &["-L", &forward]);
        let stream = connect(here.number());
        // It has arrived there when an answer to another one has.
        assert_eq!(exchange(connect(here.number()), "other"), "got other");
        session.close_stdin();
        assert!(session.is_running());
        assert_eq!(exchange(stream, "last"), "got last");
        session.finish().expect_status(0);
    }

    fn a_connection_that_is_reset_is_not_taken_for_one_that_has_ended(client) {
        let lab = Lab::start();
        let here = ClosedPort::any();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let there = listener.local_addr().unwrap().port();
        let forward = format!("{}:127.0.0.1:{there}", here.number());
        let session = session(&lab, client, &["-L", &forward]);
        let mut stream = connect(here.number());
        stream.write_all(b"all of this is read").unwrap();
        let (peer, _) = listener.accept().unwrap();
        // What was not read makes a reset of the end.
        peer.peek(&mut [0; 1]).unwrap();
        drop(peer);
        let read = stream.read(&mut [0; 1]);
        match client {
            // ssh passes an end on.
            Client::Ssh => assert_eq!(read.unwrap(), 0),
            Client::Fakessh => assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset),
        }
        drop(stream);
        end(session);
    }

    fn either_side_may_end_first(client) {
        let lab = Lab::start();
        let here = ClosedPort::any();
        // It says all it has to say, and then listens.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let there = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            [0, 1].map(|_| {
                let (mut peer, _) = listener.accept().unwrap();
                peer.write_all(b"all").unwrap();
                peer.shutdown(Shutdown::Write).unwrap();
                let mut answer = String::new();
                peer.read_to_string(&mut answer).unwrap();
                answer
            })
        });
        let local = format!("{}:127.0.0.1:{there}", here.number());
        let remote = format!("0:127.0.0.1:{there}");
        let session = session(&lab, client, &["-L", &local, "-R", &remote]);
        for port in [here.number(), allocated(&session)] {
            let mut stream = connect(port);
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert_eq!(said, "all");
            stream.write_all(b"answer").unwrap();
            drop(stream);
        }
        assert_eq!(server.join().unwrap(), ["answer", "answer"]);
        session.finish().expect_status(0);
        lab.expect_nothing_left();
    }
}
