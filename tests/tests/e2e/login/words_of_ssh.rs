//! What programs look for in what their `ssh` says before it gives up.

use std::fs;
use std::net::TcpListener;

use fakessh_lab::files::keygen;
use fakessh_lab::port::ClosedPort;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Client, Lab, both_clients};

/// Fails to reach a host, and says this among other words.
#[track_caller]
fn says(lab: &Lab, client: Client, name: &str, words: &str) {
    if client == Client::Fakessh {
        lab.close_all();
    }
    let done = lab.tool_to(client, name, ["ssh", name, "true"]).run().expect_status(255);
    assert!(done.err().contains(words), "no {words:?}: {}", done.shown());
    if client == Client::Fakessh {
        done.expect_fault(255, &[words]);
    }
}

both_clients! {
    fn a_name_without_an_address(client) {
        let lab = Lab::start();
        lab.host("nowhere", &["HostName no-such-host.invalid".into()]);
        // What the resolver says behind it depends on the machine.
        says(&lab, client, "nowhere", "ssh: Could not resolve hostname no-such-host.invalid: ");
    }

    fn a_port_that_refuses(client) {
        let lab = Lab::start();
        let port = ClosedPort::any();
        lab.host_through("closed", port.number(), &[]);
        let words = format!("ssh: connect to host 127.0.0.1 port {}: Connection refused", port.number());
        says(&lab, client, "closed", &words);
        let mut lines = lab.way_in(port.number());
        lines[0] = "HostName localhost".to_owned();
        lab.host("named", &lines);
        let words = format!("ssh: connect to host localhost port {}: Connection refused", port.number());
        says(&lab, client, "named", &words);
    }

    fn a_host_that_drops_what_comes(client) {
        let lab = Lab::start();
        let (full, _first) = crate::faults::connecting::full_port();
        let port = full.local_addr().unwrap().port();
        lab.host_through("silent", port, &["ConnectTimeout 1"]);
        let words = format!("ssh: connect to host 127.0.0.1 port {port}: Connection timed out");
        says(&lab, client, "silent", &words);
    }

    fn a_server_that_says_nothing(client) {
        let lab = Lab::start();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        lab.host_through("silent", port, &["ConnectTimeout 1"]);
        says(&lab, client, "silent", "Connection timed out during banner exchange");
    }

    fn a_server_that_hangs_up(client) {
        let lab = Lab::start();
        let curt = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = curt.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = curt.accept().unwrap();
            // Whoever hangs up with something unread resets the connection.
            let mut greeting = [0; 256];
            _ = std::io::Read::read(&mut socket, &mut greeting);
        });
        lab.host_through("curt", port, &[]);
        says(&lab, client, "curt", &format!("Connection closed by 127.0.0.1 port {port}"));
        server.join().unwrap();
    }

    fn a_key_that_is_not_known_there(client) {
        let lab = Lab::start();
        let other = lab.dir().join("user/other");
        keygen(&other);
        lab.host_with_key("remote", &other, &[]);
        let account = &lab.account().name;
        says(&lab, client, "remote", &format!("{account}@127.0.0.1: Permission denied (publickey)."));
    }

    fn all_methods_of_the_server_are_named(client) {
        if !root_for("an account with a password") {
            return;
        }
        let lab = Lab::builder().password().sshd("PubkeyAuthentication yes").start();
        lab.host_through("remote", lab.port(), &["BatchMode yes"]);
        let other = lab.dir().join("user/other");
        keygen(&other);
        lab.host_with_key("remote", &other, &["BatchMode yes"]);
        let account = &lab.account().name;
        let words = format!("{account}@127.0.0.1: Permission denied (publickey,password).");
        says(&lab, client, "remote", &words);
    }

    fn too_many_keys(client) {
        let lab = Lab::builder().sshd("MaxAuthTries 1").start();
        let files = lab.local_dir("keys");
        let key = |name: &str| {
            keygen(&files.join(name));
            format!("IdentityFile {}", files.join(name).display())
        };
        let (first, second) = (key("first"), key("second"));
        lab.host_with_key("remote", &files.join("third"), &[&first, &second]);
        says(&lab, client, "remote", "Too many authentication failures");
    }

    fn a_host_key_that_is_not_believed(client) {
        let lab = Lab::start();
        fs::write(lab.known_hosts(), "").unwrap();
        says(&lab, client, "remote", "Host key verification failed.");
        lab.rotate_host_key();
        let key = lab.dir().join("user/wrong");
        keygen(&key);
        let wrong = fs::read_to_string(key.with_extension("pub")).unwrap();
        fs::write(lab.known_hosts(), format!("fakessh-lab {wrong}")).unwrap();
        says(&lab, client, "remote", "Host key verification failed.");
        says(&lab, client, "remote", "REMOTE HOST IDENTIFICATION HAS CHANGED");
        fs::write(lab.known_hosts(), format!("@revoked * {}", host_key(&lab))).unwrap();
        says(&lab, client, "remote", "Host key verification failed.");
    }

    fn a_server_of_another_time(client) {
        let lab = Lab::builder().sshd("KexAlgorithms diffie-hellman-group14-sha1").start();
        let words = format!(
            "Unable to negotiate with 127.0.0.1 port {}: no matching key exchange method found. Their \
             offer: diffie-hellman-group14-sha1",
            lab.port()
        );
        says(&lab, client, "remote", &words);
        let lab = Lab::builder().sshd("Ciphers aes128-cbc").start();
        says(&lab, client, "remote", "no matching cipher found. Their offer: aes128-cbc");
        // What the advice says helps.
        lab.host_with_key("allowed", &lab.key(), &["Ciphers +aes128-cbc"]);
        let allowed = lab.tool_to(client, "allowed", ["ssh", "allowed", "echo in"]).run();
        allowed.expect_status(0).expect_out("in\n");
        let lab = Lab::builder().sshd("HostKeyAlgorithms ssh-rsa").start();
        keygen_rsa(&lab);
        says(&lab, client, "remote", "no matching host key type found. Their offer: ssh-rsa");
    }
}

fn host_key(lab: &Lab) -> String {
    fs::read_to_string(lab.dir().join("server/host_key.pub")).unwrap()
}

/// Gives the server an RSA key.
fn keygen_rsa(lab: &Lab) {
    let port = lab.stop_server();
    let server = lab.dir().join("server");
    for file in ["host_key", "host_key.pub"] {
        fs::remove_file(server.join(file)).unwrap();
    }
    super::keygen(&server, &["-t", "rsa", "-N", "", "-f", "host_key"]);
    lab.restart_server(port);
}
