//! Runs a command on a host: `hello ROUTE [CONFIG]`, as in `hello bastion+web1+sudo`.

use fakessh::{Error, Fakessh};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let route = arguments.next().unwrap_or_else(|| "localhost".to_owned());
    let mut builder = Fakessh::builder();
    if let Some(config) = arguments.next() {
        builder = builder.config_file(config);
    }
    let context = builder.build()?.connect(&route).await?;
    let output = context.command("uname").arg("-sr").output().await?;
    print!("{}: {}", context.name(), String::from_utf8_lossy(&output.stdout));
    Ok(())
}
