//! Options that are stricter than those of a held connection: a command gets the connection only if
//! its own options would have led to it.

use std::fs;

use fakessh_lab::account::PASSWORD;
use fakessh_lab::files::keygen;
use fakessh_lab::{Askpass, Client, Lab, both_clients};

/// Holds that each of these options alone keeps a command from a connection that is held by others.
#[track_caller]
fn expect_refused(lab: &Lab, client: Client, options: &[&str]) {
    for option in options {
        lab.plain_ssh(client, &["remote", "true"]).run().expect_status(0);
        let mut words: Vec<&str> = option.split(' ').collect();
        words.extend(["remote", "echo served"]);
        let done = lab.plain_ssh(client, &words).run();
        assert_eq!((done.code(), done.out().as_str()), (255, ""), "{option}: {}", done.shown());
    }
}

/// Holds that a command with each of these options uses the connection that is held.
#[track_caller]
fn expect_shared(lab: &Lab, options: &[&str]) {
    lab.plain_ssh(Client::Fakessh, &["remote", "true"]).run().expect_status(0);
    let logins = lab.logins();
    for option in options {
        let mut words: Vec<&str> = option.split(' ').collect();
        words.extend(["remote", "true"]);
        lab.plain_ssh(Client::Fakessh, &words).run().expect_status(0);
        assert_eq!(lab.logins(), logins, "{option} had a login of its own");
    }
}

both_clients! {
    fn algorithms_count(client) {
        let lab = Lab::builder()
            .sshd("Ciphers aes256-gcm@openssh.com,aes256-ctr")
            .sshd("MACs hmac-sha2-512")
            .sshd("KexAlgorithms curve25519-sha256")
            .start();
        expect_refused(&lab, client, &[
            "-o Ciphers=aes128-gcm@openssh.com",
            "-c aes128-ctr",
            "-o MACs=hmac-sha2-256 -o Ciphers=aes256-ctr",
            "-m hmac-sha2-256 -c aes256-ctr",
            "-o KexAlgorithms=diffie-hellman-group16-sha512",
            "-o HostKeyAlgorithms=rsa-sha2-512",
            "-o PubkeyAcceptedAlgorithms=rsa-sha2-512",
        ]);
    }

    fn the_strength_of_keys_counts(client) {
        let lab = Lab::start();
        let key = lab.dir().join("user/rsa");
        let made = lab.program(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"]
            .map(str::to_owned).into_iter().chain([key.display().to_string()])).run();
        made.expect_status(0);
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        fs::write(lab.dir().join("server/authorized_keys"), public).unwrap();
        lab.host_with_key("remote", &key, &[]);
        expect_refused(&lab, client, &["-o RequiredRSASize=3072"]);
    }

    fn the_address_counts(client) {
        let lab = Lab::start();
        expect_refused(&lab, client, &[
            "-6",
            "-o AddressFamily=inet6",
            "-b 192.0.2.1",
            "-o BindAddress=192.0.2.1",
            "-B no-such",
            "-o BindInterface=no-such",
        ]);
    }

    fn the_proof_of_the_host_counts(client) {
        let lab = Lab::start();
        let revoked = lab.dir().join("user/revoked");
        fs::copy(lab.dir().join("server/host_key.pub"), &revoked).unwrap();
        let empty = lab.dir().join("user/empty");
        fs::write(&empty, "").unwrap();
        expect_refused(&lab, client, &[
            &format!("-o RevokedHostKeys={}", revoked.display()),
            &format!("-o UserKnownHostsFile={}", empty.display()),
            "-o HostKeyAlias=another",
        ]);
        // By the machine's records alone.
        let known = lab.known_hosts().display().to_string();
        let global = format!("-o GlobalKnownHostsFile={known}");
        let words = [&global, &format!("-oUserKnownHostsFile={}", empty.display())];
        let words: Vec<&str> = words.iter().flat_map(|word| word.split(' ')).collect();
        lab.plain_ssh(client, &[&words[..], &["remote", "true"]].concat()).run().expect_status(0);
        expect_refused(&lab, client, &[
            &format!("-o UserKnownHostsFile={0} -o GlobalKnownHostsFile={0}", empty.display()),
        ]);
    }

    fn strictness_counts(client) {
        let lab = Lab::start();
        let new = lab.dir().join("user/new").display().to_string();
        let with = |strict: &str, file: &str| {
            let options = [
                format!("-oStrictHostKeyChecking={strict}"), format!("-oUserKnownHostsFile={file}"),
            ];
            lab.plain_ssh(client, &[&options[0], &options[1], "remote", "true"]).run()
        };
        // Where nothing is recorded, the one gets there and the other does not.
        with("no", "/dev/null").expect_status(0);
        with("yes", "/dev/null").expect_status(255);
        with("accept-new", &new).expect_status(0);
        with("yes", &new).expect_status(0);
    }

    fn methods_count(client) {
        let lab = Lab::start();
        expect_refused(&lab, client, &[
            "-o PubkeyAuthentication=no",
            "-o PreferredAuthentications=password,keyboard-interactive",
            "-o PreferredAuthentications=hostbased",
        ]);
    }

    fn a_login_with_a_password_serves_nobody_who_allows_none(client) {
        let lab = Lab::builder().password().start();
        let askpass = Askpass::new(&lab, "askpass", &[PASSWORD, PASSWORD, PASSWORD]);
        askpass.for_tool(lab.plain_ssh(client, &["remote", "true"])).run().expect_status(0);
        for option in [
            "-oPasswordAuthentication=no",
            "-oPreferredAuthentications=publickey",
            "-oPreferredAuthentications=keyboard-interactive",
        ] {
            let done = askpass.for_tool(lab.plain_ssh(client, &[option, "remote", "true"])).run();
            done.expect_status(255).expect_out("");
        }
    }

    fn identities_count(client) {
        let lab = Lab::start();
        let other = lab.dir().join("user/other");
        keygen(&other);
        lab.host("bare", &lab.way_in(lab.port()));
        let key = lab.key().display().to_string();
        lab.plain_ssh(client, &["-i", &key, "bare", "true"]).run().expect_status(0);
        let other = other.display().to_string();
        lab.plain_ssh(client, &["-i", &other, "bare", "true"]).run().expect_status(255);
        let options = [format!("-oCertificateFile={other}"), format!("-oIdentityFile={other}")];
        lab.plain_ssh(client, &[&options[0], &options[1], "bare", "true"]).run().expect_status(255);
    }

    fn the_way_counts(client) {
        let lab = Lab::start();
        expect_refused(&lab, client, &[
            "-o ProxyCommand=false",
            "-o ProxyJump=no-such.invalid",
            "-J no-such.invalid",
            "-o HostName=no-such.invalid",
            "-p 1",
            "-l nobody-at-all",
        ]);
    }
}

#[test]
fn options_that_would_have_led_to_the_same_connection_share_it_with_fakessh() {
    let lab = Lab::start();
    expect_shared(
        &lab,
        &[
            "-4",
            "-o AddressFamily=inet",
            "-o PasswordAuthentication=no",
            "-o KbdInteractiveAuthentication=no",
            "-o PreferredAuthentications=publickey",
            "-o PreferredAuthentications=gssapi-with-mic,hostbased,publickey -o \
             PasswordAuthentication=no -o KbdInteractiveAuthentication=no",
            "-o StrictHostKeyChecking=accept-new",
            "-o StrictHostKeyChecking=no",
        ],
    );
    lab.expect_nothing_left();
}

#[test]
fn options_that_lead_nowhere_else_share_a_connection_with_fakessh() {
    let lab = Lab::start();
    expect_shared(
        &lab,
        &[
            "-o IPQoS=lowdelay",
            "-C",
            "-o ConnectTimeout=7",
            "-o ConnectionAttempts=2",
            "-o ServerAliveInterval=9 -o ServerAliveCountMax=2",
            "-o TCPKeepAlive=no",
            "-o RekeyLimit=1G",
            "-o NumberOfPasswordPrompts=1",
            "-o BatchMode=yes",
            "-o LogLevel=ERROR",
            "-o HashKnownHosts=yes",
            "-o UpdateHostKeys=no",
            "-o CheckHostIP=no",
        ],
    );
    lab.expect_nothing_left();
}

#[test]
fn each_list_of_algorithms_has_a_connection_that_is_held_with_fakessh() {
    let lab = Lab::start();
    let other = ["-o", "Ciphers=aes256-ctr", "remote", "true"];
    for _ in 0..3 {
        lab.plain_ssh(Client::Fakessh, &["remote", "true"]).run().expect_status(0);
        lab.plain_ssh(Client::Fakessh, &other).run().expect_status(0);
    }
    assert_eq!(lab.logins(), 2);
    assert_eq!(lab.held(), ["remote", "remote"]);
    lab.expect_nothing_left();
}

#[test]
fn a_jump_that_is_stricter_has_a_connection_of_its_own_with_fakessh() {
    let lab = Lab::start();
    lab.host_through("jump", lab.port(), &[]);
    lab.host_through("strict", lab.port(), &["PubkeyAuthentication no"]);
    lab.host_through("lax", lab.port(), &["StrictHostKeyChecking no"]);
    lab.host_through("behind", lab.port(), &["ProxyJump jump"]);
    let go = |jump: &str| {
        let option = format!("-oProxyJump={jump}");
        lab.plain_ssh(Client::Fakessh, &[&option, "behind", "true"]).run()
    };
    go("jump").expect_status(0);
    let logins = lab.logins();
    go("strict").expect_fault(255, &["refused the login"]);
    go("lax").expect_status(0);
    assert_eq!(lab.logins(), logins, "two names of one jump host are one connection");
    lab.expect_nothing_left();
}

#[test]
fn each_command_is_told_what_its_sessions_go_without_with_fakessh() {
    let lab = Lab::start();
    lab.host_through("wishing", lab.port(), &["ForwardX11 yes"]);
    lab.plain_ssh(Client::Fakessh, &["remote", "true"]).run().expect_status(0).expect_err("");
    let expected = "fakessh: ssh_config asks for ForwardX11 for wishing, which is not supported yet: \
                    sessions go without\n";
    for option in ["-oBatchMode=no", "-oBatchMode=yes"] {
        let done = lab.plain_ssh(Client::Fakessh, &[option, "wishing", "true"]).run();
        done.expect_status(0).expect_err(expected);
    }
    lab.plain_ssh(Client::Fakessh, &["-q", "wishing", "true"])
        .run()
        .expect_status(0)
        .expect_err("");
    // Each command of a run that names hosts itself, and a run with a DEST once.
    let twice = ["sh", "-c", "ssh wishing true; ssh wishing true"];
    lab.run([""; 0], twice).run().expect_status(0).expect_err(&expected.repeat(2));
    lab.run(["wishing"], twice).run().expect_status(0).expect_err(expected);
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}
