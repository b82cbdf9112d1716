//! Runs a command over the connections of the user's master: `shared ROUTE COMMAND [CONFIG]`.
//!
//! The master is started if there is none, and keeps the connection. The second time there is no
//! login, for `fakessh ssh` neither: `fakessh ls` shows it.

use fakessh::{Error, Fakessh};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(route), Some(command)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: shared ROUTE COMMAND [CONFIG]");
        std::process::exit(2);
    };
    let mut builder = Fakessh::builder();
    if let Some(config) = arguments.next() {
        builder = builder.config_file(config);
    }
    let context = builder.shared().await?.connect(&route).await?;
    // Standard input, output and error are this process's own: the master moves the bytes.
    let status = context.shell(command).status().await?;
    std::process::exit(status.shell_code().into());
}
