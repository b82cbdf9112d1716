//! `remote+su:USER` and `remote+doas`: the same as with sudo, where there is none.

use std::fs;
use std::os::unix::fs::MetadataExt;

use fakessh_lab::account::PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Askpass, Lab, Terminal, Tool};

/// A lab with another account and these rules of doas.
fn with_rules(rules: &str) -> Lab {
    Lab::builder().another_account().etc("doas.conf", rules).start()
}

/// Gives root the labs' password, in the lab's own /etc.
fn let_root_have_a_password(lab: &Lab) {
    let name = lab.account().name.clone();
    lab.change_etc("shadow", |text| {
        let hash = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        let hash = hash.and_then(|rest| rest.split(':').next()).expect("the account's password");
        let line = |line: &str| match line.strip_prefix("root:") {
            Some(rest) => format!("root:{hash}:{}\n", rest.split_once(':').unwrap().1),
            None => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    });
}

/// A tool at `remote+HOP` that says who it is, carries bytes and copies a file.
fn try_all(lab: &Lab, route: &str, file: &str) -> Tool {
    let script = format!(
        "ssh remote 'id -un; cat; exit 7'; echo $?; scp -q /etc/passwd remote:{file}; \
         rsync /etc/passwd remote:{file}2"
    );
    lab.run([route], ["sh", "-c", &script]).input("in\n")
}

#[test]
fn su_asks_for_the_password_of_the_other_account() {
    if !root_for("another account") {
        return;
    }
    let lab = with_rules("");
    let other = lab.other();
    let route = format!("remote+su:{}", other.name);
    let file = other.home.join("copy");
    let askpass = Askpass::new(&lab, "ask", &[PASSWORD]);
    let tool = try_all(&lab, &route, file.to_str().unwrap());
    let done = askpass.for_tool(tool).run().expect_status(0);
    done.expect_out(&format!("{}\nin\n7\n", other.name)).expect_err("");
    assert_eq!(fs::metadata(&file).unwrap().uid(), other.uid);
    assert_eq!(askpass.count(), 1, "{}", askpass.asked());
    assert!(askpass.asked().contains("su"), "{}", askpass.asked());
    lab.expect_nothing_left();
}

#[test]
fn su_leads_to_root_from_a_terminal() {
    if !root_for("a password of root in an /etc of its own") {
        return;
    }
    let lab = with_rules("");
    let_root_have_a_password(&lab);
    let terminal = Terminal::new();
    let file = lab.remote_dir().join("copy");
    let tool = lab.run(
        ["remote+su"],
        ["scp", "-q", "/etc/passwd"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("remote:{}", file.display())]),
    );
    let running = tool.on_terminal(&terminal).start();
    terminal.wait_for("assword");
    terminal.type_line(PASSWORD);
    running.finish().expect_status(0).expect_err("");
    assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
    lab.expect_nothing_left();
}

#[test]
fn su_with_a_wrong_password_ends_with_its_words() {
    if !root_for("another account") {
        return;
    }
    let lab = with_rules("");
    let route = format!("remote+su:{}", lab.other().name);
    let askpass = Askpass::new(&lab, "ask", &["wrong"]);
    let done = askpass.for_tool(lab.run([&route], ["ssh", "remote", "true"])).run();
    done.expect_fault(255, &["su", "authentication failure"]);
    let done = lab.run(["remote+su:no-such-user"], ["ssh", "remote", "true"]).run();
    done.expect_fault(255, &["no-such-user"]);
    lab.expect_nothing_left();
}

#[test]
fn su_that_speaks_another_language() {
    if !root_for("a locale in a place of its own") {
        return;
    }
    let mounts = "mkdir -p \"$LAB/locale\"; cp -r /usr/lib/locale/C.utf8 \"$LAB/locale/\"\n\
                  localedef -i de_DE -f UTF-8 \"$LAB/locale/de_DE.UTF-8\" 2>/dev/null\n\
                  localedef -i zh_CN -f UTF-8 \"$LAB/locale/zh_CN.UTF-8\" 2>/dev/null\n\
                  mount --bind \"$LAB/locale\" /usr/lib/locale";
    for language in ["de_DE.UTF-8", "zh_CN.UTF-8"] {
        let lab = Lab::builder()
            .another_account()
            .etc("sudoers.d/lab", "$ACCOUNT ALL=(ALL) ALL\n")
            .etc("doas.conf", "permit $ACCOUNT\n")
            .private_mounts(mounts)
            .environment("LC_ALL", language)
            .environment("LANG", language)
            .start();
        for hop in ["su", "sudo", "doas"] {
            let route = format!("remote+{hop}:{}", lab.other().name);
            let askpass = Askpass::new(&lab, hop, &[PASSWORD]);
            let tool = askpass.for_tool(lab.run([&route], ["ssh", "remote", "id -un"]));
            tool.run().expect_status(0).expect_out(&format!("{}\n", lab.other().name));
            assert_eq!(askpass.count(), 1, "{hop}: {}", askpass.asked());
        }
    }
}

#[test]
fn doas_asks_or_not_as_its_rules_say() {
    if !root_for("rules of doas") {
        return;
    }
    for (rules, questions) in [("permit $ACCOUNT as root\n", 1), ("permit nopass $ACCOUNT\n", 0)] {
        let lab = with_rules(rules);
        let file = lab.remote_dir().join("copy");
        let askpass = Askpass::new(&lab, "ask", &[PASSWORD]);
        let tool = askpass.for_tool(try_all(&lab, "remote+doas", file.to_str().unwrap()));
        tool.run().expect_status(0).expect_out("root\nin\n7\n").expect_err("");
        assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
        assert_eq!(askpass.count(), questions, "{}", askpass.asked());
        lab.expect_nothing_left();
    }
}

#[test]
fn doas_that_refuses_is_quoted() {
    if !root_for("rules of doas") {
        return;
    }
    let lab = with_rules("permit $ACCOUNT as root\n");
    let askpass = Askpass::new(&lab, "wrong", &["wrong"]);
    let run = |route: &str| lab.run([route], ["ssh", "remote", "true"]);
    let done = askpass.for_tool(run("remote+doas")).run();
    done.expect_fault(255, &["doas", "authentication failed"]);
    let done = run(&format!("remote+doas:{}", lab.other().name)).run();
    done.expect_fault(255, &["doas", "not permitted"]);
    lab.expect_nothing_left();
}
