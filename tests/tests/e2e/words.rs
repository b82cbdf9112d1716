//! Words of hosts and helpers on every way to a person: none moves a cursor, none passes for ours,
//! and none goes on without end.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fakessh_lab::files::write_script;
use fakessh_lab::{Askpass, Lab, LabBuilder, Terminal};
use fakessh_protocol::printable;

/// Where programs of these tests lie on the target, before those of the system.
const PATH: &str = "$LAB/hostile:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Most bytes on standard error that a host may cause: what is told of it, and the reason at the
/// end. One that goes on without end has sent far more.
const MOST_SHOWN: usize = 64 * 1024;

/// Every character that no terminal may get, what writes to a clipboard, a lone byte of C1, and a
/// line that claims to be ours.
fn hostile_words() -> Vec<u8> {
    // No NUL: what ends a string in C ends a banner.
    let hidden = ('\x01'..=char::MAX).filter(|&character| !printable::is_shown(character));
    let hidden: String = hidden.flat_map(|character| ['x', character]).collect();
    let mut words = hidden.into_bytes();
    words.extend_from_slice(
        b"\r\nfakessh: forged\n\rfakessh: forged \x1b]52;c;aGk=\x07\x9b31m\xff\n",
    );
    words
}

/// A lab whose target has a program of this name, which does this in Python. `words` are the
/// hostile ones there, and `answers` a file that it may write to.
fn with_program(builder: LabBuilder, name: &str, body: &str) -> Lab {
    let lab = builder.environment("PATH", PATH).start();
    let dir = lab.dir().join("hostile");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("words"), hostile_words()).unwrap();
    let answers = answers(&lab);
    fs::write(&answers, "").unwrap();
    lab.account().give(&answers);
    let script = format!(
        "#!/usr/bin/python3\nimport os, sys\nwords = open({:?}, 'rb').read()\n\
         answers = open({answers:?}, 'ab', buffering=0)\n{body}",
        dir.join("words"),
    );
    write_script(&dir.join(name), &script);
    lab
}

fn answers(lab: &Lab) -> std::path::PathBuf {
    lab.remote_dir().join("answers")
}

/// How often the program of a target was answered.
fn answered(lab: &Lab) -> usize {
    fs::read_to_string(answers(lab)).unwrap().lines().count()
}

/// A `su` that asks as fast as it can, and never lets anybody in.
const ENDLESS_SU: &str = "
while True:
    os.write(1, words + b'Password: ')
    line = b''
    while not line.endswith(b'\\n'):
        got = os.read(0, 1000)
        if not got:
            sys.exit(1)
        line += got
    answers.write(line)
";

/// Holds that nothing in this text is harmful, and that no line of it is forged.
#[track_caller]
fn expect_harmless(text: &str) {
    let harmful = |character: &char| *character != '\n' && !printable::is_shown(*character);
    // A terminal adds the carriage return.
    let text = text.replace("\r\n", "\n");
    assert_eq!(text.chars().find(harmful), None, "{text:?}");
    for line in text.lines() {
        let forged = line.trim_start().starts_with("fakessh: forged");
        assert!(!forged, "a line of the host's passes for ours:\n{text}");
    }
    assert!(text.len() < MOST_SHOWN, "{} bytes", text.len());
}

#[test]
fn a_hop_that_asks_without_end_is_answered_three_times() {
    let lab = with_program(Lab::builder(), "su", ENDLESS_SU);
    let config = lab.config_path().display().to_string();
    for words in [
        &["connect", "-F", &config, "remote+su"][..],
        &["run", "-F", &config, "remote+su", "--", "ssh", "remote", "true"],
        &["ssh", "-v", "-F", &config, "remote+su", "true"],
    ] {
        let askpass = Askpass::new(&lab, words[0], &["secret"]);
        fs::write(answers(&lab), "").unwrap();
        let done = askpass.for_tool(lab.fakessh(words)).run().expect_out("").expect_status(255);
        let last = done.err().lines().last().unwrap_or_default().to_owned();
        assert!(
            last.contains("su on remote: ") && last.contains("asks more than 3 times"),
            "{last}"
        );
        if !words.contains(&"-v") {
            let ours = done.err().lines().filter(|line| line.starts_with("fakessh:")).count();
            assert_eq!(ours, 1, "{}", done.shown());
        }
        assert_eq!((answered(&lab), askpass.count()), (3, 3), "{}", done.shown());
        expect_harmless(&done.err());
        expect_harmless(&askpass.asked());
        let asked = askpass.asked();
        assert!(asked.lines().all(|line| line.starts_with("remote+su says: ")), "{asked}");
    }
    let log = fs::read_to_string(lab.fakessh_dir().join("log")).unwrap();
    expect_harmless(&log);
    lab.expect_nothing_left();
}

#[test]
fn what_a_hop_says_reaches_the_terminal_harmless_and_with_its_name() {
    let lab = with_program(Lab::builder(), "su", ENDLESS_SU);
    let config = lab.config_path().display().to_string();
    for words in [
        &["connect", "-F", &config, "remote+su"][..],
        &["ssh", "-v", "-F", &config, "remote+su", "true"],
    ] {
        let terminal = Terminal::new();
        let tool = lab.fakessh(words).stderr(terminal.side_of_programs());
        let running = tool.on_terminal(&terminal).start();
        for number in 1..=3 {
            terminal.wait_for_times("Password:", number);
            terminal.type_line("secret");
        }
        running.finish().expect_status(255).expect_out("");
        let screen = terminal.text();
        expect_harmless(&screen);
        assert!(screen.contains("remote+su says: fakessh: forged"), "{screen}");
        assert!(!screen.contains("secret"), "{screen}");
    }
    lab.expect_nothing_left();
}

#[test]
fn a_password_file_answers_each_hop_once_and_by_its_name() {
    let lab = with_program(Lab::builder(), "su", ENDLESS_SU);
    let config = lab.config_path().display().to_string();
    let dir = lab.local_dir("secret");
    let [right, other] = ["right", "other"].map(|name| {
        let file = dir.join(name);
        fs::write(&file, format!("{name}\n")).unwrap();
        file.display().to_string()
    });
    let (named, not_named) = (format!("remote+su={right}"), format!("remote+su:bob={other}"));
    for (files, expected) in
        [(&[&right][..], "right\n"), (&[&named], "right\n"), (&[&other, &named], "right\n")]
    {
        for command in [&["connect"][..], &["run"], &["ssh"]] {
            fs::write(answers(&lab), "").unwrap();
            let mut words = command.to_vec();
            words.extend(["-F", &config]);
            words.extend(files.iter().flat_map(|file| ["--password-file", file]));
            words.push("remote+su");
            match command {
                ["run"] => words.extend(["--", "ssh", "remote", "true"]),
                ["ssh"] => words.push("true"),
                _ => {}
            }
            let done = lab.fakessh(&words).run().expect_fault(255, &["su", "password"]);
            expect_harmless(&done.err());
            assert_eq!(fs::read_to_string(answers(&lab)).unwrap(), expected, "{words:?}");
        }
    }
    // A file for a hop that the command does not use is a mistake, and none is read.
    fs::write(answers(&lab), "").unwrap();
    for command in ["connect", "run"] {
        let mut words = vec![command, "-F", &config, "--password-file", &not_named, "remote+su"];
        if command == "run" {
            words.extend(["--", "ssh", "remote", "true"]);
        }
        lab.fakessh(&words).run().expect_fault(255, &["remote+su:bob is no hop of remote+su"]);
    }
    assert_eq!(fs::read_to_string(answers(&lab)).unwrap(), "");
    let twice = ["connect", "-F", &config, "--password-file", &named, "--password-file", &named];
    lab.fakessh([&twice[..], &["remote+su"]].concat()).run().expect_fault(255, &["twice"]);
    lab.expect_nothing_left();
}

#[test]
fn a_helper_that_prints_without_end_is_not_shown_without_end() {
    let body = "
for _ in range(2000):
    os.write(2, words * 10)
sys.exit(3)
";
    for (hop, name) in [("su", "su"), ("docker:app", "docker")] {
        let lab = with_program(Lab::builder(), name, body);
        let route = format!("remote+{hop}");
        let done = lab.run([&route], ["ssh", "remote", "true"]).run();
        expect_harmless(&done.err());
        done.expect_fault(255, &[name, "status 3"]);
        lab.expect_nothing_left();
    }
}

#[test]
fn sudos_question_is_ours_and_its_words_are_not() {
    // As sudo(8) asks, with the prompt that it was given.
    let body = "
prompt = sys.argv[sys.argv.index('-p') + 1].encode()
tty = os.open('/dev/tty', os.O_RDWR)
while True:
    os.write(tty, words + prompt)
    got = os.read(tty, 1000)
    if not got:
        sys.exit(1)
    answers.write(got)
";
    let lab = with_program(Lab::builder(), "sudo", body);
    let askpass = Askpass::new(&lab, "ask", &["secret"]);
    let done = askpass.for_tool(lab.run(["remote+sudo"], ["ssh", "remote", "true"])).run();
    expect_harmless(&done.err());
    done.expect_fault(255, &["sudo", "asks more than 3 times"]);
    assert_eq!(askpass.asked(), "remote: sudo asks for a password: \n".repeat(3));
    lab.expect_nothing_left();
}

/// Holds that no row of a terminal of so many columns begins as one of ours does, where a host has
/// chosen what stands there.
#[track_caller]
fn expect_no_row_passes_for_ours(screen: &str, columns: usize) {
    let screen = screen.replace("\r\n", "\n");
    for line in screen.lines() {
        let characters: Vec<char> = line.chars().collect();
        for row in characters.chunks(columns) {
            let row: String = row.iter().collect();
            assert!(!row.starts_with("fakessh: forged"), "{screen}");
        }
    }
}

#[test]
fn a_long_line_does_not_choose_what_stands_at_the_beginning_of_a_row() {
    const COLUMNS: u16 = 60;
    let columns = usize::from(COLUMNS);
    let padded =
        |before: &str| format!("{:>columns$}fakessh: forged", "")[before.len()..].to_owned();
    let (banner, asked) = (padded("remote says: "), padded("remote+su says: "));
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("banner");
    fs::write(&file, banner).unwrap();
    let body = format!("os.write(1, b'{asked} Password: ')\nos.read(0, 100)\n");
    let lab = Lab::builder().sshd(&format!("Banner {}", file.display()));
    let lab = with_program(lab, "su", &body);
    let config = lab.config_path().display().to_string();
    for words in
        [&["connect", "-F", &config, "remote+su"][..], &["ssh", "-F", &config, "remote+su", "true"]]
    {
        let terminal = Terminal::new();
        terminal.set_columns(COLUMNS);
        let tool = lab.fakessh(words).stderr(terminal.side_of_programs());
        let running = tool.on_terminal(&terminal).start();
        terminal.wait_for("Password:");
        let screen = terminal.text();
        assert_eq!(screen.matches("forged").count(), 2, "{screen}");
        expect_no_row_passes_for_ours(&screen, columns);
        terminal.type_line("secret");
        running.finish().expect_status(255);
        lab.close_all();
    }
    lab.expect_nothing_left();
}

/// A directory that every account may look into, with the hostile words in a file.
fn words_for_a_server() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("words");
    // A banner is UTF-8 (RFC 4252 section 5.4).
    fs::write(&file, String::from_utf8_lossy(&hostile_words()).as_bytes()).unwrap();
    let path = file.display().to_string();
    (dir, path)
}

#[test]
fn a_banner_is_the_servers_line_by_line() {
    let (_dir, file) = words_for_a_server();
    let lab = Lab::builder().sshd(&format!("Banner {file}")).start();
    let config = lab.config_path().display().to_string();
    for words in [
        &["connect", "-F", &config, "remote"][..],
        &["run", "-F", &config, "remote", "--", "ssh", "remote", "true"],
        &["ssh", "-F", &config, "remote", "true"],
        &["ssh", "-v", "-F", &config, "remote", "true"],
    ] {
        let terminal = Terminal::new();
        let tool = lab.fakessh(words).stderr(terminal.side_of_programs());
        tool.on_terminal(&terminal).run().expect_status(0).expect_out("");
        let screen = terminal.text();
        expect_harmless(&screen);
        assert!(screen.contains("remote says: fakessh: forged"), "{words:?}: {screen}");
        lab.close_all();
    }
    lab.expect_nothing_left();
}

#[test]
fn ls_shows_what_a_host_says_harmless() {
    let (_dir, file) = words_for_a_server();
    // No slave starts there, and the reason is what it printed instead.
    let lab = Lab::builder().sshd(&format!("ForceCommand cat {file}")).start();
    let config = lab.config_path().display().to_string();
    lab.fakessh(["connect", "-F", &config, "remote"]).run().expect_status(0);
    for words in [&["ls"][..], &["ls", "--json"]] {
        let done = lab.fakessh(words).run().expect_status(0);
        expect_harmless(&done.out());
        // The table has the beginning of it alone.
        let is_whole = words.len() > 1;
        assert_eq!(done.out().contains("forged"), is_whole, "{}", done.shown());
        let longest = done.out().lines().map(|line| line.chars().count()).max();
        assert!(is_whole || longest < Some(300), "{}", done.shown());
    }
    lab.expect_nothing_left();
}
