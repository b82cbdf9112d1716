//! `fakessh demo`: shows the whole thing on one machine.

use std::io::Write;

use fakessh::demo;
use fakessh_protocol::exit::ExitStatus;
use tokio::signal::unix::{SignalKind, signal};

pub(super) fn demo() -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut caught = SignalKind::interrupt();
    let report = runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let cancelled = async {
            caught = tokio::select! {
                _ = hangup.recv() => SignalKind::hangup(),
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
            };
        };
        anyhow::Ok(demo::demo(cancelled).await?)
    })?;
    let Some(report) = report else {
        let number = caught.as_raw_value() as u8;
        return Ok(ExitStatus::Signal(number).shell_code());
    };
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "One connection to an SSH server in this process, and tools that use it:\n")?;
    writeln!(stdout, "{report}")?;
    writeln!(stdout, "All of it was verified. Next: fakessh run HOST -- rsync -a DIR remote:DIR")?;
    Ok(0)
}
