//! A slave at the far end of a helper: the near slave's session is its link.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread::JoinHandle;

use fakessh_protocol::exit::ExitStatus;
use fakessh_protocol::handles::SessionHandles;
use fakessh_protocol::message::{Helper, HelperTerminal, ProgramKind};
use rustix::net::RecvFlags;

use crate::master::{MARKER, Master};

/// Most bytes that wait for the near link.
const AHEAD: usize = 1024 * 1024;

/// A helper that carries.
pub(crate) fn carrying(argv: &[&str], terminal: HelperTerminal) -> ProgramKind {
    helper(argv, terminal, true)
}

pub(crate) fn helper(argv: &[&str], terminal: HelperTerminal, carries: bool) -> ProgramKind {
    let argv = argv.iter().map(|word| word.as_bytes().to_vec()).collect();
    ProgramKind::Helper(Helper { argv, terminal, carries })
}

/// A script that starts the slave that comes on its standard input. It holds no single quote.
pub(crate) fn start() -> String {
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_fakessh-slave")).unwrap().len();
    format!(
        "u=$(umask); umask 077; d=$(mktemp -d); head -c {size} >$d/slave; chmod 700 $d/slave; \
         exec $d/slave {MARKER} $u $d"
    )
}

/// The far master, and the near one at work behind it.
pub(crate) struct Far {
    pub(crate) master: Master,
    near: JoinHandle<(Master, ExitStatus)>,
}

impl Far {
    /// Speaks with the slave that a session of the near one starts.
    pub(crate) fn over(mut near: Master, handles: SessionHandles) -> Far {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let near = std::thread::spawn(move || {
            let status = bridge(&mut near, handles, &theirs);
            (near, status)
        });
        // The far slave is nobody's child here.
        let nobody = Command::new("true").spawn().unwrap();
        let master = Master::over(nobody, ours.try_clone().unwrap().into(), ours.into());
        Far { master, near }
    }

    /// Ends the far link, and returns the near master and how the helper ended.
    pub(crate) fn end(mut self) -> (Master, ExitStatus) {
        let link = UnixStream::from(self.master.to_slave.take().unwrap());
        link.shutdown(Shutdown::Write).unwrap();
        self.master.until_closed();
        self.near.join().unwrap()
    }
}

/// Joins a socket and a session's stream until the session is over.
fn bridge(near: &mut Master, handles: SessionHandles, mut socket: &UnixStream) -> ExitStatus {
    let mut open = true;
    near.until("the end of the helper", |near| {
        let mut bytes = vec![0; 64 * 1024];
        while open && near.unsent(handles.stdin) < AHEAD {
            match rustix::net::recv(socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    open = false;
                    near.mux.finish(handles.stdin);
                }
                Ok((len, _)) => near.send(handles.stdin, &bytes[..len]),
                Err(error) => {
                    assert_eq!(error, rustix::io::Errno::AGAIN);
                    break;
                }
            }
        }
        let wants = open && near.unsent(handles.stdin) < AHEAD;
        near.also = wants.then(|| socket.try_clone().unwrap().into());
        let received = near.of(handles.stdout);
        socket.write_all(&std::mem::take(&mut received.bytes)).unwrap();
        if received.ended {
            let _ = socket.shutdown(Shutdown::Write);
        }
        assert!(!near.refusals.contains_key(&handles.control), "{:?}", near.refusals);
        near.exits.contains_key(&handles.control)
    });
    near.also = None;
    near.exits[&handles.control]
}
