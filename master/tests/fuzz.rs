//! The bodies of the master's fuzz targets, over their seeds, mutations of these and pseudo-random
//! bytes: the same sequence in each run.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

#[path = "../../fuzz/src/inputs.rs"]
mod inputs;
#[path = "../../fuzz/src/master.rs"]
mod master;

#[test]
fn any_text_as_a_route() {
    inputs::run("route", master::route);
}

#[test]
fn any_text_as_a_configuration() {
    inputs::run("config", master::config);
}

#[test]
fn any_text_as_a_file_of_known_hosts() {
    inputs::run("known_hosts", master::known_hosts);
}

#[test]
fn any_bytes_as_a_list_of_revoked_keys() {
    inputs::run("krl", master::krl);
}

#[test]
fn any_text_as_what_ssh_prints_of_its_configuration() {
    inputs::run("ssh_g", master::ssh_g);
}

#[test]
fn any_bytes_on_the_control_socket() {
    inputs::run("control", master::control);
}

#[test]
fn any_text_of_a_helper() {
    inputs::run("prompt", master::prompt);
}
