//! What a session's caller gives it as standard input and output when that is broken, unreadable
//! or wanted back: fail closed, and hold on to nothing.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use fakessh_lab::{Client, Gate, Lab, SharedLab, both_clients};
use rustix::net::sockopt::set_socket_linger;

static LAB: SharedLab = SharedLab::new(Lab::start);

both_clients! {
    /// So does nohup(1) make it.
    fn an_input_that_is_not_open_for_reading_is_empty(client) {
        let script = "ssh remote 'cat; echo end; exit 3' 0>/dev/null";
        let done = LAB.get().tool(client, ["sh", "-c", script]).run();
        done.expect_status(3).expect_out("end\n").expect_err("");
    }

    fn an_output_that_is_not_open_for_writing_is_no_trouble_where_nothing_is_written(client) {
        let done = LAB.get().tool(client, ["sh", "-c", "ssh remote true >&0 </dev/null"]).run();
        done.expect_status(0).expect_err("");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_no_success() {
    let lab = LAB.get();
    for (script, stream) in [
        ("ssh remote 'head -c 20000 /dev/zero' >/dev/full", "output: no space"),
        ("ssh remote 'head -c 20000 /dev/zero; sleep 0; exit 0' >/dev/full", "output: no space"),
        ("ssh remote 'echo out' >&0 </dev/null", "output: bad file descriptor"),
    ] {
        let done = lab.tool(Client::Fakessh, ["bash", "-c", script]).run();
        done.expect_fault(255, &["remote: writing standard", stream]);
    }
}

#[test]
fn an_input_that_breaks_is_no_end_of_file() {
    let lab = LAB.get();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let told = Gate::new(&lab);
    let command = format!("exec 9>{}; head -c 5; cat >/dev/null; echo whole >&9", told.path());
    let told = std::thread::spawn(move || told.read());
    let tool = lab.tool(Client::Fakessh, ["ssh", "remote", &command]);
    let running = tool.stdin(far).start();
    near.write_all(b"begin").unwrap();
    running.wait_for_output("begin");
    // Without a rest to send, closing resets the connection.
    set_socket_linger(&near, Some(Duration::ZERO)).unwrap();
    drop(near);
    // All that it says, until the last process of it is gone.
    assert_eq!(told.join().unwrap(), "");
    running.finish().expect_fault(255, &["remote: reading standard input: connection reset"]);
}

/// Such an input fails though nobody can tell whether the program would ever have read it.
#[test]
fn an_input_that_cannot_be_read_is_refused() {
    let lab = LAB.get();
    // Of a process' memory, what is at 0 can't be read.
    for (path, why) in [("/", "is a directory"), ("/proc/self/mem", "input/output error")] {
        let tool = lab.tool(Client::Fakessh, ["ssh", "remote", "cat"]);
        let done = tool.stdin(File::open(path).unwrap()).run();
        done.expect_fault(255, &["remote: reading standard input:", why]);
    }
}

both_clients! {
    fn a_connection_that_is_only_kept_holds_no_output(client) {
        let script = "c=$TMPDIR/kept-$$; x=$(ssh -M -S $c -f -N remote); echo \"went on$x\"; \
                      ssh -S $c -O exit remote 2>/dev/null";
        let done = LAB.get().tool(client, ["bash", "-c", script]).run();
        done.expect_status(0).expect_out("went on\n").expect_err("");
    }

    fn what_keeps_a_connection_is_ended_by_its_own_path_alone(client) {
        let lab = LAB.get();
        let script = "c=$TMPDIR/alone-$$; ssh -M -S $c -N -oPermitLocalCommand=yes \
                      -oLocalCommand='echo kept' remote & \
                      read line; ssh remote true; ssh -O exit remote 2>/dev/null; \
                      kill -0 $! && echo alive; \
                      ssh -S $c -O exit remote 2>/dev/null; wait $!; echo ended with $?";
        let mut keeping = lab.tool(client, ["bash", "-c", script]).input_open().start();
        assert_eq!(keeping.read_line().as_deref(), Some("kept"));
        keeping.write(b"\n").unwrap();
        keeping.finish().expect_status(0).expect_out("kept\nalive\nended with 255\n");
    }
}
