//! What can be seen afterwards: the audit log, and the master's own.

use std::os::unix::fs::PermissionsExt;

use fakessh_lab::{Client, Lab};
use serde_json::{Value, json};

/// The SHA-256 of `cat; echo ab >&2; exit 3`.
const HASH: &str = "1706963f8e7528392b977dddad87e1ceea69ac02202f69b0ca0a1f06cf327192";

#[test]
fn a_session_leaves_one_line_that_says_who_where_what_and_how_it_ended() {
    let lab = Lab::start();
    let account = lab.account().name.clone();
    let words = ["ssh", "remote", "cat; echo ab >&2; exit 3"];
    let tool = lab.tool(Client::Fakessh, words).input("12345");
    tool.run().expect_status(3).expect_out("12345").expect_err("ab\n");
    let session = lab.wait_for_event("session", &[("program", "command")]);
    let expected = json!({
        "host": "remote", "context": "remote", "id": "@1", "user": account, "in": 5, "out": 5,
        "err": 3, "status": 3, "command_sha256": HASH,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(session[name], *value, "{session}");
    }
    assert!(session["command"].is_null() && session["ms"].is_u64(), "{session}");
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(session["by"]["uid"], uid);
    assert!(session["by"]["pid"].as_u64().unwrap() > 1);
    let time = session["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.starts_with("20"), "{time}");
    let run = lab.wait_for_event("run", &[("tool", "ssh")]);
    assert_eq!((&run["run"], &run["routes"]), (&session["run"], &json!([["", "remote"]])));
    let login = lab.wait_for_event("login", &[("user", &account)]);
    let accepted = login["accepted"][0].as_str().unwrap();
    assert!(accepted.starts_with("key ") && accepted.ends_with("key"), "{login}");
    let mode = std::fs::metadata(lab.audit_log()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The ordinary log has the login and the context, and no command.
    let log = std::fs::read_to_string(lab.master_log()).unwrap();
    let line = format!("{account}@remote (127.0.0.1:{}): logged in with key", lab.port());
    assert!(log.contains(&line) && log.contains("remote (@1): ready, as"), "{log}");
    assert!(!log.contains("exit 3"), "{log}");
    lab.expect_nothing_left();
}

#[test]
fn reverse_sessions_and_refusals_are_there_too() {
    let lab = Lab::start();
    let words = ["ssh", "db", "exit 4"];
    lab.run(["--on", "remote", "--route", "db=remote"], words).run().expect_status(4);
    let session = lab.wait_for_event("session", &[("host", "db")]);
    assert_eq!((&session["by"]["at"], &session["status"]), (&json!("remote"), &json!(4)));
    let tool = lab.wait_for_event("session", &[("program", "tool")]);
    assert_eq!((&tool["run"], &tool["status"]), (&session["run"], &json!(4)));
    let words = ["ssh", "nowhere", "true"];
    lab.run(["--route", "db=remote"], words).run().expect_status(255);
    let refused = lab.wait_for_event("refused", &[("what", "nowhere")]);
    assert!(refused["why"].as_str().unwrap().contains("--route"), "{refused}");
    lab.wait_for_log(&["nowhere: refused:", "--route"]);
    lab.host("gone", &["HostName no-such-host.invalid".into()]);
    lab.tool_to(Client::Fakessh, "gone", ["true"]).run().expect_status(255);
    lab.wait_for_log(&["gone: refused:", "no-such-host.invalid", "for process"]);
    // One that is killed is no good end.
    let lost = [
        "sh",
        "-c",
        "mkfifo $TMPDIR/up; ssh remote 'echo up; exec sleep 1000' >$TMPDIR/up & \
                             read line <$TMPDIR/up; kill -9 $!; rm $TMPDIR/up",
    ];
    lab.tool(Client::Fakessh, lost).run().expect_status(0);
    lab.wait_for_event("session", &[("failed", "the invoker went away")]);
    lab.expect_nothing_left();
}

#[test]
fn the_configuration_says_whether_where_and_how() {
    let lab = Lab::start();
    let file = lab.dir().join("user/.local/state/fakessh/audit.jsonl");
    lab.configure("[audit]\nenabled = false\n");
    let run = |command: &str| {
        lab.tool(Client::Fakessh, ["ssh", "remote", command]).run().expect_status(0);
    };
    run("true");
    lab.fakessh(["stop"]).run().expect_status(0);
    assert!(!file.exists());
    lab.configure("[audit]\ncommands = \"clear\"\n");
    run("echo '\u{1b}[2J\u{202e}' >&2");
    // A master that ends has written everything.
    lab.fakessh(["stop"]).run().expect_status(0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.is_ascii() && !text.contains('\u{1b}'), "{text}");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let session = events.iter().find(|event| event["event"] == "session").unwrap();
    assert_eq!(session["command"], "echo '\u{1b}[2J\u{202e}' >&2");
    assert!(session["command_sha256"].is_null());
    std::fs::remove_file(&file).unwrap();
    lab.configure("[audit]\ncommands = \"none\"\nfile = \"~/elsewhere.jsonl\"\n");
    run("true");
    lab.fakessh(["stop"]).run().expect_status(0);
    assert!(!file.exists());
    let text = std::fs::read_to_string(lab.dir().join("user/elsewhere.jsonl")).unwrap();
    assert!(text.contains("\"session\"") && !text.contains("command_") && !text.contains("true"));
    lab.expect_nothing_left();
}
