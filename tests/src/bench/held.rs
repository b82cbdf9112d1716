//! Clients that a driver keeps: sessions that wait, bulk in the background, readers that stopped.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::client::{command, end};
use crate::order::{Direction, Program};
use crate::stream;
use fakessh_lab::GUARD;
use fakessh_lab::process::Process;

/// What flows before bulk counts as flowing: more than all buffers on the way hold.
const FLOWING: u64 = 32 << 20;

/// All that a driver keeps.
#[derive(Default)]
pub(super) struct Held {
    waiting: Vec<(Child, ChildStdout)>,
    busy: Vec<Child>,
    pumps: Vec<JoinHandle<()>>,
}

impl Held {
    /// Starts a client `count` times and keeps those that write something; gives their ids.
    pub(super) fn hold(&mut self, program: &Program, count: usize) -> io::Result<Vec<u32>> {
        let mut starting = Vec::new();
        for _ in 0..count {
            let mut child = command(program)?.stdin(Stdio::piped()).spawn()?;
            let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
            starting.push((child, stdout));
        }
        let mut pids = Vec::new();
        while !starting.is_empty() {
            let ready: Vec<bool> = {
                let fds = starting
                    .iter()
                    .map(|(_, out)| PollFd::from_borrowed_fd(out.as_fd(), PollFlags::IN));
                let mut fds: Vec<PollFd<'_>> = fds.collect();
                match poll(&mut fds, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                fds.iter().map(|fd| !fd.revents().is_empty()).collect()
            };
            let mut still = Vec::new();
            for ((mut child, mut stdout), ready) in starting.into_iter().zip(ready) {
                if !ready {
                    still.push((child, stdout));
                } else if stdout.read(&mut [0; 64])? > 0 {
                    pids.push(child.id());
                    self.waiting.push((child, stdout));
                } else {
                    end(&mut child, GUARD);
                }
            }
            starting = still;
        }
        Ok(pids)
    }

    /// Starts a client and moves bulk through it; returns when it flows.
    pub(super) fn pour(&mut self, program: &Program, direction: Direction) -> io::Result<()> {
        let (flows, flowing) = channel();
        self.pump(program, direction, FLOWING, u64::MAX, &flows)?;
        drop(flows);
        flowing.recv().map_err(|_| io::Error::other("the bulk ended before it flowed"))
    }

    /// Starts a client `count` times, moves so many bytes with each, and leaves it there.
    pub(super) fn stall(
        &mut self,
        program: &Program,
        count: usize,
        direction: Direction,
        bytes: u64,
    ) -> io::Result<()> {
        let (reaches, reached) = channel();
        for _ in 0..count {
            let most = if direction == Direction::Down { bytes } else { u64::MAX };
            self.pump(program, direction, bytes, most, &reaches)?;
        }
        drop(reaches);
        let up = reached.iter().take(count).count();
        if up < count {
            return Err(io::Error::other(format!("{up} of {count} sessions moved {bytes} bytes")));
        }
        Ok(())
    }

    /// Starts a client and a thread that moves at most `most` bytes with it, and says so after the
    /// first `early` ones.
    fn pump(
        &mut self,
        program: &Program,
        direction: Direction,
        early: u64,
        most: u64,
        flows: &Sender<()>,
    ) -> io::Result<()> {
        let mut command = command(program)?;
        if direction == Direction::Up {
            command.stdin(Stdio::piped()).stdout(Stdio::null());
        }
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        self.busy.push(child);
        let flows = flows.clone();
        self.pumps.push(thread::spawn(move || {
            if let Some(mut pipe) = stdout {
                let enough = stream::read(&mut pipe, early).is_ok_and(|count| count >= early);
                if enough {
                    _ = flows.send(());
                }
                drop(flows);
                if !enough || most <= early {
                    // Open, unread, until the client ends.
                    wait_for_hangup(&pipe);
                } else {
                    _ = stream::read(&mut pipe, most - early);
                }
            } else if let Some(mut pipe) = stdin {
                if stream::write(&mut pipe, early).is_ok() {
                    _ = flows.send(());
                }
                drop(flows);
                _ = stream::write(&mut pipe, most - early);
                _ = pipe.flush();
            }
        }));
        Ok(())
    }

    /// Ends all clients.
    pub(super) fn release(&mut self) {
        for child in &self.busy {
            if let Some(process) = Process::open(child.id()) {
                process.signal(Signal::TERM);
            }
        }
        // What waits sees the end of its standard input.
        for (child, _) in &mut self.waiting {
            drop(child.stdin.take());
        }
        for (mut child, _stdout) in self.waiting.drain(..) {
            end(&mut child, GUARD);
        }
        for mut child in self.busy.drain(..) {
            end(&mut child, GUARD);
        }
        for pump in self.pumps.drain(..) {
            _ = pump.join();
        }
    }
}

/// Waits until nobody writes to a pipe any more, without reading from it.
fn wait_for_hangup(pipe: &ChildStdout) {
    let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::empty())];
    while matches!(poll(&mut fds, None), Ok(0) | Err(rustix::io::Errno::INTR)) {}
}
