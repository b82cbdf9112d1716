//! Routes: every kind of hop, hosts behind hosts, contexts that are shared, and what goes wrong.

mod containers;
mod direct;
mod far;
mod faults;
mod shared;
mod su;
mod sudo;
mod tools;
