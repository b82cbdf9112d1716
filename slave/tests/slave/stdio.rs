//! What a shim's standard descriptors may be, and that they stay what they were.

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::failure::Failure;
use fakessh_protocol::message::ToShim;

use crate::master::Master;
use crate::reverse::Scratch;

/// Runs `ssh` from Python, which can make all kinds of descriptors; the far end is `cat`. Returns
/// what the script printed.
fn python(master: &mut Master, name: &str, script: &str, echoed: usize) -> String {
    let script = Scratch::with(name, script.as_bytes());
    let tool = master.tool(&["python3", script.path.to_str().unwrap()]);
    let handles = master.next_reverse().handles;
    assert_eq!(master.echo_reverse(handles), echoed);
    master.answer(handles, b"", ExitStatus::Code(0));
    master.tool_succeeds(tool)
}

#[test]
fn sockets_serve_and_stay_as_they_are() {
    let mut master = Master::start();
    // As rsync does it: one socket pair a direction, our side non-blocking.
    for blocking in ["True", "False"] {
        let script = format!(
            "import fcntl, os, socket, subprocess, threading
ours_in, theirs_in = socket.socketpair()
ours_out, theirs_out = socket.socketpair()
for s in (theirs_in, theirs_out): s.setblocking({blocking})
flags = lambda: [fcntl.fcntl(s, fcntl.F_GETFL) for s in (theirs_in, theirs_out)]
before = flags()
p = subprocess.Popen(['ssh', 'far', 'cat'], stdin=theirs_in, stdout=theirs_out)
data = os.urandom(3000000)
def feed():
    ours_in.sendall(data)
    ours_in.shutdown(socket.SHUT_WR)
t = threading.Thread(target=feed); t.start()
back = bytearray()
while len(back) < len(data): back += ours_out.recv(65536)
assert flags() == before
t.join()
status = p.wait()
theirs_in.close(); theirs_out.close()
assert ours_out.recv(1) == b''
print(bytes(back) == data, status)
"
        );
        assert_eq!(python(&mut master, "sockets", &script, 3_000_000), "True 0\n");
    }
}

#[test]
fn a_socket_passes_what_comes_at_once_and_holds_nobody_up() {
    let mut master = Master::start();
    let script = "import socket, subprocess
ours, theirs = socket.socketpair()
p = subprocess.Popen(['ssh', 'far', 'cat'], stdin=theirs, stdout=theirs)
theirs.close()
for n in range(100):
    ours.sendall(b'question')
    assert ours.recv(8) == b'question'
input()
ours.shutdown(socket.SHUT_WR)
while ours.recv(100000): pass
print(p.wait())
";
    let script = Scratch::with("at-once", script.as_bytes());
    let tool = master.tool(&["python3", script.path.to_str().unwrap()]);
    let handles = master.next_reverse().handles;
    for n in 1..=100 {
        master.until("a question", |master| master.of(handles.stdin).len == n * 8);
        master.send(handles.stdout, b"question");
    }
    // More than the socket and the pipe hold: its reader does not read, and others go on.
    master.send(handles.stdout, &[b'x'; 1_500_000]);
    let window = fakessh_protocol::mux::INITIAL_WINDOW as usize;
    master.until("a full socket", |master| master.unsent(handles.stdout) + window <= 1_500_000);
    for _ in 0..20 {
        assert_eq!(master.run("cat", b"free").1, "free");
    }
    master.until_the_slave_sleeps();
    master.send(tool.stdin, b"go\n");
    master.until("the end of input", |master| master.of(handles.stdin).ended);
    master.answer(handles, b"", ExitStatus::Code(0));
    assert_eq!(master.tool_succeeds(tool), "0\n");
}

#[test]
fn one_socket_may_be_both() {
    let mut master = Master::start();
    let script = "import socket, subprocess
ours, theirs = socket.socketpair()
p = subprocess.Popen(['ssh', 'far', 'cat'], stdin=theirs, stdout=theirs)
theirs.close()
ours.sendall(b'both ways')
ours.shutdown(socket.SHUT_WR)
back = b''
while True:
    piece = ours.recv(100)
    if not piece: break
    back += piece
print(back.decode(), p.wait())
";
    assert_eq!(python(&mut master, "one-socket", script, 9), "both ways 0\n");
}

#[test]
fn pipes_stay_as_they_are() {
    let mut master = Master::start();
    let script = "import fcntl, os, subprocess
ends = os.pipe() + os.pipe() + os.pipe()
flags = lambda: [fcntl.fcntl(e, fcntl.F_GETFL) for e in ends]
size = lambda: [fcntl.fcntl(e, fcntl.F_GETPIPE_SZ) for e in ends]
before, sizes = flags(), size()
p = subprocess.Popen(['ssh', 'far', 'cat'], stdin=ends[0], stdout=ends[3], stderr=ends[5])
os.write(ends[1], b'through')
assert os.read(ends[2], 100) == b'through'
assert flags() == before and size() == sizes
os.close(ends[1])
print(p.wait())
";
    assert_eq!(python(&mut master, "pipes", script, 7), "0\n");
}

#[test]
fn two_that_share_an_input_lose_and_double_nothing() {
    let mut master = Master::start();
    let tool = master.tool_shell(
        "exec 3<&0; ssh far one <&3 & ssh far two <&3 & wait; echo over; exec 3<&-; cat",
    );
    let [one, two] = [(); 2].map(|()| master.next_reverse().handles);
    let mut sent = Vec::new();
    for number in 0..200_000_u32 {
        sent.extend(format!("{number:06}\n").into_bytes());
    }
    master.send(tool.stdin, &sent);
    master.mux.finish(tool.stdin);
    for handles in [one, two] {
        master.until("the end", |master| {
            assert!(!master.of(handles.stdin).reset);
            master.of(handles.stdin).ended
        });
    }
    assert_eq!(master.of(one.stdin).len + master.of(two.stdin).len, sent.len());
    for handles in [one, two] {
        master.answer(handles, b"", ExitStatus::Code(0));
    }
    assert_eq!(master.tool_succeeds(tool), "over\n");
}

#[test]
fn files_are_read_from_and_written_to_where_they_stand() {
    let mut master = Master::start();
    let input = Scratch::with("file-in", b"skipped\nread\n");
    let output = Scratch::with("file-out", b"before\n");
    let line = format!(
        "exec <{input} >>{output} 2>&1; read skipped; exec 3<&0; ssh far cat; echo after $?"
    );
    let tool = master.tool(&["bash", "-c", &line]);
    let handles = master.next_reverse().handles;
    master.echo_reverse(handles);
    master.send(handles.stderr, b"error\n");
    master.answer(handles, b"", ExitStatus::Code(4));
    assert_eq!(master.exit(tool), ExitStatus::Code(0));
    let text = String::from_utf8(output.content()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[3]), ("before", "after 4"), "{text}");
    lines.sort_unstable();
    assert_eq!(lines, ["after 4", "before", "error", "read"]);
}

#[test]
fn one_file_for_both_outputs_loses_nothing() {
    let mut master = Master::start();
    let output = Scratch::new("both-out");
    let tool = master.tool_shell(&format!("ssh far x >{output} 2>&1 </dev/null"));
    let handles = master.next_reverse().handles;
    for _ in 0..500 {
        master.send(handles.stdout, &b"o\n".repeat(1000));
        master.send(handles.stderr, &b"e\n".repeat(1000));
    }
    master.answer(handles, b"", ExitStatus::Code(0));
    assert_eq!(master.exit(tool), ExitStatus::Code(0));
    let content = output.content();
    let count = |letter| content.iter().filter(|byte| **byte == letter).count();
    assert_eq!((count(b'o'), count(b'e')), (500_000, 500_000));
}

#[test]
fn what_leads_nowhere_is_neither_waited_for_nor_failed() {
    let mut master = Master::start();
    let lines = [
        "ssh far x </dev/null >/dev/null 2>/dev/null",
        "ssh -n far x >/dev/null 2>&1",
        "ssh far x <&- >&- 2>&-",
        // nohup's.
        "ssh far x 0>/dev/null 1>/dev/null",
    ];
    for line in lines {
        let tool = master.tool_shell(&format!("{line}; echo $?"));
        let handles = master.next_reverse().handles;
        master.until("the end of input", |master| master.of(handles.stdin).ended);
        master.send(handles.stdout, &[b'x'; 1_000_000]);
        master.answer(handles, b"", ExitStatus::Code(5));
        assert_eq!(master.tool_succeeds(tool), "5\n", "{line}");
    }
}

#[test]
fn a_named_pipe_whose_writer_has_gone_ends() {
    let mut master = Master::start();
    let fifo = Scratch::new("named");
    let line = format!("mkfifo {fifo}; (echo in >{fifo}) & ssh far x <{fifo}; echo $?");
    let tool = master.tool_shell(&line);
    let handles = master.next_reverse().handles;
    master.until("the end of input", |master| master.of(handles.stdin).ended);
    assert_eq!(master.text(handles.stdin), "in\n");
    master.answer(handles, b"", ExitStatus::Code(0));
    assert_eq!(master.tool_succeeds(tool), "0\n");
}

#[test]
fn what_can_not_be_read_or_written_fails_the_session() {
    let mut master = Master::start();
    let tool = master.tool_shell("ssh far x </; echo $?");
    let handles = master.next_reverse().handles;
    master.until("a cut", |master| master.of(handles.stdin).reset);
    master.mux.reset(handles.stdout);
    master.mux.reset(handles.stderr);
    master.outcome(handles, ToShim::Failed(Failure::other("it was cut")));
    assert_eq!(master.tool_succeeds(tool), "255\n");
    assert!(master.text(tool.stderr).contains("standard input"), "{}", master.text(tool.stderr));

    let tool = master.tool_shell("ssh far x >/dev/full </dev/null; echo $?");
    let handles = master.next_reverse().handles;
    master.send(handles.stdout, b"lost");
    master.answer(handles, b"", ExitStatus::Code(0));
    assert_eq!(master.tool_succeeds(tool), "255\n");
    assert!(master.text(tool.stderr).contains("standard output"), "{}", master.text(tool.stderr));
}

#[test]
fn a_terminal_serves() {
    let mut master = Master::start();
    let script = "import os, pty, subprocess
far, near = pty.openpty()
os.set_blocking(near, True)
p = subprocess.Popen(['ssh', 'far', 'x'], stdin=subprocess.DEVNULL, stdout=near, stderr=near)
text = b''
while b'end' not in text: text += os.read(far, 1000)
print(text.count(b'line'), p.wait(), os.get_blocking(near))
";
    let script = Scratch::with("terminal", script.as_bytes());
    let tool = master.tool(&["python3", script.path.to_str().unwrap()]);
    let handles = master.next_reverse().handles;
    master.answer(handles, &[&b"line\n".repeat(5000)[..], b"end\n"].concat(), ExitStatus::Code(0));
    assert_eq!(master.tool_succeeds(tool), "5000 0 True\n");
}

#[test]
fn the_last_byte_is_written_before_the_shim_ends() {
    let mut master = Master::start();
    let output = Scratch::new("last-byte");
    for _ in 0..20 {
        let tool = master.tool_shell(&format!("ssh far x >{output} </dev/null; wc -c <{output}"));
        let handles = master.next_reverse().handles;
        master.answer(handles, &[b'x'; 300_000], ExitStatus::Code(0));
        assert_eq!(master.tool_succeeds(tool).trim(), "300000");
    }
}
