//! A person at a terminal stops, continues and interrupts what runs there.

use fakessh_lab::process::Process;
use fakessh_lab::{Client, Gate, Lab, SharedLab, Shell, binary, both_clients, wait_until};
use rustix::process::Signal;

static LAB: SharedLab = SharedLab::new(Lab::start);

/// `fakessh run` with this tool, as it is typed.
fn run(lab: &Lab, tool: &str) -> String {
    let (program, config) = (binary::fakessh(), lab.config_path());
    format!("{} run -F {} remote -- {tool}", program.display(), config.display())
}

/// A tool of the lab, written in Python, as it is typed.
fn python(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.local_dir("tools").join(name);
    std::fs::write(&path, text).unwrap();
    format!("python3 {}", path.display())
}

/// The process whose id is shown next, as `name=ID;`.
fn process(terminal: &mut Shell, name: &str) -> Process {
    terminal.shows(&format!("{name}="));
    let shown = terminal.shows(";");
    let pid = shown.trim_end_matches(';').parse();
    Process::open(pid.unwrap_or_else(|error| panic!("{error}: {shown:?}"))).unwrap()
}

both_clients! {
    fn sftp_goes_on_after_it_was_stopped(client) {
        let lab = LAB.get();
        let mut terminal = Shell::start(&lab);
        let sftp = match client {
            Client::Ssh => format!("{}/bin/sftp -q remote", lab.dir().display()),
            Client::Fakessh => run(&lab, "sftp -q remote"),
        };
        terminal.types(&format!("{sftp}\n"));
        terminal.shows("sftp> ");
        let job = terminal.job();
        for round in 0..10 {
            // No person stops a job milliseconds after it was continued. `fakessh run` could take
            // the new stop for the old one, and pass the SIGCONT on that it has just got.
            job.wait_until_idle();
            terminal.types("\x1a");
            terminal.shows("Stopped");
            terminal.shows("$ ");
            assert_eq!(job.state(), 'T');
            terminal.types("fg\n");
            // So bash shows what it continues.
            terminal.shows("sftp -q remote");
            terminal.types("pwd\n");
            let (place, shown) = terminal.shows_one_of(&["Remote working directory", "Stopped"]);
            assert_eq!(place, 0, "stopped again in round {round}: {shown:?}");
            terminal.shows("sftp> ");
        }
        terminal.types("exit\n");
        terminal.shows("$ ");
        terminal.exit();
    }
}

#[test]
fn a_job_is_stopped_when_its_tool_is_and_not_before() {
    let lab = LAB.get();
    let gate = Gate::new(&lab);
    // A tool that has something to do before it stops.
    let text = r#"
import os, signal, sys, time
def stop(number, frame):
    os.write(1, b"parent=%d;" % os.getppid())
    open(sys.argv[1]).read()
    os.kill(os.getpid(), signal.SIGSTOP)
signal.signal(signal.SIGTSTP, stop)
signal.signal(signal.SIGCONT, lambda number, frame: os.write(1, b"continued\n"))
print("it runs", flush=True)
sys.stdin.readline()
print("over", flush=True)
"#;
    let tool = format!("{} {}", python(&lab, "slow", text), gate.path());
    let mut terminal = Shell::start(&lab);
    terminal.types(&format!("{}; echo status=$?\n", run(&lab, &tool)));
    terminal.shows("it runs");
    terminal.types("\x1a");
    let fakessh = process(&mut terminal, "parent");
    assert_ne!(fakessh.state(), 'T', "it stopped before its tool");
    gate.open("");
    terminal.shows("Stopped");
    terminal.shows("$ ");
    assert_eq!(fakessh.state(), 'T');
    terminal.types("fg\n");
    terminal.shows("continued");
    terminal.types("\n");
    terminal.shows("over");
    terminal.shows("$ ");
    terminal.exit();
}

#[test]
fn a_signal_of_the_terminal_reaches_a_tool_once_and_one_of_a_process_too() {
    let lab = LAB.get();
    let text = r#"
import os, signal, sys
counts = {signal.SIGINT: 0, signal.SIGQUIT: 0}
def signalled(number, frame):
    counts[number] += 1
    os.write(1, b"%s\n" % signal.Signals(number).name.encode())
for number in counts:
    signal.signal(number, signalled)
os.write(1, b"parent=%d;" % os.getppid())
for line in sys.stdin:
    os.write(1, b"counts %d %d\n" % tuple(counts.values()))
"#;
    let mut terminal = Shell::start(&lab);
    terminal.types(&format!("{}\n", run(&lab, &python(&lab, "counts", text))));
    let fakessh = process(&mut terminal, "parent");
    terminal.types("\x03");
    terminal.shows("SIGINT");
    // Another signal: the same one would be lost where the first is still pending (signal(7)). If
    // that was passed on, it came before this one.
    fakessh.signal(Signal::QUIT);
    terminal.shows("SIGQUIT");
    terminal.types("\n");
    terminal.shows("counts 1 1");
    terminal.types("\x04");
    terminal.shows("$ ");
    terminal.exit();
}

#[test]
fn an_interrupt_of_fakessh_run_alone_is_the_tools() {
    let lab = LAB.get();
    for (signal, code) in [(Signal::INT, 130), (Signal::QUIT, 131), (Signal::TERM, 143)] {
        let script = "ulimit -c 0; echo $$; exec sleep 1000";
        let mut running = lab.tool(Client::Fakessh, ["sh", "-c", script]).start();
        let tool = running.read_line().unwrap().parse().unwrap();
        let tool = Process::open(tool).unwrap();
        wait_until(|| tool.command_now().starts_with("sleep"), "the tool is not there");
        tool.parent().unwrap().signal(signal);
        running.finish().expect_status(code);
    }
}

#[test]
fn who_stops_fakessh_run_stops_the_tool_and_who_continues_it_continues_it() {
    let lab = LAB.get();
    // In a group of its own below a shell, as a job is: the kernel stops no orphaned group.
    let script = r#"
import os, signal, subprocess, sys
job = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=os.setpgrp)
tool = int(job.stdout.readline())
state = lambda pid: open("/proc/%d/stat" % pid).read().rsplit(") ")[1][0]
os.kill(job.pid, signal.SIGTSTP)
_, status = os.waitpid(job.pid, os.WUNTRACED)
print(os.WIFSTOPPED(status), state(tool), flush=True)
os.kill(job.pid, signal.SIGCONT)
job.stdin.write(b"on\n")
job.stdin.close()
print(job.stdout.read().decode().strip(), job.wait())
"#;
    let words = run(&lab, "sh -c 'echo $$; read line; echo went $line'");
    let command = format!("exec python3 -c '{}' {words}", script.replace('\'', "'\\''"));
    let done = lab.program(["sh", "-c", &command]).run();
    done.expect_status(0).expect_out("True T\nwent on 0\n");
}
