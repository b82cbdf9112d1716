//! `remote+sudo`: every tool as another account, with one password, whatever sudo's rules are.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fakessh_lab::account::PASSWORD;
use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Askpass, Finished, Lab, LabBuilder, SharedLab, Terminal, tree};

/// The account may do everything, with its password and on a terminal.
const STRICT: &str = "Defaults requiretty\n$ACCOUNT ALL=(ALL) ALL\n";

static LAB: SharedLab = SharedLab::new(|| with_rules(Lab::builder(), STRICT));

fn with_rules(builder: LabBuilder, rules: &str) -> Lab {
    builder.another_account().etc("sudoers.d/lab", rules).start()
}

fn askpass(lab: &Lab, name: &str) -> Askpass {
    Askpass::new(lab, name, &[PASSWORD])
}

/// All bytes there are, often enough to fill pipes.
fn all_bytes() -> Vec<u8> {
    (0..=255).cycle().take(300_000).collect()
}

/// Holds that all of a tree belongs to this user.
#[track_caller]
fn expect_owner(root: &Path, uid: u32) {
    for name in tree::read(root).into_keys() {
        let owner = fs::symlink_metadata(root.join(&name)).unwrap().uid();
        assert_eq!(owner, uid, "{}", name.display());
    }
    assert_eq!(fs::metadata(root).unwrap().uid(), uid);
}

#[test]
fn rsync_as_root_asks_once_on_the_terminal_and_the_next_run_not_at_all() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = with_rules(Lab::builder(), STRICT);
    let etc = lab.local_dir("etc");
    tree::make(&etc, 120);
    let from = format!("{}/", etc.display());
    let there = lab.remote_dir().join("app");
    let to = format!("remote:{}/", there.display());
    let terminal = Terminal::new();
    let words = ["rsync", "-aH", &from, &to];
    let running = lab.run(["remote+sudo"], words).on_terminal(&terminal).start();
    terminal.wait_for("assword");
    assert!(!terminal.echoes(), "what is typed shows");
    terminal.type_line(PASSWORD);
    running.finish().expect_status(0).expect_out("").expect_err("");
    assert!(terminal.echoes(), "the terminal was left without echo");
    assert!(!terminal.text().contains(PASSWORD), "{}", terminal.text());
    tree::assert_same(&etc, &there);
    expect_owner(&there, 0);

    let second = Terminal::new();
    let running = lab.run(["remote+sudo"], ["rsync", "-aHi", &from, &to]).on_terminal(&second);
    running.run().expect_status(0).expect_out("").expect_err("");
    assert_eq!(second.text(), "");
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn every_tool_works_as_root() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = LAB.get();
    let local = lab.local_dir("tools");
    let tree = local.join("tree");
    tree::make(&tree, 150);
    let remote = lab.remote_dir().join("tools");
    let script = format!(
        r#"set -ex
        ssh remote mkdir {remote}
        rsync -aH tree/ remote:{remote}/tree/
        rsync -aH remote:{remote}/tree/ back/
        scp -q -p tree/big remote:{remote}/sftp
        scp -q -p -O tree/big remote:{remote}/old
        scp -q remote:{remote}/sftp sftp && cmp sftp tree/big
        scp -q -O remote:{remote}/old old && cmp old tree/big
        printf 'put tree/big {remote}/put\nget {remote}/put got\n' | sftp -q -b - remote
        cmp got tree/big
        ssh remote git init -q --bare -b main {remote}/r.git
        git clone -q remote:{remote}/r.git r
        (cd r && git checkout -q -b main && cp ../tree/big . && git add . &&
            git commit -q -m m && git push -q origin main)
        git clone -q remote:{remote}/r.git r2 && cmp r2/big tree/big
        ssh remote mkdir {remote}/tar
        tar -cf - -C tree --exclude=odd* . | ssh remote tar -xf - -C {remote}/tar
        test "$(ssh remote 'id -un; echo $HOME')" = "$(printf 'root\n/root')"
        "#,
        remote = remote.display()
    );
    let askpass = askpass(&lab, "ask-tools");
    lab.close_all();
    let tool = lab.run(["remote+sudo"], ["bash", "-c", &script]).directory(&local);
    askpass.for_tool(tool).run().expect_status(0);
    tree::assert_same(&tree, &local.join("back"));
    expect_owner(&remote, 0);
    assert_eq!(askpass.count(), 1, "{}", askpass.asked());
}

/// Writes other rules, connects anew, and holds that bytes and files arrive.
#[track_caller]
fn try_rules(lab: &Lab, number: usize, defaults: &str, questions: usize) {
    let rules = if questions == 0 { "NOPASSWD: ALL" } else { "ALL" };
    lab.change_etc("sudoers.d/lab", |_| format!("{defaults}\n$ACCOUNT ALL=(ALL) {rules}\n"));
    lab.close_all();
    // What sudo remembers of the last rules.
    let state = lab.seen_by_target("/run/sudo/ts");
    _ = fs::remove_dir_all(state);
    let askpass = askpass(lab, &format!("rules{number}"));
    let file = lab.remote_dir().join(format!("rules{number}"));
    let script = format!(
        "ssh remote 'id -un >&2; cat; exit 7' && echo wrong; \
         scp -q /etc/passwd remote:{}",
        file.display()
    );
    let tool = lab.run(["remote+sudo"], ["sh", "-c", &script]).input(all_bytes());
    let done = askpass.for_tool(tool).run();
    assert_eq!(askpass.count(), questions, "{defaults}: {}", askpass.asked());
    let done = done.expect_status(0).expect_err("root\n");
    assert!(done.stdout == all_bytes(), "{defaults}: {} bytes came", done.stdout.len());
    assert_eq!(fs::metadata(file).unwrap().uid(), 0);
}

#[test]
fn any_rules_do() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = with_rules(Lab::builder(), "");
    let lecture = lab.dir().join("lecture");
    fs::write(&lecture, "Respect the privacy of others.\nNever tell your password:\n").unwrap();
    for (number, (defaults, questions)) in [
        ("", 1),
        ("Defaults requiretty", 1),
        ("Defaults use_pty", 1),
        ("Defaults requiretty,use_pty,timestamp_timeout=0", 1),
        ("Defaults log_input,log_output,iolog_dir=$LAB/server/io", 1),
        ("Defaults requiretty,use_pty,log_input,log_output,iolog_dir=$LAB/server/io", 1),
        ("Defaults env_reset,secure_path=\"/usr/sbin:/usr/bin:/sbin:/bin\"", 1),
        ("Defaults umask=0077,umask_override", 1),
        ("Defaults lecture=always,lecture_file=$LAB/lecture,timestamp_timeout=0", 1),
        ("Defaults passprompt_override,passprompt=\"Mot de passe : \"", 1),
        ("Defaults requiretty", 0),
        ("Defaults use_pty,log_output,iolog_dir=$LAB/server/io,lecture=always", 0),
    ]
    .into_iter()
    .enumerate()
    {
        try_rules(&lab, number, defaults, questions);
    }
    lab.expect_nothing_left();
}

#[test]
fn another_account_than_root() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = LAB.get();
    let other = lab.other();
    let file = lab.other().home.join("copy");
    let script = format!(
        "ssh remote 'id -un; pwd'; scp -q /etc/passwd remote:{0}; rsync /etc/group remote:{0}2",
        file.display()
    );
    let route = format!("remote+sudo:{}", other.name);
    let askpass = askpass(&lab, "ask-other");
    let done = askpass.for_tool(lab.run([route], ["sh", "-c", &script])).run();
    let expected = format!("{}\n{}\n", other.name, other.home.display());
    done.expect_status(0).expect_out(&expected).expect_err("");
    assert_eq!(fs::metadata(&file).unwrap().uid(), other.uid);
    assert_eq!(fs::metadata(other.home.join("copy2")).unwrap().uid(), other.uid);
}

#[test]
fn a_password_with_spaces_and_letters_of_any_kind() {
    if !root_for("rules of sudo") {
        return;
    }
    let password = " zwölf  Boxkämpfer – пароль 密码 \"$HOME\" ";
    let lab = with_rules(Lab::builder().account_password(password), STRICT);
    let terminal = Terminal::new();
    let running = lab.run(["remote+sudo"], ["ssh", "remote", "id -un"]).on_terminal(&terminal);
    let running = running.start();
    terminal.wait_for("assword");
    terminal.type_line(password);
    running.finish().expect_status(0).expect_out("root\n");
    lab.close_all();
    let askpass = Askpass::new(&lab, "ask", &[password]);
    let tool = lab.run(["remote+sudo"], ["ssh", "remote", "id -un"]);
    askpass.for_tool(tool).run().expect_status(0).expect_out("root\n");
}

#[test]
fn a_banner_and_a_shell_that_say_password_are_not_answered() {
    if !root_for("rules of sudo") {
        return;
    }
    let banner = tempfile::NamedTempFile::new().unwrap();
    fs::write(banner.path(), "Authorized use only.\nEnter your password:\n").unwrap();
    let line = format!("Banner {}", banner.path().display());
    let lab = with_rules(Lab::builder().sshd(&line), STRICT);
    fs::write(lab.account().home.join(".bashrc"), "printf 'password: '\n").unwrap();
    let askpass = askpass(&lab, "ask");
    let tool = lab.run(["remote+sudo"], ["ssh", "remote", "id -un"]);
    let done = askpass.for_tool(tool).run().expect_status(0);
    assert_eq!(done.out(), "root\n");
    assert_eq!(askpass.count(), 1, "{}", askpass.asked());
}

/// `ssh remote 'id -un'` with these words before and nobody to ask.
fn alone(lab: &Lab, before: &[&str]) -> fakessh_lab::Tool {
    lab.run(before, ["ssh", "remote", "id -un"])
}

#[test]
fn a_password_file_answers() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = with_rules(Lab::builder(), STRICT);
    let file = lab.local_dir("secret").join("password");
    fs::write(&file, format!("{PASSWORD}\nnot this\n")).unwrap();
    let path = file.to_str().unwrap();
    let expect = |done: Finished| done.expect_status(0).expect_out("root\n").expect_err("");
    expect(alone(&lab, &["--password-file", path, "remote+sudo"]).run());
    lab.close_all();
    // Only the line is taken: what follows is for the tool.
    let input = format!("{PASSWORD}\nfor the tool\n");
    let words = ["ssh", "remote", "id -un; cat"];
    let tool = lab.run(["--password-file", "-", "remote+sudo"], words);
    tool.input(input).run().expect_status(0).expect_out("root\nfor the tool\n").expect_err("");
    lab.close_all();
    let config = lab.config_path().display().to_string();
    let fakessh = fakessh_lab::binary::fakessh().display().to_string();
    let script = format!(
        "exec 3<{path}; {fakessh} run -F {config} --password-file /dev/fd/3 remote+sudo -- \
         ssh remote 'id -un'"
    );
    expect(lab.program(["sh", "-c", &script]).run());
    lab.close_all();
    let words = ["connect", "-F", &config, "--password-file", path, "remote+sudo"];
    lab.fakessh(words).run().expect_status(0).expect_out("");
    expect(alone(&lab, &["remote+sudo"]).run());
    lab.close_all();
    let words = ["ssh", "-F", &config, "--password-file", path, "remote+sudo", "id -un"];
    expect(lab.fakessh(words).run());
    lab.close_all();
    fs::write(&file, "wrong\n").unwrap();
    let done = alone(&lab, &["--password-file", path, "remote+sudo"]).run();
    // In sudo's own words; and there was an answer, only a wrong one.
    let said = done.expect_status(255).expect_out("").err();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("fakessh: ") && last.contains("sudo"), "{said}");
    assert!(said.contains("try again") || said.contains("incorrect password"), "{said}");
    assert!(!last.contains("nobody to ask"), "{said}");
    fs::remove_file(&file).unwrap();
    let done = alone(&lab, &["--password-file", path, "remote+sudo"]).run();
    done.expect_fault(255, &[path]);
    lab.expect_nothing_left();
}

#[test]
fn a_wrong_password_ends_with_the_words_of_sudo() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = with_rules(Lab::builder(), STRICT);
    let askpass = Askpass::new(&lab, "wrong", &["wrong", "wrong", "wrong", PASSWORD]);
    let tool = || alone(&lab, &["remote+sudo"]);
    let done = askpass.for_tool(tool()).run().expect_status(255).expect_out("");
    let said = done.err();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("fakessh: ") && last.contains("incorrect password"), "{said}");
    assert!(last.contains("remote+sudo"), "{said}");
    assert_eq!(askpass.count(), 3, "{}", askpass.asked());
    // The second try of three is right.
    let askpass = Askpass::new(&lab, "second", &["wrong", PASSWORD]);
    askpass.for_tool(tool()).run().expect_status(0).expect_out("root\n");
    assert_eq!(askpass.count(), 2, "{}", askpass.asked());
    assert_eq!(lab.logins(), 1, "the connection below stays");
    lab.expect_nothing_left();
}

#[test]
fn an_account_that_may_not_use_sudo_reads_so() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = with_rules(Lab::builder(), "");
    let askpass = askpass(&lab, "ask");
    let done = askpass.for_tool(alone(&lab, &["remote+sudo"])).run();
    done.expect_fault(255, &["sudo", "not in the sudoers file"]).expect_out("");
    assert!(askpass.count() <= 1);
    // It may not be that one, but another.
    lab.change_etc("sudoers.d/lab", |_| format!("$ACCOUNT ALL=({}) ALL\n", lab.other().name));
    let done = askpass.for_tool(alone(&lab, &["remote+sudo"])).run();
    done.expect_fault(255, &["sudo", "not allowed"]);
    let done = alone(&lab, &["remote+sudo:no-such-user"]).run();
    done.expect_fault(255, &["sudo", "no-such-user"]);
    lab.expect_nothing_left();
}

#[test]
fn a_password_that_nobody_can_be_asked_for() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = with_rules(Lab::builder(), STRICT);
    let done = alone(&lab, &["remote+sudo"]).run();
    done.expect_fault(255, &["sudo", "password"]).expect_out("");
    lab.expect_nothing_left();
}

#[test]
fn places_that_run_no_program_are_passed_over() {
    if !root_for("mounts") {
        return;
    }
    let mounts = "for place in /dev/shm /var/tmp \"$ACCOUNT_HOME\" /root; do\n\
                  mount -t tmpfs -o noexec,mode=1777 none \"$place\"\ndone";
    let lab = with_rules(Lab::builder().private_mounts(mounts), STRICT);
    let askpass = askpass(&lab, "ask");
    let tool = askpass.for_tool(alone(&lab, &["remote+sudo"]));
    tool.run().expect_status(0).expect_out("root\n").expect_err("");
    lab.expect_nothing_left();
}

#[test]
fn no_terminal_to_be_had() {
    if !root_for("mounts") {
        return;
    }
    // An empty devpts: there is nothing to open.
    let mounts = "mount -t tmpfs none /dev/pts; touch \"$LAB/ptmx\"\n\
                  mount --bind \"$LAB/ptmx\" /dev/ptmx";
    let lab = with_rules(Lab::builder().private_mounts(mounts), "");
    lab.change_etc("sudoers.d/lab", |_| "$ACCOUNT ALL=(ALL) NOPASSWD: ALL\n".into());
    // Most rules do not ask for one.
    alone(&lab, &["remote+sudo"]).run().expect_status(0).expect_out("root\n");
    lab.close_all();
    lab.change_etc("sudoers.d/lab", |_| SUDO_WITHOUT_PASSWORD.into());
    alone(&lab, &["remote+sudo"]).run().expect_fault(255, &["sudo", "tty"]);
    lab.expect_nothing_left();
}
