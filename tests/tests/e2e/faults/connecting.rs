//! What is wrong before there is a connection: one line that says what to do, status 255, and the
//! tool is not started.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};

use fakessh_lab::files::keygen;
use fakessh_lab::port::ClosedPort;
use fakessh_lab::{Client, Finished, Lab, both_clients};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

/// Runs `ssh NAME true`, which must fail to connect. Ours says these words.
fn refused(lab: &Lab, client: Client, name: &str, words: &[&str]) -> Finished {
    let script = format!("touch started; ssh {name} true");
    let dir = lab.local_dir("tool");
    let done = lab.tool_to(client, name, ["sh", "-c", &script]).directory(&dir).run();
    match client {
        Client::Ssh => done.expect_status(255),
        Client::Fakessh => {
            let done = done.expect_fault(255, words);
            assert!(!dir.join("started").exists(), "the tool was started");
            lab.expect_nothing_left();
            done
        }
    }
}

/// A port that answers nobody, as behind a firewall that drops packets: its queue is full.
pub(crate) fn full_port() -> (TcpListener, TcpStream) {
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let first = TcpStream::connect(address).unwrap();
    (listener, first)
}

both_clients! {
    fn a_host_that_does_not_exist(client) {
        let lab = Lab::start();
        lab.host("nowhere", &["HostName no-such-host.invalid".into()]);
        refused(&lab, client, "nowhere", &["no-such-host.invalid", "not resolve"]);
    }

    fn a_port_where_nothing_listens(client) {
        let lab = Lab::start();
        let port = lab.stop_server();
        refused(&lab, client, "remote", &["127.0.0.1", &port.number().to_string(), "refused"]);
    }

    fn a_host_that_does_not_answer(client) {
        let lab = Lab::start();
        let (full, _first) = full_port();
        lab.host_through("silent", full.local_addr().unwrap().port(), &["ConnectTimeout 1"]);
        refused(&lab, client, "silent", &["127.0.0.1", " 1 second"]);
    }

    fn a_server_that_accepts_and_says_nothing(client) {
        let lab = Lab::start();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        lab.host_through("silent", port, &["ConnectTimeout 1"]);
        refused(&lab, client, "silent", &[" 1 second"]);
    }

    fn a_server_that_speaks_something_else(client) {
        let lab = Lab::start();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = other.accept().unwrap();
            _ = std::io::Write::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
        lab.host_through("web", port, &[]);
        refused(&lab, client, "web", &[]);
        server.join().unwrap();
    }

    fn a_key_that_the_server_does_not_know(client) {
        let lab = Lab::start();
        let other = lab.dir().join("user/other");
        keygen(&other);
        lab.host_with_key("remote", &other, &[]);
        refused(&lab, client, "remote", &[&lab.account().name, "publickey"]);
        assert_eq!(lab.logins(), 0);
    }

    fn an_unknown_host_key_and_nobody_to_ask(client) {
        let lab = Lab::start();
        std::fs::write(lab.known_hosts(), "").unwrap();
        lab.host_through("remote", lab.port(), &["StrictHostKeyChecking ask"]);
        refused(&lab, client, "remote", &["host key", "fakessh-lab", "SHA256:"]);
        assert_eq!(std::fs::read_to_string(lab.known_hosts()).unwrap(), "");
        assert_eq!(lab.logins(), 0);
    }

    fn a_host_key_that_has_changed(client) {
        let lab = Lab::start();
        lab.rotate_host_key();
        let file = lab.known_hosts().display().to_string();
        refused(&lab, client, "remote", &["host key", "changed", "ssh-keygen", "-R", &file]);
        assert_eq!(lab.logins(), 0);
    }

    fn a_configuration_that_cannot_be_read(client) {
        let lab = Lab::start();
        lab.host("remote", &["NoSuchKeyword yes".into()]);
        refused(&lab, client, "remote", &["NoSuchKeyword"]);
    }

    fn a_jump_host_that_refuses(client) {
        let lab = Lab::start();
        let port = ClosedPort::any();
        lab.host_through("jump", port.number(), &[]);
        lab.host_through("behind", lab.port(), &["ProxyJump jump"]);
        refused(&lab, client, "behind", &["refused"]);
    }

    fn a_proxy_command_that_fails(client) {
        let lab = Lab::start();
        lab.host_through("proxied", lab.port(), &["ProxyCommand /no/such/program"]);
        // What the command says is shown as it comes, as ssh shows it.
        let done = lab.tool_to(client, "proxied", ["ssh", "proxied", "true"]).run();
        assert!(done.err().contains("/no/such/program"), "{}", done.shown());
        done.expect_status(255).expect_out("");
    }
}

#[test]
fn after_a_fault_the_next_run_connects_with_fakessh() {
    let lab = Lab::start();
    let port = lab.stop_server();
    lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).run().expect_fault(255, &["refused"]);
    lab.restart_server(port);
    lab.tool(Client::Fakessh, ["ssh", "remote", "true"]).run().expect_status(0).expect_err("");
    lab.expect_nothing_left();
}

#[test]
fn one_bad_destination_of_several_is_named_with_fakessh() {
    let lab = Lab::start();
    lab.host("nowhere", &["HostName no-such-host.invalid".into()]);
    let before = ["--route", "good=remote", "--route", "bad=nowhere"];
    let done = lab.run(before, ["ssh", "good", "true"]).run();
    done.expect_fault(255, &["no-such-host.invalid"]);
    lab.expect_nothing_left();
}
