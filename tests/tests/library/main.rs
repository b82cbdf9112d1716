//! The library, as a program uses it that knows no more than its public items.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod children;
mod contexts;
mod database;
mod examples;
mod streams;

use std::future::Future;

use fakessh::{Context, Fakessh};
use fakessh_lab::{GUARD, Lab};

/// A library that reads the lab's configuration.
fn library(lab: &Lab) -> Fakessh {
    Fakessh::builder().config_file(lab.config_path()).build().unwrap()
}

/// The lab's target.
async fn remote(lab: &Lab) -> Context {
    soon(library(lab).connect("remote")).await.unwrap()
}

/// What comes of this, which must not hang.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, work).await.expect("hangs")
}
