//! The library, as a program uses it that knows no more than its public items.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cancelled;
mod children;
mod contexts;
mod database;
mod embedding;
mod examples;
mod runs;
mod streams;
mod sys;

mod protocol;
mod shared;

use std::future::Future;

use fakessh::{Context, Fakessh};
use fakessh_lab::{GUARD, Lab};

/// Who holds the connections. To a user of the library it makes no difference.
#[derive(Clone, Copy, Debug)]
enum Holder {
    /// The test's process.
    Here,
    /// The user's master.
    Shared,
}

/// Runs a test twice: with connections of the test's own process, and with those of the user's
/// master.
async fn with_both(test: impl AsyncFn(Holder)) {
    for holder in [Holder::Here, Holder::Shared] {
        eprintln!("connections are held: {holder:?}");
        test(holder).await;
    }
}

/// A library that reads the lab's configuration.
async fn library(lab: &Lab, holder: Holder) -> Fakessh {
    let builder = Fakessh::builder().config_file(lab.config_path()).directory(lab.fakessh_dir());
    match holder {
        Holder::Here => builder.build().unwrap(),
        Holder::Shared => {
            let builder = builder.program(fakessh_lab::binary::fakessh());
            soon(builder.shared()).await.unwrap()
        }
    }
}

/// The lab's target.
async fn remote(lab: &Lab, holder: Holder) -> Context {
    soon(library(lab, holder).await.connect("remote")).await.unwrap()
}

/// What comes of this, which must not hang.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, work).await.expect("hangs")
}
