//! Runs a command on many hosts, so many at a time, and prints each result as it comes:
//! `parallel CONFIG COMMAND HOST...`. Exits with 1 if the command failed on a host.

use std::process::ExitCode;
use std::sync::Arc;

use fakessh::{Error, Fakessh};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Hosts that are connected to at the same time.
const AT_ONCE: usize = 20;

#[tokio::main]
async fn main() -> Result<ExitCode, Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(config), Some(command)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: parallel CONFIG COMMAND HOST...");
        return Ok(ExitCode::from(2));
    };
    let fakessh = Fakessh::builder().config_file(config).build()?;
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for host in arguments {
        let (fakessh, command, room) = (fakessh.clone(), command.clone(), room.clone());
        running.spawn(async move {
            let _permit = room.acquire().await;
            // The names come from a list: they are hosts, and never routes.
            let result = async {
                let context = fakessh.connect_host(&host).await?;
                context.shell(command).output().await
            };
            (host.clone(), result.await)
        });
    }
    let mut all_succeeded = true;
    while let Some(Ok((host, result))) = running.join_next().await {
        all_succeeded &= result.as_ref().is_ok_and(|output| output.status.success());
        match result {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout);
                println!("{host}: {}: {}", output.status, text.trim_end());
            }
            Err(error) if error.is_retryable() => println!("{host}: try again: {error}"),
            Err(error) => println!("{host}: {error}"),
        }
    }
    Ok(if all_succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
