//! `UpdateHostKeys`: what a server tells of its host keys is learned, if it has proved it.

use std::fs;
use std::path::PathBuf;

use fakessh_lab::{Askpass, Client, Lab, both_clients, wait_until};

use super::keygen;

/// A server with two host keys, of which one is known.
struct Rotating {
    lab: Lab,
}

impl Rotating {
    fn new() -> Rotating {
        let lab = Lab::builder().sshd("HostKey $LAB/server/next_key").start();
        keygen(&lab.dir().join("server"), &["-t", "ecdsa", "-N", "", "-f", "next_key"]);
        let port = lab.stop_server();
        lab.restart_server(port);
        Rotating { lab }
    }

    fn key(&self, name: &str) -> String {
        fs::read_to_string(self.lab.dir().join("server").join(name).with_extension("pub")).unwrap()
    }

    /// The kinds of keys that are recorded for the host.
    fn known(&self) -> Vec<String> {
        let text = fs::read_to_string(self.lab.known_hosts()).unwrap();
        let kinds = text.lines().filter_map(|line| line.strip_prefix("fakessh-lab "));
        kinds.map(|rest| rest.split(' ').next().unwrap().to_owned()).collect()
    }

    fn old(&self) -> PathBuf {
        self.lab.dir().join("user/known_hosts.old")
    }

    /// Has a session until this is so.
    fn visit(&self, client: Client, lines: &[&str], until: impl Fn() -> bool) {
        if client == Client::Fakessh {
            self.lab.close_all();
        }
        self.lab.host_with_key("rotating", &self.lab.key(), lines);
        let tool = self.lab.tool_to(client, "rotating", ["ssh", "rotating", "echo in; cat"]);
        let mut running = tool.input_open().start();
        running.wait_for_output("in\n");
        wait_until(until, "the keys were not updated");
        running.close_stdin();
        running.finish().expect_status(0);
    }
}

const NEXT: &str = "ecdsa-sha2-nistp256";
const KNOWN: &str = "ssh-ed25519";

both_clients! {
    fn a_new_key_is_learned(client) {
        let rotating = Rotating::new();
        rotating.visit(client, &["UpdateHostKeys yes"], || rotating.known() == [KNOWN, NEXT]);
        // The server may show it alone now.
        let only = format!("HostKeyAlgorithms {NEXT}");
        rotating.visit(client, &["UpdateHostKeys no", &only], || true);
    }

    fn a_key_that_the_server_gave_up_is_forgotten(client) {
        let rotating = Rotating::new();
        let (key, next) = (rotating.key("host_key"), rotating.key("next_key"));
        let other = rotating.lab.local_dir("other");
        keygen(&other, &["-t", "ed25519", "-N", "", "-f", "gone"]);
        let gone = fs::read_to_string(other.join("gone.pub")).unwrap();
        let lines = format!("fakessh-lab {gone}fakessh-lab {next}fakessh-lab {key}elsewhere {key}");
        let before = lines.replace("elsewhere", "# elsewhere");
        fs::write(rotating.lab.known_hosts(), &before).unwrap();
        rotating.visit(client, &["UpdateHostKeys yes"], || rotating.known() == [NEXT, KNOWN]);
        assert_eq!(fs::read_to_string(rotating.old()).unwrap(), before);
        let after = fs::read_to_string(rotating.lab.known_hosts()).unwrap();
        assert!(after.contains("# elsewhere"), "{after}");
    }
}

/// What the configuration does not want, and what its `UpdateHostKeys` would change if it were not
/// for how the host was believed. With ssh these sessions end before it would have written.
#[test]
fn nothing_is_learned_from_whom_it_may_not_be_with_fakessh() {
    let rotating = Rotating::new();
    let file = rotating.lab.known_hosts();
    let (key, before) = (rotating.key("host_key"), fs::read_to_string(&file).unwrap());
    let global = rotating.lab.dir().join("user/global");
    fs::write(&global, &before).unwrap();
    let global = format!("GlobalKnownHostsFile {}", global.display());
    let command = rotating.lab.dir().join("user/keys");
    fakessh_lab::files::write_script(
        &command,
        &format!("#!/bin/sh\necho 'fakessh-lab {}'\n", key.trim()),
    );
    let command = format!("KnownHostsCommand {}", command.display());
    for (known, lines) in [
        (&*before, &["UpdateHostKeys no"][..]),
        (&*before, &["UpdateHostKeys ask", "BatchMode yes"]),
        ("# none\n", &["UpdateHostKeys yes", &global]),
        ("# none\n", &["UpdateHostKeys yes", &command]),
        (&format!("fakessh-* {key}"), &["UpdateHostKeys yes"]),
        (&format!("fakessh-lab {key}other {key}"), &["UpdateHostKeys yes"]),
    ] {
        fs::write(&file, known).unwrap();
        rotating.visit(Client::Fakessh, lines, || true);
        // The server has told of its keys before its first answer.
        let tool = rotating.lab.tool_to(Client::Fakessh, "rotating", ["ssh", "rotating", "true"]);
        tool.run().expect_status(0);
        assert_eq!(fs::read_to_string(&file).unwrap(), known, "{lines:?}");
    }
}

/// ssh asks on its terminal, and never a program.
#[test]
fn a_person_may_be_asked_first_with_fakessh() {
    for (answers, expected) in
        [(&["what", "yes"][..], &[KNOWN, NEXT][..]), (&["no"], &[KNOWN]), (&["x"], &[KNOWN])]
    {
        let rotating = Rotating::new();
        rotating.lab.host_with_key("rotating", &rotating.lab.key(), &["UpdateHostKeys ask"]);
        let askpass = Askpass::new(&rotating.lab, "updates", answers);
        let tool =
            rotating.lab.tool_to(Client::Fakessh, "rotating", ["ssh", "rotating", "echo in"]);
        let done = askpass.for_tool(tool).run().expect_status(0).expect_out("in\n");
        assert_eq!(rotating.known(), expected, "{answers:?}");
        assert!(done.err().contains("Learned new hostkey: ECDSA SHA256:"), "{}", done.shown());
        assert!(askpass.asked().contains("Accept updated hostkeys?"), "{}", askpass.asked());
    }
}
