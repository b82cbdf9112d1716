//! A host whose slave lies: the program `hostile-slave` runs there in place of ours, and does what
//! no slave of ours does, as fast as it can.

mod mode;
mod slave;
mod speech;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::Lab;
use crate::files::copy_program;

pub use mode::{Effect, Mode};

/// A lab whose account gets a [`Mode`] instead of a slave.
#[derive(Debug)]
pub struct HostileHost {
    lab: Lab,
}

impl HostileHost {
    /// Starts it. `program` is the program `hostile-slave`.
    pub fn start(program: &str) -> HostileHost {
        let command = "ForceCommand exec $LAB/bin/hostile-slave $LAB/remote/mode";
        let lab = Lab::builder().sshd(command).start();
        copy_program(&PathBuf::from(program), &lab.dir().join("bin/hostile-slave"));
        HostileHost { lab }
    }

    /// Leaves its processes, and those that they start, only the time of the processors that no other
    /// process wants (sched(7), `SCHED_IDLE`). A target is another machine: what is measured here is
    /// what it costs the master, and not what it takes of the processors of its own machine.
    pub fn give_way(&self) {
        let pid = self.lab.server_pid().to_string();
        let chrt = Command::new("chrt").args(["--idle", "--pid", "0", &pid]).status();
        assert!(chrt.is_ok_and(|status| status.success()), "chrt(1) of util-linux has failed");
    }

    /// Adds it to the hosts that the clients of another lab know.
    pub fn introduce(&self, lab: &Lab, name: &str) {
        lab.know(name, &self.lab, &[]);
    }

    /// What it does to whoever connects from now on.
    pub fn behave(&self, mode: Mode) {
        let file = self.lab.dir().join("remote/mode");
        fs::write(file, mode.name()).expect("writing the mode of the hostile slave");
    }
}

/// The program `hostile-slave`: its argument is the file that names its [`Mode`].
pub fn main() -> std::process::ExitCode {
    let name = std::env::args().nth(1).and_then(|file| fs::read_to_string(file).ok());
    match name.as_deref().and_then(Mode::named) {
        Some(mode) => slave::run(mode),
        None => {
            eprintln!("hostile-slave: no such mode: {name:?}");
            std::process::ExitCode::FAILURE
        }
    }
}
