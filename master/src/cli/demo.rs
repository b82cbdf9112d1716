//! `fakessh demo`: shows the whole thing on one machine.

use std::io::Write;

use fakessh::demo;
use tokio::signal::unix::{SignalKind, signal};

/// The status of a shell for a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

pub(super) fn demo() -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            report = demo::demo() => report.map(Some).map_err(anyhow::Error::from),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    })?;
    let Some(report) = done else { return Ok(INTERRUPTED) };
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "One connection to an SSH server in this process, and tools that use it:\n")?;
    writeln!(stdout, "{report}")?;
    writeln!(stdout, "All of it was verified. Next: fakessh run HOST -- rsync -a DIR remote:DIR")?;
    Ok(0)
}
