//! `fakessh shim install` and `fakessh env`: links that the user's shell finds in the place of `ssh`,
//! and the real `ssh` behind them, however `PATH` looks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use fakessh_lab::files::{copy_program, listing, write_script};
use fakessh_lab::{Lab, Tool, binary, tool};

/// Where the links go if nobody says where.
fn usual(lab: &Lab) -> PathBuf {
    lab.dir().join("user/.local/bin")
}

/// A shell's line with these directories first on `PATH`. `$F` is the configuration.
fn line(lab: &Lab, first: &[&Path], text: &str) -> Tool {
    let first = first.iter().map(|directory| directory.display().to_string());
    let path: Vec<String> = first.chain([tool::PATH.to_owned()]).collect();
    lab.program(["sh", "-c", text]).env("PATH", path.join(":")).env("F", lab.config_path())
}

/// Holds that the real ssh answers what is its own, whatever is on `PATH`.
#[track_caller]
fn expect_real(lab: &Lab, first: &[&Path]) {
    let real = lab.program(["ssh", "-V"]).run().expect_status(0).err();
    let asked = line(lab, first, "ssh -V").run().expect_status(0);
    assert_eq!(asked.err(), real, "{}", asked.shown());
    // X11 is left to the real one, after the master was asked.
    let done = line(lab, first, "ssh -F \"$F\" -X remote 'echo up; exit 5'");
    let done = done.run().expect_status(5).expect_out("up\n");
    assert!(!done.err().contains("fakessh"), "{}", done.shown());
}

/// Holds that a command is served through the master.
#[track_caller]
fn expect_ours(lab: &Lab, first: &[&Path]) {
    line(lab, first, "ssh -F \"$F\" remote 'echo up'").run().expect_status(0).expect_out("up\n");
    assert_eq!(lab.held(), ["remote"]);
}

#[test]
fn links_are_made_once_and_removed_again_with_fakessh() {
    let lab = Lab::start();
    for _ in 0..2 {
        let done = lab.fakessh(["shim", "install"]).run().expect_status(0);
        assert_eq!(done.err(), "", "{}", done.shown());
        assert_eq!(listing(&usual(&lab)), ["scp", "sftp", "ssh"]);
        assert_eq!(fs::read_link(usual(&lab).join("ssh")).unwrap(), binary::fakessh());
        // The lab's shell is no particular one.
        let advice = format!("export PATH={}\"${{PATH:+:$PATH}}\"", usual(&lab).display());
        assert!(done.out().contains(&advice), "{}", done.shown());
        assert!(done.out().contains("is not on PATH") && done.out().contains("~/.profile"));
    }
    expect_ours(&lab, &[&usual(&lab)]);
    expect_real(&lab, &[&usual(&lab)]);
    let copy = "echo two >two; scp -F \"$F\" two remote: && echo get two three | sftp -F \"$F\" -b - \
                remote >/dev/null && cat three";
    line(&lab, &[&usual(&lab)], copy).run().expect_status(0).expect_out("two\n");
    // The real ssh had a login of its own, and all others together one.
    assert_eq!(lab.logins(), 2);
    let done = lab.fakessh(["shim", "uninstall"]).run().expect_status(0).expect_err("");
    assert_eq!(done.out().lines().count(), 3, "{}", done.shown());
    assert_eq!(listing(&usual(&lab)), [""; 0]);
    let done = lab.fakessh(["shim", "uninstall"]).run().expect_status(0).expect_out("");
    assert!(done.err().contains("has no links"), "{}", done.shown());
    lab.expect_nothing_left();
}

#[test]
fn advice_says_where_the_directory_stands_on_path_with_fakessh() {
    let lab = Lab::start();
    let bin = lab.local_dir("my bin");
    let install = |path: String, shell: &str| {
        let tool = lab.fakessh(["shim".as_ref(), "install".as_ref(), bin.as_os_str()]);
        let done = tool.env("PATH", path).env("SHELL", shell).run().expect_status(0);
        done.out()
    };
    let first = install(format!("{}:{}", bin.display(), tool::PATH), "/bin/bash");
    assert!(!first.contains("Add this line") && first.contains("hash -r"), "{first}");
    let last = install(format!("{}:{}", tool::PATH, bin.display()), "/usr/bin/fish");
    assert!(last.contains("comes after /usr/bin on PATH"), "{last}");
    let fish = format!("    set -gx PATH '{}' $PATH\n", bin.display());
    assert!(last.contains(&fish) && last.contains("config.fish"), "{last}");
    let none = install(tool::PATH.to_owned(), "/usr/bin/zsh");
    assert!(none.contains("is not on PATH") && none.contains("~/.zshrc"), "{none}");
}

#[test]
fn what_is_not_ours_is_not_touched_with_fakessh() {
    let lab = Lab::start();
    let bin = lab.local_dir("bin");
    let install = || lab.fakessh(["shim".as_ref(), "install".as_ref(), bin.as_os_str()]).run();
    let remove = || lab.fakessh(["shim".as_ref(), "uninstall".as_ref(), bin.as_os_str()]).run();
    write_script(&bin.join("sftp"), "#!/bin/sh\necho mine\n");
    install().expect_fault(255, &["sftp", "no link to fakessh", "remove it"]);
    assert_eq!(listing(&bin), ["sftp"], "none of the others was made");
    fs::remove_file(bin.join("sftp")).unwrap();
    for target in ["/usr/bin/ssh", "/nonexistent/ssh", "dangling"] {
        symlink(target, bin.join("ssh")).unwrap();
        install().expect_fault(255, &["ssh", "no link to fakessh"]);
        remove().expect_status(0);
        assert_eq!(fs::read_link(bin.join("ssh")).unwrap(), Path::new(target));
        fs::remove_file(bin.join("ssh")).unwrap();
    }
    copy_program(&binary::fakessh(), &bin.join("ssh"));
    install().expect_fault(255, &["ssh", "no link to fakessh"]);
    fs::remove_file(bin.join("ssh")).unwrap();
    // Links to a fakessh that is gone are ours, and are led to this one.
    symlink("/nonexistent/fakessh", bin.join("ssh")).unwrap();
    install().expect_status(0);
    assert_eq!(fs::read_link(bin.join("ssh")).unwrap(), binary::fakessh());
    for mode in [0o777, 0o1777, 0o757] {
        fs::set_permissions(&bin, fs::Permissions::from_mode(mode)).unwrap();
        install()
            .expect_fault(255, &[&format!("bin has mode {mode:04o}"), "name another directory"]);
    }
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).unwrap();
    // Whoever can rename it can put another one in its place.
    let above = bin.parent().unwrap();
    let before = fs::metadata(above).unwrap().permissions();
    fs::set_permissions(above, fs::Permissions::from_mode(0o777)).unwrap();
    install().expect_fault(255, &["has mode 0777", "name another directory"]);
    fs::set_permissions(above, before).unwrap();
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).unwrap();
    remove().expect_status(0);
    assert_eq!(listing(&bin), [""; 0]);
    let file = bin.join("file");
    fs::write(&file, "").unwrap();
    let done = lab.fakessh(["shim".as_ref(), "install".as_ref(), file.as_os_str()]).run();
    done.expect_fault(255, &["can't make the directory", "file"]);
}

#[test]
fn the_real_ssh_is_found_however_path_looks_with_fakessh() {
    let lab = Lab::start();
    let [one, two, three] = ["one", "two", "three"].map(|name| lab.local_dir(name));
    for directory in [&one, &two] {
        lab.fakessh(["shim".as_ref(), "install".as_ref(), directory.as_os_str()]).run();
    }
    // Twice, and by a link to a link.
    expect_real(&lab, &[&one, &one, &two]);
    symlink(one.join("ssh"), three.join("ssh")).unwrap();
    expect_real(&lab, &[&three, &one]);
    expect_ours(&lab, &[&three, &one]);
    fs::remove_file(three.join("ssh")).unwrap();

    // A wrapper that leads to us, before and behind the link; and one that waits for us.
    for text in ["exec ssh -C \"$@\"", "ssh -C \"$@\"; exit $?"] {
        let text = format!("#!/bin/sh\nPATH={}:$PATH\n{text}\n", two.display());
        write_script(&three.join("ssh"), &text);
        expect_real(&lab, &[&three, &two]);
        expect_real(&lab, &[&two, &three]);
        expect_ours(&lab, &[&three, &two]);
    }
    // One that finds itself again is nobody's way to anything, and does not run for ever.
    write_script(&three.join("ssh"), &format!("#!/bin/sh\nexec {}/ssh \"$@\"\n", two.display()));
    for name in ["scp", "sftp"] {
        let text = format!("#!/bin/sh\nexec {}/{name} \"$@\"\n", two.display());
        write_script(&three.join(name), &text);
    }
    expect_real(&lab, &[&three, &two]);
    let copy = "echo a >a; scp -F \"$F\" a remote: && echo get a b | sftp -F \"$F\" -b - remote \
                >/dev/null && cat b";
    line(&lab, &[&three, &two], copy).run().expect_status(0).expect_out("a\n");
    lab.expect_nothing_left();
}

#[test]
fn a_copy_in_the_place_of_a_link_works_as_one_with_fakessh() {
    let lab = Lab::start();
    let [one, two] = ["one", "two"].map(|name| lab.local_dir(name));
    lab.fakessh(["shim".as_ref(), "install".as_ref(), one.as_os_str()]).run();
    for name in ["ssh", "scp", "sftp"] {
        copy_program(&binary::fakessh(), &two.join(name));
    }
    // The master is started by the copy.
    for first in [[&*two, &*one], [&*one, &*two]] {
        expect_real(&lab, &first);
        expect_ours(&lab, &first);
        lab.fakessh(["stop"]).run().expect_status(0);
    }
    lab.expect_nothing_left();
}

#[test]
fn a_program_that_was_moved_leaves_the_real_ssh_with_fakessh() {
    let lab = Lab::start();
    let bin = lab.local_dir("bin");
    let [before, after] = ["before", "after"].map(|name| lab.local_dir(name).join("fakessh"));
    copy_program(&binary::fakessh(), &before);
    let install = |program: &Path| {
        let words = [program.as_os_str(), "shim".as_ref(), "install".as_ref(), bin.as_os_str()];
        lab.program(words).run().expect_status(0)
    };
    install(&before);
    fs::rename(&before, &after).unwrap();
    // The shell passes over what leads nowhere.
    expect_real(&lab, &[&bin]);
    install(&after);
    assert_eq!(fs::read_link(bin.join("ssh")).unwrap(), after);
    expect_ours(&lab, &[&bin]);
    // What a package manager has put in place is what is linked to.
    let stable = lab.local_dir("stable").join("fakessh");
    symlink(&after, &stable).unwrap();
    install(&stable);
    assert_eq!(fs::read_link(bin.join("ssh")).unwrap(), stable);
    lab.fakessh(["stop"]).run();
    lab.expect_nothing_left();
}

#[test]
fn a_master_that_can_not_be_started_leaves_the_real_ssh_with_fakessh() {
    let lab = Lab::start();
    let bin = lab.local_dir("bin");
    lab.fakessh(["shim".as_ref(), "install".as_ref(), bin.as_os_str()]).run();
    lab.configure("[route.named]\nvia = \"remote\"\n");
    let bad = lab.local_dir("shared");
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o777)).unwrap();
    let ssh = |words: &str| {
        let tool = line(&lab, &[&bin], &format!("ssh -F \"$F\" {words}"));
        tool.env("FAKESSH_DIR", &bad).run()
    };
    let done = ssh("remote 'echo up; exit 6'").expect_status(6).expect_out("up\n");
    assert!(done.err().starts_with("fakessh: using the real ssh, since: "), "{}", done.shown());
    ssh("-q remote true").expect_status(0).expect_err("");
    // That one knows no such host, or another one.
    ssh("named true").expect_fault(255, &["chmod 700"]);
}

#[test]
fn a_line_for_the_shell_has_it_use_what_is_held_with_fakessh() {
    let lab = Lab::start();
    for (shell, program, eval) in [
        ("sh", "sh", "eval \"$(\"$FAKESSH\" env)\""),
        ("bash", "bash", "eval \"$(\"$FAKESSH\" env --shell bash)\""),
        ("fish", "fish", "$FAKESSH env --shell fish | source"),
        ("csh", "tcsh", "eval \"`$FAKESSH env --shell tcsh`\""),
    ] {
        if program != "sh" && !Path::new("/usr/bin").join(program).exists() {
            eprintln!("skipped: no {program}");
            continue;
        }
        // Twice is once.
        let script =
            format!("{eval}; {eval}; echo $PATH; ssh -F $F remote 'echo up'; ssh -V; exit");
        let words = if shell == "csh" { vec![program, "-f", "-c"] } else { vec![program, "-c"] };
        let tool = lab.program([&words[..], &[&script]].concat());
        let done = tool.env("F", lab.config_path()).env("FAKESSH", binary::fakessh()).run();
        let done = done.expect_status(0);
        let bin = lab.dir().join("user/.local/share/fakessh/bin");
        let path = done.out().lines().next().unwrap().replace(' ', ":");
        assert_eq!(path, format!("{}:{}", bin.display(), tool::PATH), "{}", done.shown());
        assert!(done.out().ends_with("\nup\n"), "{}", done.shown());
        assert!(done.err().contains("OpenSSH") && done.err().lines().count() == 1);
        assert_eq!(listing(&bin), ["scp", "sftp", "ssh"]);
    }
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

#[test]
fn a_directory_of_the_links_that_others_can_change_is_refused_with_fakessh() {
    let lab = Lab::start();
    let data = lab.local_dir("data");
    let env = || lab.fakessh(["env"]).env("XDG_DATA_HOME", &data).run();
    let ours = data.join("fakessh");
    let bin = ours.join("bin");
    env().expect_status(0);
    for (path, mode, is_refused) in [
        (&data, 0o777, true),
        (&data, 0o1777, false),
        (&ours, 0o777, true),
        (&ours, 0o1777, true),
        (&bin, 0o777, true),
        (&bin, 0o1777, true),
        (&bin, 0o755, false),
    ] {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        if is_refused {
            let done = env().expect_fault(255, &["others could put an ssh there", "XDG_DATA_HOME"]);
            done.expect_out("");
        } else {
            env().expect_status(0);
        }
        fs::set_permissions(path, before).unwrap();
    }
    fs::write(bin.join("ls"), "").unwrap();
    env().expect_fault(255, &["holds other things", "ls"]).expect_out("");
    fs::remove_file(bin.join("ls")).unwrap();
    write_script(&bin.join("ssh.new"), "#!/bin/sh\n");
    fs::rename(bin.join("ssh.new"), bin.join("ssh")).unwrap();
    env().expect_fault(255, &["no link to fakessh"]).expect_out("");
    fs::remove_dir_all(&ours).unwrap();
    symlink("/tmp", &ours).unwrap();
    env().expect_fault(255, &["no directory"]).expect_out("");
    fs::remove_file(&ours).unwrap();
    std::os::unix::fs::chown(&data, Some(1), None).unwrap();
    env().expect_fault(255, &["belongs to uid 1"]).expect_out("");
}
