//! Hops: each turns a context into the next one.

pub mod ssh;
