//! Copies a directory to two hosts with one rsync each: `tool DIRECTORY CONFIG ROUTE ROUTE`.
//!
//! rsync starts an `ssh` of its own, which leads to the routes that it was given names for, and to
//! nothing else.

use std::error::Error;

use fakessh::{Fakessh, Hosts};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, config, first, second] = &arguments[..] else {
        eprintln!("usage: tool DIRECTORY CONFIG ROUTE ROUTE");
        std::process::exit(2);
    };
    let fakessh = Fakessh::builder().config_file(config).build()?;
    let hosts = Hosts::mapped().route("first", first).route("second", second);
    let run = fakessh.run(hosts).await?;
    for name in ["first", "second"] {
        let mut rsync = run.command("rsync")?;
        let status =
            rsync.arg("-a").arg(format!("{directory}/")).arg(format!("{name}:copy-{name}/"));
        let status = status.status().await?;
        println!("{name}: {status}");
        if !status.success() {
            return Err(format!("rsync to {name} has failed").into());
        }
    }
    Ok(())
}
