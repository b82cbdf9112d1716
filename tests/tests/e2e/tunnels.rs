//! Tools that start a tunnel for their `ssh`, and wait until it has ended.

use fakessh_lab::files::write_script;
use fakessh_lab::process::Process;
use fakessh_lab::{Client, GUARD, Lab, both_clients};

/// Forwards one connection from a port of its own, which it prints, to the port of its first
/// argument, and ends with that connection.
const TUNNEL: &str = "import socket, sys, threading
listener = socket.create_server((\"127.0.0.1\", 0))
print(listener.getsockname()[1], flush=True)
client = listener.accept()[0]
listener.close()
server = socket.create_connection((\"127.0.0.1\", int(sys.argv[1])))
def copy(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)
up = threading.Thread(target=copy, args=(client, server))
up.start()
copy(server, client)
up.join()
";

/// A tool whose hosts come from its own command lines.
fn tool(lab: &Lab, client: Client, script: &str) -> fakessh_lab::Tool {
    let words = ["bash", "-c", script];
    let tool = match client {
        Client::Ssh => lab.program(words),
        Client::Fakessh => lab.fakessh(["run", "--"].iter().chain(&words)),
    };
    tool.env("F", lab.config_path()).env("TUNNEL", TUNNEL)
}

both_clients! {
    fn a_tool_that_waits_for_its_tunnel_ends(client) {
        let lab = Lab::start();
        let script = format!(
            "coproc python3 -c \"$TUNNEL\" {}
            read -r port <&\"${{COPROC[0]}}\"
            ssh -F \"$F\" -p \"$port\" remote 'echo one'
            ssh -O check -F \"$F\" -p \"$port\" remote 2>/dev/null
            wait; echo over",
            lab.port()
        );
        tool(&lab, client, &script).run().expect_status(0).expect_out("one\nover\n");
    }
}

#[test]
fn a_connection_through_a_tunnel_is_shared_by_a_row_of_commands() {
    let lab = Lab::start();
    // More than one connection it does not take.
    let script = format!(
        "coproc python3 -c \"$TUNNEL\" {}
        read -r port <&\"${{COPROC[0]}}\"
        for i in 1 2 3; do ssh -F \"$F\" -p \"$port\" remote \"echo $i\"; done; wait",
        lab.port()
    );
    let done = tool(&lab, Client::Fakessh, &script).run();
    done.expect_status(0).expect_out("1\n2\n3\n").expect_err("");
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}

/// A program for `ProxyCommand`: notes its process id and its descriptors in the directory where it
/// starts, and connects to the port of its first argument.
const PROXY: &str = "#!/usr/bin/python3
import os, socket, sys, threading
fds = [fd for fd in os.listdir(\"/proc/self/fd\")]
fds = [fd for fd in fds if os.path.exists(\"/proc/self/fd/\" + fd)]
open(\"fds\", \"w\").write(\" \".join(sorted(fds)))
open(\"pids\", \"a\").write(f\"{os.getpid()}\\n\")
server = socket.create_connection((\"127.0.0.1\", int(sys.argv[1])))
def up():
    while data := os.read(0, 65536):
        server.sendall(data)
    server.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := server.recv(65536):
    os.write(1, data)
";

/// An option with [`PROXY`] for the lab's server.
fn proxy(lab: &Lab) -> String {
    let program = lab.dir().join("bin/proxy");
    write_script(&program, PROXY);
    format!("ProxyCommand={} {}", program.display(), lab.port())
}

#[test]
fn a_proxy_command_of_a_tool_ends_with_the_run() {
    let lab = Lab::start();
    let ssh = format!("ssh -F \"$F\" -o '{}' remote 'echo in'", proxy(&lab));
    let done = tool(&lab, Client::Fakessh, &format!("{ssh}; {ssh}")).run();
    done.expect_status(0).expect_out("in\nin\n").expect_err("");
    let noted = |name: &str| std::fs::read_to_string(lab.dir().join("user").join(name)).unwrap();
    assert_eq!(noted("fds"), "0 1 2", "it holds something of somebody else's");
    let pids = noted("pids");
    let [pid] = pids.lines().collect::<Vec<_>>()[..] else { panic!("one for both: {pids}") };
    if let Some(program) = Process::open(pid.parse().unwrap()) {
        assert!(program.wait(GUARD), "it lives on");
    }
    lab.expect_nothing_left();
}

#[test]
fn a_connection_that_a_person_asked_for_is_held_whatever_its_way_is() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    let (proxy, port) = (proxy(&lab), lab.port().to_string());
    for [flag, value] in [["-o", &proxy], ["-p", &port]] {
        let connect = ["connect", "-F", &config, flag, value, "remote"];
        lab.fakessh(connect).run().expect_status(0).expect_err("");
        let ssh = format!("ssh -F \"$F\" {flag} '{value}' remote 'echo in'");
        tool(&lab, Client::Fakessh, &ssh).run().expect_status(0).expect_out("in\n");
    }
    assert_eq!(lab.logins(), 2);
    assert_eq!(lab.held().len(), 2);
    lab.expect_nothing_left();
}
