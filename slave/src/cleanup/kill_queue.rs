//! How what a session started comes to its end: SIGHUP to its process groups, and after a grace
//! SIGKILL.
//!
//! Its standard input stays open until then: a program must not take what it got for the whole
//! because its invoker is gone.
//!
//! A number is signalled only while its process is unreaped, so that it can't be another's.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use fakessh_protocol::wire::Handle;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::cleanup::process_tree::{self, Whom};
use crate::cleanup::watchdog::Entry;
use crate::event_loop::Slave;
use crate::poll::{Interest, Part, Token};
use crate::program::launcher;
use crate::session::Sink;

/// How long a program that was hung up may take to end by itself: enough to remove its temporary
/// files (rsync does), short enough that a master that reconnects does not meet it.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Programs in their grace, in the order in which it ends.
#[derive(Debug, Default)]
pub(crate) struct KillQueue {
    queue: VecDeque<PendingKill>,
    /// How many at the end of the queue have not been told.
    untold: usize,
}

#[derive(Debug)]
struct PendingKill {
    pid: Pid,
    control: Handle,
    entry: Entry,
    due: Instant,
    /// Held, and not written any more.
    _stdin: Option<Sink>,
}

impl KillQueue {
    /// When the next grace ends.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|pending| pending.due)
    }

    fn add(&mut self, pid: Pid, control: Handle, entry: Entry, stdin: Option<Sink>) {
        let due = Instant::now() + GRACE;
        self.queue.push_back(PendingKill { pid, control, entry, due, _stdin: stdin });
        self.untold += 1;
    }
}

impl Slave {
    /// The invoker is gone: nobody reads the program's outputs any more, and it gets its grace.
    pub(crate) fn hang_up(&mut self, control: Handle) {
        self.end_run(control, "the run that this ssh belongs to was ended");
        self.doom(control);
        self.settle(control);
    }

    fn doom(&mut self, control: Handle) {
        let Some(session) = self.sessions.by_control.get_mut(&control) else { return };
        let Some(entry) = session.entry.take() else { return };
        // A helper's is the stream of a link: its end is how the far slave learns of it, and
        // what is cut there can't be taken for the whole. Its terminal is hung up: nobody else
        // may signal what runs as another user.
        session.terminal = None;
        let stdin = session.stdin.take().filter(|_| !session.is_helper);
        let stdin = stdin.and_then(|mut stdin| {
            stdin.buffer = VecDeque::new();
            // Not even its end is of interest any more.
            stdin.pipe.watch(&self.poll, Interest::Nothing).is_ok().then_some(stdin)
        });
        self.mux.stop(session.handles.stdin);
        for part in [Part::Stdout, Part::Stderr] {
            *session.output(part) = None;
            self.mux.reset(session.handle(part));
        }
        self.kill_queue.add(session.pid, control, entry, stdin);
    }

    /// Tells those that were hung up since the last call, all at once: looking through the
    /// target's processes costs the same for one and for a thousand.
    pub(crate) fn tell_doomed(&mut self) {
        if self.kill_queue.untold == 0 {
            return;
        }
        let from = self.kill_queue.queue.len() - self.kill_queue.untold;
        self.kill_queue.untold = 0;
        // A stopped process takes no SIGHUP before it goes on.
        let pids = self.kill_queue.queue.range(from..).map(|pending| pending.pid).collect();
        signal(&pids, &[Signal::HUP, Signal::CONT]);
    }

    /// Kills those whose grace is over.
    pub(crate) fn kill_overdue(&mut self, now: Instant) {
        let overdue = self.kill_queue.queue.partition_point(|pending| pending.due <= now);
        if overdue == 0 {
            return;
        }
        let pending_kills: Vec<PendingKill> = self.kill_queue.queue.drain(..overdue).collect();
        signal(&pending_kills.iter().map(|pending| pending.pid).collect(), &[Signal::KILL]);
        for PendingKill { pid, control, entry, .. } in pending_kills {
            match self.sessions.by_control.get_mut(&control) {
                // Its end is about to be seen, and it is reaped with its session.
                Some(session) if session.pid == pid => session.entry = Some(entry),
                _ => {
                    launcher::reap(pid);
                    self.watchdog.remove(entry);
                }
            }
        }
    }

    /// The link has ended: so does everything that was started over it. Returns when no program is
    /// left, or all that were left are killed.
    pub(crate) fn wind_down(mut self) {
        // Whoever waits for the end of our output need not wait for the programs.
        self.link_in.close();
        self.link_out.close();
        self.end_runs();
        let controls: Vec<Handle> = self.sessions.by_control.keys().copied().collect();
        controls.into_iter().for_each(|control| self.doom(control));
        self.tell_doomed();
        while let Some(last) = self.kill_queue.queue.back().map(|pending| pending.due) {
            let now = Instant::now();
            let leaders_run = self.sessions.by_control.values().any(|s| s.exit.is_none());
            if last <= now || (!leaders_run && !process_tree::any_runs(&self.doomed_pids())) {
                // Those that are late are killed, and nobody is left to wait for the others.
                return self.kill_overdue(last);
            }
            let Ok(ready) = self.poll.wait(Some(last - now)) else {
                return self.kill_overdue(last);
            };
            for ready in ready {
                match ready.token {
                    Token::Session(control, Part::Exit) => self.note_exit(control),
                    Token::Children => self.note_children(),
                    Token::Watchdog => self.watchdog.note_end(),
                    _ => {}
                }
            }
        }
    }

    fn doomed_pids(&self) -> HashSet<Pid> {
        self.kill_queue.queue.iter().map(|pending| pending.pid).collect()
    }
}

/// Signals the process groups of these unreaped leaders, and what else is in their sessions.
fn signal(leaders: &HashSet<Pid>, signals: &[Signal]) {
    for leader in leaders {
        for signal in signals {
            let _ = kill_process_group(*leader, *signal);
        }
    }
    process_tree::signal(leaders, Whom::Strays, signals);
}
