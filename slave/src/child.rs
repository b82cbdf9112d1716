//! Child processes: how they end, and how they are reaped.

use std::io;
use std::os::fd::OwnedFd;

use fakessh_protocol::exit::ExitStatus;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::sys;

/// Whether the kernel has pidfds: Linux 5.3 and later.
pub(crate) fn has_pidfds() -> bool {
    let ours = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    !matches!(ours, Err(Errno::NOSYS))
}

/// A descriptor that becomes readable when a new child ends; `None` if the kernel has no pidfds.
///
/// # Errors
/// If there are no more descriptors. The child is killed then: nobody would see its end, so it
/// would stay for ever.
pub(crate) fn pidfd(pid: Pid) -> io::Result<Option<OwnedFd>> {
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(Errno::NOSYS) => Ok(None),
        Err(error) => {
            destroy(pid);
            Err(error.into())
        }
    }
}

/// The exit status of a child, if it has ended. The child stays a zombie, so that its number can't
/// become another's.
pub(crate) fn exit_status(pid: Pid) -> Option<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let status = rustix::process::waitid(WaitId::Pid(pid), options).ok()??;
    Some(match status.terminating_signal() {
        Some(number) => ExitStatus::Signal(number as u8),
        None => ExitStatus::Code(status.exit_status().unwrap_or_default() as u8),
    })
}

/// Kills a child that was just started, and waits until it is gone. A child that was only forked
/// may not lead a group yet, so the process is killed as well as the group.
pub(crate) fn destroy(pid: Pid) {
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
}

/// Reaps a child that has ended. Its number may become another's from here on.
pub(crate) fn reap(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let _ = rustix::process::waitid(WaitId::Pid(pid), options);
}

/// Makes these the standard descriptors of a forked child, and closes all others: no descriptor of
/// the slave stays open in there, the link least of all.
pub(crate) fn take_stdio([stdin, stdout, stderr]: &[OwnedFd; 3]) -> io::Result<()> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    sys::close_from(3);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_program_that_leads_no_group_is_destroyed_too() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let input = child.stdin.take();
        let (done, is_done) = std::sync::mpsc::channel();
        let destroying = std::thread::spawn(move || {
            destroy(pid);
            let _ = done.send(());
        });
        // It hangs for as long as there may be input.
        let guard = std::time::Duration::from_secs(60);
        assert!(is_done.recv_timeout(guard).is_ok(), "it hangs");
        destroying.join().unwrap();
        drop(input);
        assert!(child.wait().is_err(), "it is reaped");
    }
}
