//! Input that is wrong, too long or hostile: one clear line, the right status, and no hang.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use fakessh_lab::{Client, Finished, Lab, Tool, binary, both_clients};

/// `ssh` of this client with these words: the real one, or a link to ours.
fn ssh<W: AsRef<OsStr>>(lab: &Lab, client: Client, words: &[W]) -> Tool {
    let mut all: Vec<OsString> = match client {
        Client::Ssh => vec!["ssh".into()],
        Client::Fakessh => {
            let link = lab.local_dir("links").join("ssh");
            if !link.exists() {
                symlink(binary::fakessh(), &link).unwrap();
            }
            vec![link.into()]
        }
    };
    all.extend(["-F".into(), lab.config_path().into()]);
    all.extend(words.iter().map(|word| word.as_ref().to_owned()));
    lab.program(all)
}

/// Holds that a use is refused with status 255 and these words. Ours are one line.
#[track_caller]
fn expect_refused(client: Client, done: &Finished, word: &str) {
    assert_eq!((done.code(), done.out().as_str()), (255, ""), "{}", done.shown());
    assert!(!done.err().is_empty() && done.err().contains(word), "no {word:?}: {}", done.shown());
    if client == Client::Fakessh {
        assert_eq!(done.err().lines().count(), 1, "{}", done.shown());
    }
    assert!(done.err().len() < 4000, "{} bytes", done.err().len());
    let hidden = |character: char| character.is_control() && !"\r\n".contains(character);
    assert!(!done.err().contains(hidden), "{:?}", done.err());
}

both_clients! {
    fn options_that_are_wrong_are_named_on_one_line(client) {
        let lab = Lab::start();
        for (option, word) in [
            ("Foo=bar", "Bad configuration option: foo"),
            ("Foo\nbar=1", "Bad configuration option: foo"),
            ("Port", "no argument after keyword \"port\""),
            ("Port=99999", "Bad port '99999'"),
            ("Port=22x", "Bad port '22x'"),
            ("Port=-1", "Bad port '-1'"),
            ("ConnectTimeout=1y", "invalid time value"),
            ("ServerAliveInterval=-1", "invalid time value"),
            ("BatchMode=maybe", "unsupported option \"maybe\""),
            ("BatchMode=yes no", "extra arguments at end of line"),
            ("StrictHostKeyChecking=maybe", "unsupported option \"maybe\""),
            ("AddressFamily=inet7", "unsupported option \"inet7\""),
            ("Ciphers=nope", "cipher spec 'nope'"),
            ("MACs=nope", "nope"),
            ("KexAlgorithms=nope", "nope"),
            ("HostKeyAlgorithms=nope", "nope"),
            ("NumberOfPasswordPrompts=x", "integer value invalid"),
            ("SetEnv=A", "Invalid SetEnv"),
            ("SendEnv=A=B", "Invalid environment name"),
            ("IdentityFile=\"unclosed", "invalid quotes"),
            ("User=a;b", "remote username contains invalid characters"),
            ("Host=other", "directive not supported as a command-line option"),
        ] {
            let done = ssh(&lab, client, &["-o", option, "remote", "true"]).run();
            expect_refused(client, &done, word);
        }
        for option in ["", " ", "#comment"] {
            ssh(&lab, client, &["-o", option, "remote", "true"]).run().expect_status(0);
        }
        assert_eq!(lab.held().len(), if client == Client::Fakessh { 1 } else { 0 });
    }

    fn letters_that_are_wrong_are_refused(client) {
        let lab = Lab::start();
        for words in [&["-Z%"][..], &["-p"], &["-p", "0"], &["-e", "toolong"], &["-O", "nothing"]] {
            let words = [words, &["remote", "true"]].concat();
            // A letter that lacks its value takes the host for it.
            let done = ssh(&lab, client, &words).run().expect_status(255).expect_out("");
            assert!(!done.err().is_empty());
        }
    }

    fn host_names_that_are_none_run_nothing(client) {
        let lab = Lab::start();
        let canary = lab.dir().join("user/canary");
        let touch = format!("touch {}", canary.display());
        for host in [
            "-oProxyCommand=true", "-x", "-", "a;b", "a b", "a\nb", "$(id)", "`id`", "a|b", "a&b",
            "a'b", "a\"b", "a\\b", "user@-x", "(a)", "{a}", "<a>", &format!("a;{touch}"),
        ] {
            let done = ssh(&lab, client, &["--", host, "true"]).run();
            expect_refused(client, &done, "hostname contains invalid characters");
        }
        for user in ["-x", "a;b", "a`id`", "a|b", "a'b", "a\"b", "a&b", "a$(id)"] {
            let done = ssh(&lab, client, &["-l", user, "remote", "true"]).run();
            expect_refused(client, &done, "remote username contains invalid characters");
        }
        for jump in ["-x", "a;b"] {
            let done = ssh(&lab, client, &["-J", jump, "remote", "true"]).run();
            done.expect_status(255).expect_out("");
        }
        for host in ["", "user@"] {
            let done = ssh(&lab, client, &[host, "true"]).run();
            expect_refused(client, &done, "");
        }
        assert!(!canary.exists());
    }

    fn what_is_no_text_is_refused_or_not_found(client) {
        let lab = Lab::start();
        let bytes = |text: &'static [u8]| OsStr::from_bytes(text);
        for words in [
            &[bytes(b"no-such-\xff\xfe.invalid"), bytes(b"true")][..],
            &[bytes(b"-o"), bytes(b"HostName=no-such-\xff.invalid"), bytes(b"remote"), bytes(b"true")],
            &[bytes(b"-o"), bytes(b"\xff\xfe=1"), bytes(b"remote"), bytes(b"true")],
        ] {
            expect_refused(client, &ssh(&lab, client, words).run(), "");
        }
        // The command is bytes.
        let done = ssh(&lab, client, &[bytes(b"remote"), bytes(b"printf '%s' '\xff\x80' | od -An -tx1")]);
        done.run().expect_status(0).expect_out(" ff 80\n");
    }

    fn two_thousand_options_are_read_in_a_moment(client) {
        let lab = Lab::start();
        for option in ["SendEnv=X", "ServerAliveInterval=", "SetEnv=X", "UserKnownHostsFile=/no/"] {
            let mut words = Vec::new();
            for number in 1..=2000 {
                let end = if option.starts_with("SetEnv") { "=y" } else { "" };
                words.extend(["-o".to_owned(), format!("{option}{number}{end}")]);
            }
            let mut first = Vec::new();
            if option.starts_with("User") {
                first.push(format!("-oUserKnownHostsFile={}", lab.known_hosts().display()));
            }
            words = [first, words, vec!["remote".to_owned(), "echo ok".to_owned()]].concat();
            let done = ssh(&lab, client, &words).run().expect_status(0);
            done.expect_out("ok\n").expect_err("");
        }
        // Two thousand and one that is wrong.
        let mut words: Vec<String> =
            (1..=2000).flat_map(|number| ["-o".to_owned(), format!("SendEnv=X{number}")]).collect();
        words.extend(["-oNonsense=1", "remote", "true"].map(str::to_owned));
        expect_refused(client, &ssh(&lab, client, &words).run(), "Bad configuration option: nonsense");
    }

    fn long_words_are_taken_or_refused_on_one_line(client) {
        let lab = Lab::start();
        let long = "a".repeat(100_000);
        for words in [&[&*long, "true"][..], &[&format!("user@{long}"), "true"]] {
            expect_refused(client, &ssh(&lab, client, words).run(), "");
        }
        let done = ssh(&lab, client, &["-o", &format!("{long}=1"), "remote", "true"]).run();
        expect_refused(client, &done, "Bad configuration option");
        let command = format!("echo {long} | wc -c");
        ssh(&lab, client, &["remote", &command]).run().expect_status(0).expect_out("100001\n");
    }

    fn values_of_the_environment_arrive_as_they_are(client) {
        let lab = Lab::start();
        let look = "env -0 | grep -az '^LC_' | sort -z | od -An -tx1 | tr -d ' \\n'";
        let values: [(&str, &[u8]); 5] = [
            ("LC_A", b"two\nlines"),
            ("LC_B", b"\xff\x80 no text"),
            ("LC_C", b""),
            ("LC_D", b"a=b 'c' \"d\" $HOME `id` \\"),
            ("LC_E", b"\t\r\x1b[31m"),
        ];
        let mut tool = ssh(&lab, client, &["-o", "SendEnv=LC_*", "remote", look]);
        let mut expected = String::new();
        for (name, value) in values {
            tool = tool.env(name, OsStr::from_bytes(value));
            for byte in [name.as_bytes(), b"=", value, b"\0"].concat() {
                expected.push_str(&format!("{byte:02x}"));
            }
        }
        let done = tool.env("NOT_SENT", OsStr::from_bytes(b"\xff\n")).run();
        done.expect_status(0).expect_out(&expected).expect_err("");
    }
}
