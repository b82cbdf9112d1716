use fakessh_protocol::invocation::{Invocation, Request};
use proptest::prelude::*;

use fakessh_protocol::terminal::RequestTty;

use super::*;

mod forwards;
mod tools;

fn try_parse(words: &[&str]) -> Result<Parsed, UsageError> {
    let args = ["ssh"].iter().chain(words).map(OsString::from).collect();
    parse(args, Surroundings::default())
}

/// Parses words, the first of them separated by white space for short.
fn parsed(words: &str, more: &[&str]) -> CommandLine {
    let words: Vec<&str> = words.split_whitespace().chain(more.iter().copied()).collect();
    match try_parse(&words) {
        Ok(Parsed::Session(command_line)) => *command_line,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn invocation(words: &str) -> Invocation {
    parsed(words, &[]).invocation
}

fn refused(words: &[&str]) -> String {
    match try_parse(words) {
        Err(error) => error.to_string(),
        other => panic!("{words:?}: {other:?}"),
    }
}

fn command(text: &str) -> Request {
    Request::Command(text.as_bytes().to_vec())
}

fn texts(words: &[Vec<u8>]) -> Vec<&str> {
    words.iter().map(|word| std::str::from_utf8(word).unwrap()).collect()
}

#[test]
fn destinations() {
    let table: &[(&str, Option<&str>, &str, Option<u16>)] = &[
        ("h true", None, "h", None),
        ("u@h true", Some("u"), "h", None),
        ("a@b@h true", Some("a@b"), "h", None),
        ("-l u h true", Some("u"), "h", None),
        ("-lu h true", Some("u"), "h", None),
        ("-l u v@h true", Some("u"), "h", None),
        ("v@h -l u true", Some("v"), "h", None),
        ("-o User=x -l y h true", Some("x"), "h", None),
        ("-l y -oUser=x h true", Some("y"), "h", None),
        ("-p 22 h true", None, "h", Some(22)),
        ("-p22 -p23 h true", None, "h", Some(22)),
        ("-oPort=5 -p 6 h true", None, "h", Some(5)),
        // Of the second one ssh looks at nothing.
        ("-l u -l -x -p 5 -p x -oUser=a;b a;b@h true", Some("u"), "h", Some(5)),
        ("ssh://h true", None, "h", None),
        ("ssh://h/ true", None, "h", None),
        ("ssh://u@h:2222 true", Some("u"), "h", Some(2222)),
        ("-p 1 -l v ssh://u@h:2222 true", Some("v"), "h", Some(1)),
        ("ssh://u%40d;x=y@h true", Some("u@d"), "h", None),
        ("ssh://[::1]:24 true", None, "::1", Some(24)),
        ("::1 true", None, "::1", None),
        ("fe80::1%eth0 true", None, "fe80::1%eth0", None),
    ];
    for (words, user, host, port) in table {
        let destination = invocation(words).destination;
        assert_eq!(destination.user.as_deref(), *user, "{words}");
        assert_eq!((destination.host.as_str(), destination.port), (*host, *port), "{words}");
    }
}

#[test]
fn options_end_at_the_first_word_of_the_command() {
    let table: &[(&str, &str)] = &[
        ("h ls -l", "ls -l"),
        ("h -T ls -l", "ls -l"),
        ("h -p 22 -- -x", "-x"),
        ("-T h -- ls", "ls"),
        ("-- h -T ls", "-T ls"),
        ("-T -- h ls", "ls"),
        ("h a -- b", "a -- b"),
        ("-Tp22 h a", "a"),
        ("-vvvx h a", "a"),
        ("h -l u - a", "- a"),
        ("h -q -q a -q", "a -q"),
    ];
    for (words, expected) in table {
        assert_eq!(invocation(words).request, command(expected), "{words}");
    }
}

#[test]
fn the_words_of_a_command_are_joined_unquoted() {
    assert_eq!(
        parsed("h", &["echo", "a  b", "", "$x"]).invocation.request,
        command("echo a  b  $x")
    );
    assert_eq!(parsed("h", &["", ""]).invocation.request, command(" "));
}

#[test]
fn bytes_that_are_no_text_pass_in_commands() {
    let word = OsString::from_vec(vec![b'x', 0xff, 0xfe]);
    let args = vec!["ssh".into(), "h".into(), word];
    let Ok(Parsed::Session(command_line)) = parse(args, Surroundings::default()) else { panic!() };
    assert_eq!(command_line.invocation.request, Request::Command(vec![b'x', 0xff, 0xfe]));
}

#[test]
fn requests() {
    assert_eq!(invocation("h").request, Request::Login);
    assert_eq!(parsed("h", &[""]).invocation.request, Request::Login);
    assert_eq!(invocation("-N h").request, Request::Nothing);
    assert_eq!(invocation("-N h ignored").request, Request::Nothing);
    assert_eq!(invocation("-o SessionType=none h").request, Request::Nothing);
    assert_eq!(invocation("-s h sftp").request, Request::Subsystem("sftp".into()));
    assert_eq!(invocation("h -s sftp").request, Request::Subsystem("sftp".into()));
    assert_eq!(
        invocation("-oSessionType=subsystem h sftp").request,
        Request::Subsystem("sftp".into())
    );
    assert_eq!(invocation("-oSessionType=default h x").request, command("x"));
    let remote = parsed("h", &["-o", "RemoteCommand=ls  -l %n '%%'"]).invocation;
    assert_eq!(remote.request, command("ls  -l h '%'"));
    assert_eq!(invocation("-oRemoteCommand=none h x").request, command("x"));
    assert_eq!(invocation("-oRemoteCommand=none h").request, Request::Login);
}

#[test]
fn control_commands_are_for_the_real_ssh() {
    for words in [&["-S", "/x", "-O", "exit", "h"][..], &["h", "-Oforward", "-L", "1:a:2"]] {
        assert!(matches!(try_parse(words), Ok(Parsed::RealSsh(_))), "{words:?}");
    }
}

#[test]
fn who_insists_is_a_master_for_others() {
    let is_master = |words: &str| parsed(words, &[]).local.is_master;
    assert!(is_master("-M -S /x -N h") && is_master("-oControlMaster=yes h x"));
    assert!(!is_master("-oControlMaster=auto h x"));
    assert!(!is_master("-S /x h x") && !is_master("-oControlMaster=no -oControlMaster=yes h"));
}

#[test]
fn what_cannot_be_honoured_yet_is_named() {
    let table: &[(&str, Option<&str>)] = &[
        ("h", None),
        ("-A h x", None),
        ("-tt h", None),
        ("-L 1:a:2 -R 1:a:2 -D 1 -g -N h", None),
        ("-W a:1 h", None),
        ("-X h x", Some("-X")),
        ("-X -x h x", None),
        ("-Y h x", Some("-Y")),
        ("-oForwardX11=yes h x", Some("-o forwardx11")),
        ("-oForwardX11Trusted=yes h x", None),
        ("-K h x", Some("-K")),
        ("-k h x", None),
        ("-w 0:0 h x", Some("-w")),
        ("-oTunnel=no h x", None),
        ("-oTunnel=ethernet h x", Some("-o tunnel")),
        ("-Z h x", Some("-Z")),
        ("-oRemoteCommand=%h h", Some("%h in RemoteCommand")),
        ("-oGSSAPIDelegateCredentials=yes h x", Some("-o gssapidelegatecredentials")),
        ("-oPermitLocalCommand=yes -oLocalCommand=%T h x", Some("%T in LocalCommand")),
        ("-oLocalCommand=%T h x", None),
        ("-gkMy2 -S x h x", None),
    ];
    for (words, expected) in table {
        assert_eq!(invocation(words).unserved.as_deref(), *expected, "{words}");
    }
}

#[test]
fn what_is_said_of_a_terminal() {
    use RequestTty::{Auto, Force, No, Yes};
    for (words, expected) in [
        ("h", None),
        ("-t h x", Some(Yes)),
        ("-tt h x", Some(Force)),
        ("-t -t h x", Some(Force)),
        ("-T h", Some(No)),
        ("-tt -T h x", Some(No)),
        ("-T -tt h x", Some(Force)),
        ("-oRequestTTY=yes h x", Some(Yes)),
        ("-oRequestTTY=no -oRequestTTY=force h x", Some(No)),
        ("-oRequestTTY=auto h x", Some(Auto)),
        ("-N h", Some(No)),
    ] {
        assert_eq!(invocation(words).request_tty, expected, "{words}");
    }
    for (words, expected) in [
        ("h", None),
        ("-e none h", Some(None)),
        ("-e ^A h", Some(Some(1))),
        ("-e^[ h", Some(Some(27))),
        ("-oEscapeChar=% -oEscapeChar=none h", Some(Some(b'%'))),
    ] {
        assert_eq!(parsed(words, &[]).local.escape, expected, "{words}");
    }
}

#[test]
fn the_way_to_the_host_is_kept_in_order_for_ssh() {
    let invocation = parsed(
        "-F f -i k1 -4 -J a,b -o hostname=x -C -c aes -m hm -b 1.2.3.4 -B eth0 -P t -I p11 -ik2",
        &["-o", " ConnectTimeout = 1m30s ", "-oProxyCommand nc \"%h\" %p", "-b", "a b", "h", "x"],
    )
    .invocation;
    let expected = "-F f -i k1 -o AddressFamily=inet -J a,b -o hostname=x -o Compression=yes \
                    -o Ciphers=aes -o MACs=hm -o BindAddress=1.2.3.4 -o BindInterface=eth0 \
                    -o Tag=t -o PKCS11Provider=p11 -i k2";
    let mut expected: Vec<&str> = expected.split_whitespace().collect();
    expected.extend(["-o", "ConnectTimeout=1m30s", "-o", "ProxyCommand=nc \"%h\" %p"]);
    expected.extend(["-o", "BindAddress=\"a b\""]);
    assert_eq!(texts(&invocation.connection), expected);
}

#[test]
fn what_does_not_concern_the_way_is_not_among_it() {
    let words = "-M -S /x -oControlMaster=auto -oControlPath=/x -oControlPersist=60s -n -q -T -a \
                 -x -k -g -y -2 -oRequestTTY=no -oProtocol=2 -oUser=u -oPort=3 -oBatchMode=yes \
                 -oSendEnv=X -e none -oLogLevel=error h x";
    assert!(invocation(words).connection.is_empty());
    assert!(invocation(words).batch);
}

#[test]
fn variables() {
    let line = parsed(
        "",
        &[
            "-oSendEnv=GIT_PROTOCOL LC_*",
            "-o",
            "sendenv -LC_ALL",
            "-oSetEnv=A=1 \"B=x y\" A=2 C=d=e",
            "-oSetEnv=D=late",
            "h",
            "x",
        ],
    );
    assert_eq!(line.invocation.send_env, ["GIT_PROTOCOL", "LC_*", "-LC_ALL"]);
    let set: Vec<_> = line.invocation.set_env.iter().map(|(n, v)| texts_of(n, v)).collect();
    // As ssh: SendEnv adds up, of SetEnv the first line counts.
    assert_eq!(set, ["A=1", "B=x y", "C=d=e"]);
    assert!(refused(&["-oSendEnv=A=b", "h"]).contains("Invalid environment name"));
    assert!(refused(&["-oSetEnv=A", "h"]).contains("Invalid SetEnv"));
}

fn texts_of(name: &[u8], value: &[u8]) -> String {
    format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
}

#[test]
fn what_the_shim_acts_upon() {
    let local = |words: &str| parsed(words, &[]).local;
    assert_eq!(local("-E log h x").log_file, Some("log".into()));
    assert_eq!(local("-Elog h x").log_file, Some("log".into()));
    assert_eq!(local("h x").level, Level::Info);
    assert_eq!(local("-q h x").level, Level::Quiet);
    assert_eq!(local("-v h x").level, Level::Debug);
    assert_eq!(local("-v -q h x").level, Level::Quiet);
    assert_eq!(local("-q -v h x").level, Level::Debug);
    assert_eq!(local("-oLogLevel=ERROR -oLogLevel=debug h x").level, Level::Error);
    assert_eq!(local("-q -oLogLevel=debug h x").level, Level::Quiet);
    assert!(local("-n h x").null_stdin && !local("-n h x").background);
    assert!(local("-f h x").null_stdin && local("-f h x").background);
    assert!(local("-oForkAfterAuthentication=yes h x").null_stdin);
    assert!(local("-oStdinNull=yes h x").null_stdin);
    assert!(invocation("-f h x").announce && !invocation("h x").announce);
    assert_eq!(invocation("-vvvvv h x").verbosity, 3);

    let line = parsed("-oPermitLocalCommand=yes", &["-oLocalCommand=echo \"%n\" %%", "h", "x"]);
    assert_eq!(line.local.local_command, Some("echo \"h\" %".into()));
    assert!(line.invocation.announce);
    assert_eq!(parsed("-oLocalCommand=id h x", &[]).local.local_command, None);
    let first_counts = "-oPermitLocalCommand=no -oPermitLocalCommand=yes -oLocalCommand=id h x";
    assert_eq!(parsed(first_counts, &[]).local.local_command, None);
}

#[test]
fn the_surroundings_go_along_whole() {
    let surroundings = Surroundings {
        environment: vec![(b"A".to_vec(), b"\xff".to_vec())],
        directory: b"/some/where".to_vec(),
    };
    let args = ["ssh", "h", "x"].map(OsString::from).to_vec();
    let Ok(Parsed::Session(line)) = parse(args.clone(), surroundings.clone()) else { panic!() };
    assert_eq!(line.invocation.environment, surroundings.environment);
    assert_eq!(line.invocation.directory, surroundings.directory);
    assert_eq!(line.argv.words(), args);
}

#[test]
fn a_question_about_the_configuration_is_nothing_else() {
    for words in [
        "-G bob@h",
        "bob@h -G",
        "-fG bob@h",
        "-Gs bob@h",
        "-tG bob@h",
        "-G -oRemoteCommand=x bob@h y",
        "-G -oPermitLocalCommand=yes -oLocalCommand=%K bob@h x",
    ] {
        let line = parsed(words, &[]);
        let Invocation { destination, request, unserved, announce, .. } = line.invocation;
        assert_eq!(destination.user.as_deref(), Some("bob"), "{words}");
        assert_eq!((request, unserved), (Request::Configuration, None), "{words}");
        assert!(!announce && !line.local.background, "{words}");
    }
}

#[test]
fn options_of_a_run_stand_behind_those_of_the_command_line() {
    for (words, expected) in [
        ("-v h", "-v h -lrun --"),
        ("-v u@h -p2 id -un", "-v u@h -p2 -lrun -- id -un"),
        ("-v h -p2 -- -x --", "-v h -p2 -lrun -- -x --"),
        ("-v -- h -p2 x", "-v h -lrun -- -p2 x"),
        ("-v -- h -- x", "-v h -lrun -- -- x"),
        ("-v -- h", "-v h -lrun --"),
        ("ssh://u@h:7 x", "ssh://u@h:7 -lrun -- x"),
    ] {
        let argv = parsed(words, &[]).argv;
        let with = argv.with_options(vec!["-lrun".into()]);
        assert_eq!(with[1..].join(" ".as_ref()), expected, "{words}");
        assert_eq!(argv.with_options(Vec::new()), argv.words());
        // They are read as what they are, and nothing else changes its meaning.
        let Ok(Parsed::Session(again)) = parse(with, Surroundings::default()) else { panic!() };
        let before = parsed(words, &[]).invocation;
        assert_eq!(again.invocation.request, before.request, "{words}");
        assert_eq!(again.invocation.destination.port, before.destination.port, "{words}");
        let user = before.destination.user.as_deref().unwrap_or("run");
        assert_eq!(again.invocation.destination.user.as_deref(), Some(user), "{words}");
    }
}

#[test]
fn the_real_ssh_answers_for_itself() {
    for words in ["", "-V", "-vV", "-GV h", "-G", "-Q cipher", "-Qkex", "-p 22", "-v", "--"] {
        let words: Vec<&str> = words.split_whitespace().collect();
        let Ok(Parsed::RealSsh(argv)) = try_parse(&words) else { panic!("{words:?}") };
        assert_eq!(argv[1..], words[..]);
    }
    assert!(matches!(parse(vec![], Surroundings::default()), Ok(Parsed::RealSsh(_))));
    assert_eq!(invocation("h git -G").request, command("git -G"));
}

#[test]
fn what_ssh_refuses_is_refused() {
    let table: &[(&[&str], &str)] = &[
        (&["-1", "h"], "v.1 is no longer supported"),
        (&["-z", "h"], "unknown option -- z"),
        (&["-\u{e9}", "h"], "unknown option -- "),
        (&["h", "-z"], "unknown option -- z"),
        (&["--help"], "unknown option -- -"),
        (&["-p"], "requires an argument -- p"),
        (&["-p", "0", "h"], "Bad port '0'"),
        (&["-p", "65536", "h"], "Bad port"),
        (&["-p", "+1", "h"], "Bad port"),
        (&["-oPort=x", "h"], "Bad port 'x'"),
        (&["@h", "x"], "no user name"),
        (&["-l", "-x", "h"], "username contains"),
        (&["-l", "a b;c", "h"], "username contains"),
        (&["-l", "a -b", "h"], "username contains"),
        (&["-l", "a\\", "h"], "username contains"),
        (&["a;b"], "hostname contains"),
        (&["--", "-oProxyCommand=x"], "hostname contains"),
        (&["u@-h"], "hostname contains"),
        (&["-"], "hostname contains"),
        (&["a b"], "hostname contains"),
        (&["$(x)"], "hostname contains"),
        (&[""], "host name is empty"),
        (&["ssh://u@h/path"], "bad destination"),
        (&["ssh://h:22/path"], "Bad port"),
        (&["ssh://"], "bad destination"),
        (&["ssh://@h"], "bad destination"),
        (&["ssh://u%zz@h"], "bad destination"),
        (&["ssh://h:0"], "Bad port"),
        (&["ssh://[::1"], "bad destination"),
        (&["-N", "-s", "h", "x"], "Cannot specify -s with -N"),
        (&["-s", "-N", "h", "x"], "Cannot specify -N with -s"),
        (&["-oSessionType=none", "-s", "h", "x"], "Cannot specify -s"),
        (&["-s", "h"], "must specify a subsystem"),
        (&["-f", "h"], "Cannot fork into background"),
        (&["-J", "a", "-J", "b", "h"], "Only a single -J"),
        (&["-e", "abc", "h"], "Bad escape character"),
        (&["-e", "^\x01", "h"], "Bad escape character"),
        (&["-y", "-E", "x", "h", "y"], "both -y and -E"),
        (&["-L", "80", "h"], "Bad local forwarding specification '80'"),
        (&["-R", "a:b:c:d:e", "h"], "Bad remote forwarding specification"),
        (&["-D", "0", "h"], "Bad dynamic forwarding specification '0'"),
        (&["-W", "80", "h"], "Bad stdio forwarding specification '80'"),
        (&["-oLocalForward=80", "h"], "localforward: Missing target argument."),
        (&["-oLocalForward=80 a", "h"], "localforward: Bad forwarding specification."),
        (&["-oStreamLocalBindMask=9", "h"], "streamlocalbindmask: Bad mask."),
        (&["-W", "a:1", "-W", "b:1", "h"], "already specified"),
        (&["-oRemoteCommand=a", "h", "b"], "Cannot execute command-line and remote"),
        (&["-oRemoteCommand=%y", "h"], "unknown key %y"),
        (&["-o", "Foo=1", "h"], "Bad configuration option: foo"),
        (&["-o", "BatchMode", "h"], "no argument after keyword \"batchmode\""),
        (&["-o", "BatchMode=maybe", "h"], "unsupported option \"maybe\""),
        (&["-o", "User=a b", "h"], "extra arguments"),
        (&["-o", "User=\"a", "h"], "invalid quotes"),
        (&["-o", "User=\"\"", "h"], "missing argument"),
        (&["-o", "Host=x", "h"], "not supported as a command-line option"),
        (&["-o", "Match=all", "h"], "not supported as a command-line option"),
        (&["-o", "ConnectTimeout=soon", "h"], "invalid time"),
        (&["-o", "ConnectTimeout=1m2y", "h"], "invalid time"),
        (&["-o", "LogLevel=loud", "h"], "unsupported log level"),
        (&["-o", "RequestTTY=perhaps", "h"], "unsupported option"),
        (&["-o", "SessionType=x", "h"], "unsupported option"),
        (&["-o", "EscapeChar=abc", "h"], "Bad escape character"),
    ];
    for (words, expected) in table {
        let message = refused(words);
        assert!(message.contains(expected), "{words:?}: {message}");
        assert!(!message.contains('\n'));
    }
}

#[test]
fn the_value_of_o_is_read_as_a_configuration_line() {
    for form in
        ["Port=24", "port=24", "PORT 24", " Port=24", "Port = 24", "Port\t24 ", "Port \"24\""]
    {
        assert_eq!(
            parsed("", &["-o", form, "h", "x"]).invocation.destination.port,
            Some(24),
            "{form}"
        );
        let glued = format!("-o{form}");
        assert_eq!(parsed("", &[&glued, "h", "x"]).invocation.destination.port, Some(24), "{form}");
    }
    // Empty lines and comments say nothing.
    assert_eq!(
        parsed("", &["-o", "", "-o", "# Port 3", "h", "x"]).invocation.destination.port,
        None
    );
    let ignored = parsed("", &["-oIgnoreUnknown=Use*,x", "-oUseKeychain=yes", "h", "x"]).invocation;
    assert_eq!(texts(&ignored.connection), ["-o", "ignoreunknown=Use*,x"]);
    let list = parsed("-oHostKeyAlgorithms=+ssh-rsa -oKexAlgorithms=^a,b h x", &[]).invocation;
    assert_eq!(list.connection[1], b"HostKeyAlgorithms=+ssh-rsa");
    assert_eq!(list.connection[3], b"KexAlgorithms=^a,b");
}

proptest! {
    #[test]
    fn no_command_line_panics(words in proptest::collection::vec(any::<Vec<u8>>(), 0..6)) {
        let args = words.into_iter().map(OsString::from_vec).collect();
        let _ = parse(args, Surroundings::default());
    }

    #[test]
    fn no_likely_command_line_panics(
        words in proptest::collection::vec("-?[a-zA-Z0-9%=@:/\"'\\\\ #*!\\[\\]^+;-]{0,12}", 0..6),
        keyword in "-o *(RemoteCommand|LocalCommand|IgnoreUnknown|SetEnv|Port|User)[ =\"]{0,3}",
        value in "[a-z0-9%\"'\\\\ =#]{0,8}",
    ) {
        let option = format!("{keyword}{value}");
        let args = ["ssh", "-oPermitLocalCommand=yes", &option].map(OsString::from);
        let args = args.into_iter().chain(words.into_iter().map(OsString::from)).collect();
        if let Err(error) = parse(args, Surroundings::default()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn the_command_survives_any_bytes(word in proptest::collection::vec(1u8.., 1..40)) {
        let args = vec!["ssh".into(), "--".into(), "h".into(), OsString::from_vec(word.clone())];
        match parse(args, Surroundings::default()) {
            Ok(Parsed::Session(line)) => {
                prop_assert_eq!(line.invocation.request, Request::Command(word));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
