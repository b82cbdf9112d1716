//! What users of fakessh see, on real servers, with real tools. One program, because to build one
//! takes much less time than thirty.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod agents;
mod as_ssh;
mod audit;
mod bad_input;
mod bench;
mod bulk;
mod connecting;
mod demo;
mod descriptors;
mod discovery;
mod exec;
mod faults;
mod forwards;
mod handover;
mod held;
mod host_proof;
mod hostile_slave;
mod install;
mod job_control;
mod lab;
mod lifetime;
mod limits;
mod login;
mod masters;
mod memory;
mod refusals;
mod round_trips;
mod routes;
mod secrets;
mod sessions;
mod sftp_server;
mod signals;
mod streams;
mod stricter;
mod terminals;
mod tools;
mod trust;
mod tunnels;
mod verbose;
mod words;
