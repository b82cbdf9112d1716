//! One host, and the three ways to it that are compared: ours, ControlMaster, a login each time.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::Bench;
use crate::order::{Answer, Direction, Order, Program};
use fakessh_lab::files::copy_program;
use fakessh_lab::{Lab, Running, binary};

/// How long a driver lives at most. A guard against hangs only.
const GUARD: Duration = Duration::from_secs(1800);

/// The key exchange that costs OpenSSH the least; its default has a second, slow one on top.
pub(super) const FASTEST_EXCHANGE: &str = "-oKexAlgorithms=curve25519-sha256";

/// Whose `ssh` is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// The shim, in a `fakessh run`.
    Ours,
    /// The same of an older build, if there is one.
    Before,
    /// OpenSSH's client of a connection that is held, with the fastest cipher.
    ControlMaster,
    /// OpenSSH's client, with a login each time and the fastest cipher.
    Ssh,
}

impl Contender {
    /// Whether it is a build of this program.
    pub(super) fn is_fakessh(self) -> bool {
        matches!(self, Contender::Ours | Contender::Before)
    }
}

/// A host with a context of ours and a ControlMaster, both connected.
pub(super) struct Site {
    lab: Lab,
    host: String,
    cipher: String,
    control: PathBuf,
    ours: RefCell<Running>,
    before: Option<RefCell<Running>>,
    rivals: RefCell<Running>,
}

impl Site {
    /// Connects to the lab's account, with what all measures share.
    pub(super) fn open(bench: &Bench) -> Site {
        Site::of(bench.lab(), "remote", bench.cipher())
    }

    /// Connects to a host of a lab.
    pub(super) fn of(lab: &Lab, host: &str, cipher: &str) -> Site {
        Site::behind(lab, host, host, cipher)
    }

    /// Connects to a host of a lab, where ours goes on along a route: the rivals stay at the host.
    pub(super) fn behind(lab: &Lab, host: &str, route: &str, cipher: &str) -> Site {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let before = binary::before().map(|program| {
            let run = lab.run_before(&program, [route], driver());
            RefCell::new(run.input_open().guard(GUARD).start())
        });
        let site = Site {
            lab: lab.clone(),
            host: host.to_owned(),
            cipher: cipher.to_owned(),
            control: lab.dir().join(format!("user/control-{number}")),
            ours: RefCell::new(lab.run([route], driver()).input_open().guard(GUARD).start()),
            before,
            rivals: RefCell::new(rivals_of(lab)),
        };
        site.start_control_master();
        // Both ways are open, and neither pays for what only a first command does.
        for (contender, _) in site.turns(&[(Contender::Ours, 1), (Contender::ControlMaster, 1)]) {
            site.time(contender, site.ssh(contender, "true"));
        }
        site
    }

    /// Who takes part in a measure and how often, with the older build if there is one.
    pub(super) fn turns(&self, contenders: &[(Contender, usize)]) -> Vec<(Contender, usize)> {
        let before = self.before.iter().map(|_| (Contender::Before, 1));
        contenders.iter().copied().chain(before).collect()
    }

    /// The lab that it is in.
    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The host's name.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// A contender's `ssh` with a remote command.
    pub(super) fn ssh(&self, contender: Contender, command: &str) -> Program {
        Program::new(self.ssh_words(contender)).word(&self.host).word(command)
    }

    /// A contender's `ssh` with all its options, for tools that are told what to run.
    pub(super) fn ssh_words(&self, contender: Contender) -> Vec<String> {
        let mut words = vec![if contender.is_fakessh() { "ssh" } else { "/usr/bin/ssh" }.into()];
        words.extend(self.rival_options(contender));
        words
    }

    /// The options that make OpenSSH's programs a contender; none for ours.
    pub(super) fn rival_options(&self, contender: Contender) -> Vec<String> {
        let config = self.lab.config_path().display();
        let control = self.control.display();
        match contender {
            Contender::Ours | Contender::Before => vec![],
            Contender::ControlMaster => {
                vec![format!("-F{config}"), format!("-oControlPath={control}")]
            }
            Contender::Ssh => vec![
                format!("-F{config}"),
                "-oControlPath=none".into(),
                format!("-oCiphers={}", self.cipher),
                FASTEST_EXCHANGE.into(),
            ],
        }
    }

    /// Milliseconds that a program takes.
    ///
    /// # Panics
    /// If it fails.
    pub(super) fn time(&self, contender: Contender, program: Program) -> f64 {
        let (milliseconds, _) = self.took(contender, Order::Time { program, input: 0 });
        milliseconds
    }

    /// MB (10^6 bytes) a second that a program moves.
    ///
    /// # Panics
    /// If it fails, or if its output is not all there.
    pub(super) fn throughput(
        &self,
        contender: Contender,
        program: Program,
        direction: Direction,
        bytes: u64,
    ) -> f64 {
        let input = if direction == Direction::Up { bytes } else { 0 };
        let (milliseconds, output) = self.took(contender, Order::Time { program, input });
        if direction == Direction::Down {
            assert_eq!(output, bytes, "bytes that came from the target");
        }
        bytes as f64 / 1000.0 / milliseconds
    }

    /// Runs of a program that end in a second.
    ///
    /// # Panics
    /// If one fails.
    pub(super) fn rate(
        &self,
        contender: Contender,
        program: Program,
        count: usize,
        at_once: usize,
    ) -> f64 {
        let (milliseconds, _) = self.took(contender, Order::Rate { program, count, at_once });
        count as f64 * 1000.0 / milliseconds
    }

    fn took(&self, contender: Contender, order: Order) -> (f64, u64) {
        match self.tell(contender, &order) {
            Answer::Took { nanoseconds, output } => (nanoseconds as f64 / 1e6, output),
            other => panic!("{order:?}: the driver answered {other:?}"),
        }
    }

    /// Starts sessions and holds those that come up; gives the ids of their clients.
    pub(super) fn hold(&self, contender: Contender, program: Program, count: usize) -> Vec<u32> {
        match self.tell(contender, &Order::Hold { program, count }) {
            Answer::Held { pids } => pids,
            other => panic!("holding {count} sessions: the driver answered {other:?}"),
        }
    }

    /// Gives an order whose answer says no more than that it is done.
    pub(super) fn order(&self, contender: Contender, order: &Order) {
        match self.tell(contender, order) {
            Answer::Done => {}
            other => panic!("{order:?}: the driver answered {other:?}"),
        }
    }

    fn tell(&self, contender: Contender, order: &Order) -> Answer {
        let driver = match (contender, &self.before) {
            (Contender::Ours, _) => &self.ours,
            (Contender::Before, Some(before)) => before,
            _ => &self.rivals,
        };
        tell(&mut driver.borrow_mut(), order)
    }

    /// The process that holds ControlMaster's connection.
    pub(super) fn control_master_pid(&self) -> u32 {
        let words = self.ssh_words(Contender::ControlMaster);
        let words = words.iter().map(String::as_str).chain(["-O", "check", &self.host]);
        let said = self.lab.program(words).run().expect_status(0).err();
        let pid = said.split("pid=").nth(1).and_then(|rest| rest.split(')').next());
        pid.and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("no process id in {said:?}"))
    }

    fn start_control_master(&self) {
        let words = self.ssh_words(Contender::ControlMaster);
        let cipher = format!("-oCiphers={}", self.cipher);
        let more =
            ["-M", "-N", "-f", "-oControlPersist=yes", &cipher, FASTEST_EXCHANGE, &self.host];
        let null = || File::options().write(true).open("/dev/null").expect("opening /dev/null");
        self.lab
            .program(words.iter().map(String::as_str).chain(more))
            .stdout(null())
            .stderr(null())
            .run()
            .expect_status(0);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.rivals.get_mut().close_stdin();
        self.ours.get_mut().close_stdin();
        if let Some(before) = &mut self.before {
            before.get_mut().close_stdin();
        }
        if std::thread::panicking() {
            // The drivers are killed with what they hold, ControlMaster goes with the lab.
            return;
        }
        let words = self.ssh_words(Contender::ControlMaster);
        let words = words.iter().map(String::as_str).chain(["-O", "exit", &self.host]);
        self.lab.program(words).run();
        self.rivals.get_mut().wait();
        self.ours.get_mut().wait();
        if let Some(before) = &mut self.before {
            before.get_mut().wait();
        }
    }
}

/// Starts a driver outside any run.
pub(super) fn rivals_of(lab: &Lab) -> Running {
    lab.program(driver()).input_open().guard(GUARD).start()
}

/// Gives a driver an order.
///
/// # Panics
/// If the driver is gone, or says that it could not be done; the message has what the clients
/// said on standard error.
pub(super) fn tell(driver: &mut Running, order: &Order) -> Answer {
    let mut line = serde_json::to_vec(order).expect("an order is plain data");
    line.push(b'\n');
    let sent = driver.write(&line);
    let answer = driver.read_line().and_then(|line| serde_json::from_str(&line).ok());
    match answer {
        Some(Answer::Failed(reason)) => panic!("{reason}\n{}", driver.errors()),
        Some(answer) => answer,
        None => panic!("the driver ended ({sent:?})\n{}", driver.errors()),
    }
}

fn driver() -> [String; 2] {
    [own_program(), "--driver".into()]
}

/// This program.
pub(super) fn own_program() -> String {
    let path = std::env::current_exe().expect("the path of this program");
    path.to_str().expect("a path that is text").to_owned()
}

/// A copy of this program where the lab's account can run it.
pub(super) fn program_on_target(lab: &Lab) -> String {
    let copy = lab.dir().join("bin/bench");
    if !copy.exists() {
        copy_program(Path::new(&own_program()), &copy);
    }
    copy.display().to_string()
}
