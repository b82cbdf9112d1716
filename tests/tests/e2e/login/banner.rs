//! What a server says before it lets anybody in, and renewed keys.

use std::fs;

use fakessh_lab::{Client, Lab, Tool, both_clients};

/// A server with this banner.
fn lab(banner: &str) -> Lab {
    let lab = Lab::builder().sshd("Banner $LAB/server/banner").start();
    fs::write(lab.dir().join("server/banner"), banner).unwrap();
    lab
}

/// A tool whose own `ssh` makes the connection.
fn connecting(lab: &Lab, client: Client, words: &[&str]) -> Tool {
    match client {
        Client::Ssh => lab.tool(client, words),
        Client::Fakessh => {
            lab.close_all();
            lab.run([""; 0], words)
        }
    }
}

both_clients! {
    fn a_banner_is_shown_on_standard_error_and_in_no_log(client) {
        let lab = lab("be good\nor go\n");
        let log = lab.dir().join("user/log");
        let words = ["ssh", "-E", log.to_str().unwrap(), "remote", "echo in"];
        let done = connecting(&lab, client, &words).run().expect_status(0).expect_out("in\n");
        let said = done.err();
        assert!(said.contains("be good") && said.contains("or go"), "{}", done.shown());
        let logged = fs::read_to_string(&log).unwrap_or_default();
        assert!(!logged.contains("be good"), "{logged}");
        // Quiet is quiet.
        let quiet = connecting(&lab, client, &["ssh", "-q", "remote", "echo in"]);
        quiet.run().expect_out("in\n").expect_err("");
    }

    fn keys_are_renewed_as_often_as_is_wanted(client) {
        let lab = Lab::builder().sshd("LogLevel DEBUG1").start();
        lab.host_with_key("renewing", &lab.key(), &["RekeyLimit 256K"]);
        let command = "head -c 4M /dev/zero | tr '\\0' x; wc -c";
        let tool = lab.tool_to(client, "renewing", ["ssh", "renewing", command]);
        let done = tool.input(vec![b'y'; 4 << 20]).run().expect_status(0);
        assert_eq!(done.stdout.len(), (4 << 20) + "4194304\n".len());
        let renewed = lab.log().count("SSH2_MSG_NEWKEYS received");
        assert!(renewed > 8, "{renewed}");
    }
}
