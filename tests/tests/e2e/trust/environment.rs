//! A mapped run keeps the environment that it was opened with. The tool sits in its own namespaces
//! and hands over variables that would run its programs outside of them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use fakessh_lab::files::write_script;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Lab, Tool, tool};

/// What the tool's library does as soon as it is loaded.
const CONSTRUCTOR: &str = r#"
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void run(void) {
    char place[256];
    long length = readlink("/proc/self/ns/mnt", place, sizeof place - 1);
    if (length < 0) return;
    place[length++] = '\n';
    int file = open("@RAN@", O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (write(file, place, length)) {}
    close(file);
}
"#;

/// Everything that the master has to start a program for, and what would run if it took the tool's
/// variables for that.
struct Stage {
    lab: Lab,
    /// The tool's directory.
    theirs: PathBuf,
    /// The environments of the programs that the master started.
    seen: PathBuf,
    /// The user's own programs.
    programs: PathBuf,
    /// The tool's "agent".
    agent: UnixListener,
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::start();
        let theirs = lab.local_dir("theirs");
        let (seen, programs) = (lab.dir().join("user/seen"), lab.local_dir("programs"));
        let record = format!("/usr/bin/env >>'{}'", seen.display());
        let program = |name: &str, rest: &str| {
            let script =
                format!("#!/bin/sh\necho \"{name} $*\" >>'{}'\n{record}\n{rest}\n", seen.display());
            write_script(&programs.join(name), &script);
        };
        program("settings", "");
        program("relay", "PATH=/usr/bin:/bin exec busybox nc \"$@\"");
        program("docker", "shift 3; exec \"$@\"");
        let matched = format!("Match exec \"{}\"", programs.join("settings").display());
        // By its name alone: which one that is, PATH says, and SHELL who reads it.
        lab.host_through("proxied", lab.port(), &["ProxyCommand relay %h %p", &matched]);
        lab.host_through("asked", lab.port(), &["IdentitiesOnly no", &matched]);

        let agent = UnixListener::bind(theirs.join("agent")).unwrap();
        agent.set_nonblocking(true).unwrap();
        let stage = Stage { lab, theirs, seen, programs, agent };
        stage.arm();
        stage
    }

    /// Puts there what the tool has its variables lead to.
    fn arm(&self) {
        let (source, ran) = (self.theirs.join("run.c"), self.ran());
        fs::write(&source, CONSTRUCTOR.replace("@RAN@", &ran.to_string_lossy())).unwrap();
        let library = self.theirs.join("run.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]);
        assert!(compiler.status().unwrap().success());
        let canary =
            format!("#!/bin/sh\n/bin/readlink /proc/self/ns/mnt >>'{}'\nexit 9\n", ran.display());
        for name in ["shell", "relay", "docker", "ssh-real", "busybox"] {
            write_script(&self.theirs.join(name), &canary);
        }
        let module = format!(
            "openssl_conf = all\n[all]\nproviders = list\n[list]\nown = own\n[own]\n\
             module = {}\nactivate = 1\n",
            library.display()
        );
        fs::write(self.theirs.join("openssl.cnf"), module).unwrap();
        fs::create_dir(self.theirs.join("runtime")).unwrap();
    }

    /// The mount namespaces in which something of the tool's has run.
    fn ran(&self) -> PathBuf {
        self.theirs.join("ran")
    }

    /// A run with these words before the `--`, whose tool is this script, behind `enter`. There
    /// `hostile` stands before a command that gets the variables.
    fn tool(&self, before: &[&str], enter: &[&str], script: &str) -> Tool {
        let theirs = self.theirs.display();
        let script = format!(
            "hostile() {{ env LD_PRELOAD={theirs}/run.so SHELL={theirs}/shell \
             PATH={theirs}:$PATH OPENSSL_CONF={theirs}/openssl.cnf SSH_AUTH_SOCK={theirs}/agent \
             XDG_RUNTIME_DIR={theirs}/runtime HOME={theirs} DOCKER_HOST={theirs} \"$@\"; }}\n\
             cd {theirs}\nhostile true\n{script}"
        );
        let path = format!("{}:{}", self.programs.display(), tool::PATH);
        let words = [&["run"], before, &["--"], enter, &["sh", "-c", &script]].concat();
        self.lab.fakessh(words).env("PATH", path)
    }

    fn config(&self) -> String {
        self.lab.config_path().display().to_string()
    }

    /// Holds that the master ran these programs of the user's, and that nothing of the tool's got
    /// to them or ran outside of the tool's namespaces.
    fn expect_own_environment_only(&self, programs: &[&str]) {
        let seen = fs::read_to_string(&self.seen).unwrap();
        for program in programs {
            let runs = seen.lines().filter(|line| line.starts_with(program)).count();
            assert!(runs >= 2, "{program} was run {runs} times:\n{seen}");
        }
        let theirs = self.theirs.to_string_lossy();
        let found: Vec<_> = seen.lines().filter(|line| line.contains(&*theirs)).collect();
        assert!(found.is_empty(), "a program of the master saw {found:?}");
        let outside = fs::read_link("/proc/self/ns/mnt").unwrap();
        let ran = fs::read_to_string(self.ran()).unwrap_or_default();
        // In its own namespaces the tool may run what it likes, and has: the canary works.
        assert!(!ran.is_empty(), "the tool's library did not even run in the tool");
        let escaped = ran.lines().any(|line| Path::new(line) == outside);
        assert!(!escaped, "what the tool brought ran outside of its namespaces:\n{ran}");
        let asked = self.agent.accept().map(drop).map_err(|error| error.kind());
        assert_eq!(asked, Err(ErrorKind::WouldBlock), "the tool's agent was asked");
    }
}

/// Namespaces of the tool's own.
const ENTER: [&str; 4] = ["unshare", "--user", "--mount", "--map-root-user"];

/// What a tool does with each of these names, with a pause in which connections are closed.
fn twice(names: &str) -> String {
    let each = format!(
        "for name in {names}; do\n\
         hostile ssh -O check $name 2>/dev/null; hostile ssh $name \"echo $name\" || exit 9\n\
         done"
    );
    format!("{each}\necho closing; read line\n{each}")
}

/// Runs a tool that does this, and closes all connections when it pauses.
fn run_and_reconnect(stage: &Stage, tool: Tool) {
    let mut running = tool.input_open().start();
    running.wait_for_output("closing\n");
    stage.lab.close_all();
    running.write(b"\n").unwrap();
    running.finish().expect_status(0);
}

#[test]
fn nothing_that_the_master_starts_for_routes_sees_the_tools_variables() {
    if !root_for("namespaces") {
        return;
    }
    let stage = Stage::new();
    let before = ["-F", &stage.config(), "--route", "a=asked", "--route", "p=proxied"];
    run_and_reconnect(&stage, stage.tool(&before, &ENTER, &twice("a p")));
    let before = ["--route", "engine=docker:app", "--route", "here=local"];
    run_and_reconnect(&stage, stage.tool(&before, &ENTER, &twice("engine here")));
    stage.expect_own_environment_only(&["settings", "relay", "docker"]);
    stage.lab.expect_nothing_left();
}

#[test]
fn nothing_that_the_master_starts_for_a_destination_sees_the_tools_variables() {
    if !root_for("namespaces") {
        return;
    }
    let stage = Stage::new();
    let before = ["-F", &stage.config(), "proxied"];
    run_and_reconnect(&stage, stage.tool(&before, &ENTER, &twice("remote")));
    stage.expect_own_environment_only(&["settings", "relay"]);
    stage.lab.expect_nothing_left();
}

#[test]
fn a_tool_on_a_target_changes_nothing_for_the_programs_here() {
    if !root_for("namespaces") {
        return;
    }
    let stage = Stage::new();
    let routes = ["--route", "a=asked", "--route", "p=proxied"];
    let config = stage.config();
    let before = [&["-F", &config, "--on", "remote"], &routes[..]].concat();
    let script = twice("a p");
    let mut running = stage.tool(&before, &[], &script).input_open().start();
    running.wait_for_output("closing\n");
    stage.lab.fakessh(["close", "asked", "proxied"]).run().expect_status(0);
    running.write(b"\n").unwrap();
    running.finish().expect_status(0).expect_out("a\np\nclosing\na\np\n");
    let seen = fs::read_to_string(&stage.seen).unwrap();
    assert!(!seen.contains(&*stage.theirs.to_string_lossy()), "{seen}");
}

#[test]
fn variables_that_a_tool_sends_still_reach_the_program() {
    let lab = Lab::start();
    let script = "LC_ONE=1 ssh -oSendEnv=LC_ONE -oSetEnv=LC_TWO=2 remote 'echo $LC_ONE $LC_TWO'";
    lab.run(["remote"], ["sh", "-c", script]).run().expect_status(0).expect_out("1 2\n");
}
