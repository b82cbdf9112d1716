//! `-v` says what a person needs to find a fault, and `-q` says nothing.

use std::fs;

use fakessh_lab::account::PASSWORD;
use fakessh_lab::{Askpass, Client, Lab, both_clients};

/// Holds that these texts are said in this order, each on a line of ours.
#[track_caller]
fn expect_said(text: &str, expected: &[&str]) {
    let mut lines = text.lines();
    for words in expected {
        let found = lines.any(|line| line.contains(words));
        assert!(found, "no {words:?} in its place:\n{text}");
    }
    assert!(text.lines().all(|line| line.starts_with("fakessh: ")), "{text}");
}

#[test]
fn the_way_of_a_new_and_of_a_held_connection_is_told_with_fakessh() {
    let lab = Lab::start();
    let user = &lab.account().name;
    let place = format!("127.0.0.1:{}", lab.port());
    let configured = format!("remote is 127.0.0.1, port {}, as {user}", lab.port());
    let done = lab.plain_ssh(Client::Fakessh, &["-v", "remote", "exit 3"]).run().expect_status(3);
    expect_said(
        &done.err(),
        &[
            "version ",
            &configured,
            &format!("connecting to {place}"),
            &format!("to {place}"),
            "the host key is believed: ED25519 SHA256:",
            &format!("logging in as {user}; the server allows publickey"),
            "tried key ~/key",
            "logged in by ",
            "using the connection @1 to remote",
            "exit status 3",
        ],
    );
    assert!(!done.err().contains("key exchange"), "{}", done.shown());
    let done = lab.plain_ssh(Client::Fakessh, &["-v", "remote", "true"]).run().expect_status(0);
    let held = ["the connection @1 is held and serves", "using the connection @1", "exit status 0"];
    expect_said(&done.err(), &held);
    assert!(!done.err().contains("connecting"), "{}", done.shown());
    lab.plain_ssh(Client::Fakessh, &["remote", "true"]).run().expect_status(0).expect_err("");
    lab.expect_nothing_left();
}

#[test]
fn each_further_v_says_more_with_fakessh() {
    let lab = Lab::start();
    let said = |words: &[&str]| {
        let words = [words, &["-oSendEnv=LC_A", "remote", "true"]].concat();
        let tool = lab.plain_ssh(Client::Fakessh, &words).env("LC_A", "value");
        let done = tool.run().expect_status(0).err();
        lab.close_all();
        done
    };
    let [once, twice, thrice] = [&["-v"][..], &["-vv"], &["-v", "-vv"]].map(said);
    let second = ["key exchange ", "StrictHostKeyChecking Yes", "starting the command true"];
    let third = ["Ciphers ours"];
    for words in second {
        assert!(!once.contains(words) && twice.contains(words), "{words}: {once}\n{twice}");
    }
    for words in third {
        assert!(!twice.contains(words) && thrice.contains(words), "{words}: {twice}\n{thrice}");
    }
    // Names of variables, and no values.
    assert!(thrice.contains("LC_A") && !thrice.contains("value"), "{thrice}");
    let level = said(&["-oLogLevel=DEBUG2"]);
    assert!(level.contains("key exchange ") && !level.contains("Ciphers ours"), "{level}");
    let file = lab.dir().join("user/log");
    assert_eq!(said(&["-v", "-E", &file.display().to_string()]), "");
    expect_said(&fs::read_to_string(&file).unwrap(), &["connecting to", "exit status 0"]);
}

#[test]
fn a_held_connection_that_does_not_serve_is_named_with_fakessh() {
    let lab = Lab::start();
    lab.plain_ssh(Client::Fakessh, &["remote", "true"]).run().expect_status(0);
    for (option, difference) in [
        ("-oPubkeyAuthentication=no", "methods of authentication"),
        ("-oCiphers=aes256-ctr", "algorithms"),
        ("-oHostKeyAlias=other", "HostKeyAlias"),
        ("-oRequiredRSASize=4096", "demands on keys"),
        ("-oUserKnownHostsFile=/dev/null", "files of known hosts"),
    ] {
        let done = lab.plain_ssh(Client::Fakessh, &["-v", option, "remote", "true"]).run();
        let expected = format!("not for this command: it differs in {difference}");
        assert!(done.err().contains(&expected), "{}", done.shown());
    }
}

#[test]
fn a_login_that_fails_is_told_step_by_step_with_fakessh() {
    let lab = Lab::builder().password().start();
    let askpass = Askpass::new(&lab, "askpass", &["wrong-secret", "wrong-secret", PASSWORD]);
    let words = ["-vvv", "-oNumberOfPasswordPrompts=2", "remote", "true"];
    let done = askpass.for_tool(lab.plain_ssh(Client::Fakessh, &words)).run();
    let done = done.expect_status(255);
    for words in ["the server allows password", "tried password (refused", "refused the login"] {
        assert!(done.err().contains(words), "no {words:?}: {}", done.shown());
    }
    let done = askpass.for_tool(lab.plain_ssh(Client::Fakessh, &words)).run().expect_status(0);
    assert!(done.err().contains("logged in by password"), "{}", done.shown());
    assert!(!done.err().contains(PASSWORD), "{}", done.shown());
}

#[test]
fn what_is_left_to_the_real_ssh_is_said_with_fakessh() {
    let lab = Lab::start();
    let words = ["run", "--", "ssh", "-F", &lab.config_path().display().to_string(), "-v", "-X"];
    let done = lab.fakessh([&words[..], &["remote", "exit 4"]].concat()).run().expect_status(4);
    assert!(done.err().contains("running the real ssh: -X is not supported yet"));
}

both_clients! {
    fn quiet_is_silent_of_failures_and_not_of_mistakes(client) {
        let lab = Lab::start();
        for words in [
            &["-q", "no-such.invalid"][..],
            &["-oLogLevel=QUIET", "no-such.invalid"],
            &["-q", "-p", "1", "remote"],
            &["-q", "-oPubkeyAuthentication=no", "remote"],
            &["-q", "-oHostKeyAlias=unknown", "remote"],
            &["-q", "-oProxyCommand=false", "remote"],
        ] {
            let done = lab.plain_ssh(client, &[words, &["true"]].concat()).run();
            done.expect_status(255).expect_out("").expect_err("");
        }
        let done = lab.plain_ssh(client, &["-q", "-oNonsense=1", "remote", "true"]).run();
        assert!(done.expect_status(255).err().contains("Bad configuration option"));
        // What the program says is the program's.
        let done = lab.plain_ssh(client, &["-q", "remote", "echo out; echo err >&2; exit 5"]).run();
        done.expect_status(5).expect_out("out\n").expect_err("err\n");
    }
}
