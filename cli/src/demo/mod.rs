//! `fakessh demo`: the whole thing on one machine, with no server and no keys needed.

mod job;
mod program;
pub mod server;
mod show;
mod tree;

use fakessh_protocol::exit::ExitStatus;
use tokio::signal::unix::{SignalKind, signal};

/// Shows it, and prints each step as it happens. A signal ends it, and nothing is left behind.
pub(crate) fn demo() -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut caught = SignalKind::interrupt();
    let shown = runtime.block_on(async {
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
        anyhow::Ok(show::show(cancelled).await?)
    })?;
    if shown.is_none() {
        let number = caught.as_raw_value() as u8;
        return Ok(ExitStatus::Signal(number).shell_code());
    }
    println!("\nAll of it was verified. Next: fakessh run HOST -- rsync -a DIR remote:DIR");
    Ok(0)
}
