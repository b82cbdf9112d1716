//! Gets a page from a port of a host that only the route reaches:
//! `http_over_route ROUTE PORT [CONFIG]`, as in `http_over_route bastion+web1 8080`.
//!
//! hyper knows nothing of SSH: it speaks over any tokio stream.

use std::error::Error;

use fakessh::Fakessh;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let route = arguments.next().unwrap_or_else(|| "localhost".to_owned());
    let port: u16 = arguments.next().unwrap_or_else(|| "80".to_owned()).parse()?;
    let mut builder = Fakessh::builder();
    if let Some(config) = arguments.next() {
        builder = builder.config_file(config);
    }
    let context = builder.build()?.connect(&route).await?;
    let stream = context.tcp("127.0.0.1", port).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("/").header("Host", "localhost").body(Empty::<Bytes>::new());
    let response = sender.send_request(request?).await?;
    println!("{}", response.status());
    let body = response.into_body().collect().await?.to_bytes();
    print!("{}", String::from_utf8_lossy(&body));
    drop(sender);
    connection.await??;
    Ok(())
}
