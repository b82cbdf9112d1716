//! How runs end, and what is left of them then: nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fakessh_lab::{GUARD, wait_until};
use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::failure::Failure;
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{ToShim, ToSlave};
use rustix::process::{Pid, Resource, Rlimit};

use crate::master::{Fifo, Master, Witness, command};
use crate::reverse::Scratch;

impl Master {
    /// The run directories of this slave.
    pub(crate) fn run_directories(&self) -> Vec<String> {
        run_directories(self.child.id())
    }

    /// Waits until there are none.
    pub(crate) fn until_no_run_directory(&mut self) {
        until_none(self.child.id());
    }

    /// Whether a program is refused, and does not run to its end.
    fn is_refused(&mut self, line: &str) -> bool {
        let SessionHandles { control, .. } = self.shell(line);
        self.until("an answer", |master| {
            master.refusals.contains_key(&control) || master.exits.contains_key(&control)
        });
        self.refusals.contains_key(&control)
    }

    /// Waits until the slave has no more children than these, its guardian included. A program
    /// that has ended for all others to see is yet to be reaped.
    fn until_children(&mut self, most: usize) {
        let begun = Instant::now();
        while self.children().len() > most {
            assert!(begun.elapsed() < GUARD, "{:?}", self.children());
            assert_eq!(self.run("true", b"").0, ExitStatus::Code(0));
        }
    }
}

fn run_directories(pid: u32) -> Vec<String> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let places = ["/dev/shm", "/tmp", "/var/tmp"].map(PathBuf::from).into_iter().chain(runtime);
    let entries = places.flat_map(|place| std::fs::read_dir(place).into_iter().flatten());
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("fakessh-run-{pid}-"))).collect()
}

/// Waits until a directory is empty.
pub(crate) fn until_nothing_is_in(directory: &Path) {
    wait_until(
        || std::fs::read_dir(directory).unwrap().next().is_none(),
        "something is left in it",
    );
}

fn until_none(pid: u32) {
    wait_until(|| run_directories(pid).is_empty(), "a run directory is left");
}

#[test]
fn a_run_directory_lives_as_long_as_its_tool() {
    let mut master = Master::start();
    let tool = master.tool_shell("echo up; read go");
    master.until("up", |master| master.text(tool.stdout) == "up\n");
    assert_eq!(master.run_directories().len(), 1);
    master.send(tool.stdin, b"go\n");
    master.tool_succeeds(tool);
    master.until_no_run_directory();
    let tool = master.tool_shell("kill -9 $$");
    assert_eq!(master.exit(tool), ExitStatus::Signal(9));
    master.until_no_run_directory();
}

#[test]
fn what_outlives_the_tool_keeps_its_ssh() {
    let mut master = Master::start();
    let gate = Fifo::new("outlives");
    let said = Scratch::new("outlives-said");
    let over = Witness::new("outlives-over");
    let line = format!(
        "({}; read x <{}; command -v ssh; ssh far x </dev/null; echo $?) >{said} 2>&1 &",
        over.hold(),
        gate.path.display()
    );
    let tool = master.tool_shell(&line);
    master.tool_succeeds(tool);
    assert_eq!(master.run_directories().len(), 1);
    gate.release();
    let start = master.next_reverse();
    assert_eq!(start.tool, tool.control);
    // The master decides whether it still serves it.
    master.mux.stop(start.handles.stdin);
    master.mux.reset(start.handles.stdout);
    master.mux.reset(start.handles.stderr);
    master.outcome(start.handles, ToShim::Failed(Failure::other("the run is over")));
    master.until("sent", |master| master.is_flushed());
    over.wait();
    until_none(master.child.id());
    let said = String::from_utf8(said.content()).unwrap();
    assert!(said.contains("fakessh-run-"), "{said}");
    assert!(said.ends_with("fakessh: the run is over\n255\n"), "{said}");
}

#[test]
fn a_hangup_of_the_tool_ends_its_run() {
    let mut master = Master::start();
    let witness = Witness::new("tool-hangup");
    let line = format!("{}; trap '' HUP; ssh far x; echo $? >&9; sleep 1000", witness.hold());
    let tool = master.tool_shell(&line);
    let handles = master.next_reverse().handles;
    master.message(tool, &ToSlave::Hangup);
    master.until("the session's end", |master| master.gone == [handles.control]);
    master.exit(tool);
    witness.wait();
    assert_eq!(master.run_directories(), [""; 0]);
    master.until_children(1);
}

#[test]
fn the_end_of_the_link_ends_runs() {
    let mut master = Master::start();
    let witness = Witness::new("tool-link");
    // One of everything: a porter that waits for input, one that can't write, a detached shim.
    let line = format!("{}; sleep 1000 | ssh far x & setsid ssh far y & wait", witness.hold());
    master.tool_shell(&line);
    let sessions = [(); 2].map(|()| master.next_reverse().handles);
    for handles in sessions {
        master.send(handles.stdout, &[b'x'; 1_000_000]);
    }
    master.to_slave = None;
    assert_eq!(master.until_closed().code(), Some(0));
    witness.wait();
    assert_eq!(master.run_directories(), [""; 0]);
}

#[test]
fn a_slave_that_is_killed_leaves_nothing_of_its_runs() {
    let mut master = Master::start();
    let witness = Witness::new("tool-killed");
    let line = format!("{}; sleep 1000 | ssh far x; sleep 1000", witness.hold());
    master.tool_shell(&line);
    master.next_reverse();
    let other = master.tool_shell("echo up; sleep 1000");
    master.until("up", |master| master.text(other.stdout) == "up\n");
    assert_eq!(master.run_directories().len(), 2);
    master.child.kill().unwrap();
    master.child.wait().unwrap();
    // Porters hold descriptors of the tool: they are gone as well.
    witness.wait();
    until_none(master.child.id());
}

#[test]
fn a_slave_with_waiting_sessions_is_idle() {
    let mut master = Master::start();
    let _tool = master.tool_shell("sleep 1000 | ssh far x | cat & ssh far y <&0 & wait");
    for _ in 0..2 {
        let handles = master.next_reverse().handles;
        master.send(handles.stdout, b"some");
    }
    master.until("sent", |master| master.is_flushed());
    assert_eq!(master.run("echo between", b"").1, "between\n");
    // How often it went to sleep, and how often it had to make room for others.
    let switches = || {
        let path = format!("/proc/{}/status", master.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    // It may still have had something to do. One that looks again and again is never seen idle.
    let is_idle = || {
        master.until_the_slave_sleeps();
        let before = switches();
        assert_eq!(before.len(), 2);
        std::thread::sleep(Duration::from_millis(300));
        switches() == before
    };
    wait_until(is_idle, "it wakes and nothing has come");
}

#[test]
fn no_child_and_no_descriptor_is_left_of_a_session() {
    let mut master = Master::start();
    let input = Scratch::with("left-in", b"in");
    let output = Scratch::new("left-out");
    let descriptors = |master: &Master| {
        std::fs::read_dir(format!("/proc/{}/fd", master.child.id())).unwrap().count()
    };
    let mut before = None;
    for _ in 0..3 {
        let tool = master.tool_shell(&format!("ssh far x <{input} >{output} 2>>{output}; cat"));
        let handles = master.next_reverse().handles;
        master.answer(handles, b"out", ExitStatus::Code(0));
        master.mux.finish(tool.stdin);
        master.tool_succeeds(tool);
        master.until_no_run_directory();
        master.until_children(1);
        // When this has been answered, all is closed that belonged to them.
        assert_eq!(master.run("true", b"").0, ExitStatus::Code(0));
        let now = descriptors(&master);
        assert_eq!(*before.get_or_insert(now), now);
    }
}

#[test]
fn no_porter_is_left_of_a_session_that_failed() {
    let mut master = Master::start();
    // Somebody who never reads.
    let fifo = Fifo::new("failed");
    let path = fifo.path.display();
    let line = format!("sleep 1000 <{path} & ssh far x >{path}; echo $?; read go; kill $!");
    let tool = master.tool_shell(&line);
    let handles = master.next_reverse().handles;
    master.send(handles.stdout, &[b'x'; 200_000]);
    master.until("all is sent", |master| master.unsent(handles.stdout) == 0);
    master.mux.reset(handles.stdout);
    master.mux.reset(handles.stderr);
    master.outcome(handles, ToShim::Failed(Failure::other("it was lost")));
    master.until("the shim's end", |master| master.text(tool.stdout) == "255\n");
    // The guardian and the tool.
    master.until_children(2);
    master.send(tool.stdin, b"go\n");
    master.tool_succeeds(tool);
}

#[test]
fn garbage_on_a_runs_sockets_harms_nobody() {
    let mut master = Master::start();
    let script = "import array, os, socket, struct, sys
run = socket.socket(fileno=int(os.environ['FAKESSH_FD'].split(':')[0]))
def door():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(os.environ['FAKESSH_SOCKET'])
    return s
def send(s, data, fds):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
    try: s.sendmsg([data], rights)
    except BrokenPipeError: pass
idle = [door() for _ in range(20)]
pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
for data in (b'', b'x', b'\\0', b'\\0' + b'garbage' * 100, b'\\1', b'\\7', os.urandom(60000)):
    for fds in ([], [0], [0, 1, 2, pair[1].fileno()], [2] * 8, [2] * 100, [run.fileno()]):
        for make in (lambda: run, door):
            send(make(), data, fds)
# A handoff without its descriptors, and with the wrong ones.
os.system('ssh far x </dev/null')
";
    let script = Scratch::with("garbage", script.as_bytes());
    let tool = master.tool(&["python3", script.path.to_str().unwrap()]);
    let handles = master.next_reverse().handles;
    master.answer(handles, b"fine\n", ExitStatus::Code(0));
    assert_eq!(master.tool_succeeds(tool), "fine\n");
    assert!(master.reverse.is_empty());
    master.until_no_run_directory();
    assert_eq!(master.run("echo fine", b"").1, "fine\n");
}

#[test]
fn a_flood_of_messages_fills_no_memory() {
    let mut master = Master::start();
    // The handoff of a real shim, and then its socket used by somebody who never stops. Nobody
    // reads the link meanwhile.
    let script = "import os, select, socket, subprocess, sys
sys.excepthook = lambda *why: open(sys.argv[1], 'w').write(str(why))
here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
environment = dict(os.environ, FAKESSH_FD='%d:%d' % (there.fileno(), os.fstat(there.fileno()).st_ino))
p = subprocess.Popen(['ssh', 'far', 'x'], env=environment, pass_fds=[there.fileno()], stdin=subprocess.DEVNULL)
handoff, fds, _, _ = socket.recv_fds(here, 100000, 8)
near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
null = os.open('/dev/null', os.O_RDWR)
is_socket = lambda fd: os.fstat(fd).st_mode & 0o170000 == 0o140000
fds = [far.fileno() if is_socket(fd) else null for fd in fds]
run = socket.socket(fileno=int(os.environ['FAKESSH_FD'].split(':')[0]))
socket.send_fds(run, [handoff], fds)
signal = b'\\0\\1\\x0f'
print('begins', flush=True)
near.setblocking(False)
sent = 0
while select.select([], [near], [], 2)[1]:
    try: near.send(signal); sent += 1
    except BlockingIOError: pass
    if sent == 2000000: break
open(sys.argv[1], 'w').write('stalled' if sent < 2000000 else 'all taken')
os._exit(0)
";
    let told = Fifo::new("flood-told");
    let script = Scratch::with("flood", script.as_bytes());
    let script = script.path.to_str().unwrap();
    let tool = master.tool(&["python3", script, told.path.to_str().unwrap()]);
    master.next_reverse();
    master.until("the beginning", |master| master.text(tool.stdout).starts_with("begins"));
    let before = master.memory("VmRSS");
    assert_eq!(std::fs::read_to_string(&told.path).unwrap(), "stalled");
    let after = master.memory("VmRSS");
    assert!(after < before + 8_000_000, "{before} {after}");
    assert_eq!(master.tool_succeeds(tool), "begins\n");
    assert_eq!(master.run("echo fine", b"").1, "fine\n");
}

#[test]
fn at_the_limit_of_descriptors_a_shim_is_told_so() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    let slave = command();
    shell.arg(slave.get_program()).args(slave.get_args());
    let mut master = Master::start_with(shell);
    let tool = master.tool_shell(
        "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do ssh far $n </dev/null >/dev/null & done; \
         ssh far 2>&1 </ >/dev/full & wait",
    );
    master.until("a refusal", |master| {
        master.text(tool.stderr).contains("limit of open descriptors")
    });
    // Those that got in, and those that come when these have let descriptors go.
    while !master.exits.contains_key(&tool.control) {
        for start in std::mem::take(&mut master.reverse) {
            master.answer(start.handles, b"", ExitStatus::Code(0));
        }
        master.until("a reverse session or the tool's end", |master| {
            !master.reverse.is_empty() || master.exits.contains_key(&tool.control)
        });
    }
    // Others have room again, as soon as what the last ones had is closed.
    let begun = Instant::now();
    while master.is_refused("true") {
        assert!(begun.elapsed() < GUARD, "nothing has been closed");
    }
}

#[test]
fn who_comes_by_the_door_at_the_limit_is_told_so_too() {
    let mut master = Master::start();
    let tool = master.tool_shell("read go; env -u FAKESSH_FD ssh far x </dev/null; echo $?");
    master.until("sent", |master| master.is_flushed());
    assert_eq!(master.run("echo between", b"").1, "between\n");
    master.until_the_slave_sleeps();
    // Not one is left but the reserve.
    let open = format!("/proc/{}/fd", master.child.id());
    let limit = (0..).find(|fd| std::fs::read_link(format!("{open}/{fd}")).is_err());
    let limit = Rlimit { current: limit, maximum: limit };
    let slave = Some(Pid::from_child(&master.child));
    rustix::process::prlimit(slave, Resource::Nofile, limit).unwrap();
    master.send(tool.stdin, b"go\n");
    assert_eq!(master.tool_succeeds(tool), "255\n");
    let said = master.text(tool.stderr);
    assert!(said.contains("limit of open descriptors"), "{said}");
}
