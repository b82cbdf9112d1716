//! Speaks a protocol of lines with a service at the far end: `line_protocol ROUTE [CONFIG]`.
//!
//! The service here is a shell script that squares numbers. Any protocol that runs over tokio's
//! `AsyncRead` and `AsyncWrite` runs over these streams.

use std::error::Error;

use fakessh::{Fakessh, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// Answers each line with the square of its number.
const SERVICE: &str = "while read -r number; do echo $((number * number)); done";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let route = arguments.next().unwrap_or_else(|| "localhost".to_owned());
    let mut builder = Fakessh::builder();
    if let Some(config) = arguments.next() {
        builder = builder.config_file(config);
    }
    let context = builder.build()?.connect(&route).await?;
    let service = context.command("sh").args(["-c", SERVICE]);
    let mut service = service.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut requests), Some(answers)) = (service.stdin.take(), service.stdout.take()) else {
        return Err("the service has no streams".into());
    };
    let mut answers = BufReader::new(answers).lines();
    for number in 1..=3 {
        requests.write_all(format!("{number}\n").as_bytes()).await?;
        // An answer, the end of the service, or the loss of the connection: three things.
        match answers.next_line().await? {
            Some(answer) => println!("{number} squared is {answer}"),
            None => return Err("the service has ended".into()),
        }
    }
    drop(requests);
    println!("the service ended: {}", service.wait().await?);
    Ok(())
}
