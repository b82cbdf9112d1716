//! What a client and a slave may take of a machine's memory. The benchmarks have the figures.

use fakessh_lab::process::Process;
use fakessh_lab::{Client, Lab};

/// Most KiB that a client may have in memory while it waits.
const CLIENT: u64 = 2 * 1024;

/// Most KiB of an idle slave.
const SLAVE: u64 = 2560;

#[test]
fn a_client_that_waits_and_an_idle_slave_are_small_with_fakessh() {
    let lab = Lab::start();
    let words = ["sh", "-c", "echo $$; exec ssh remote 'echo up; cat'"];
    let mut running = lab.tool(Client::Fakessh, words).input_open().start();
    let client = Process::open(running.read_line().unwrap().parse().unwrap()).unwrap();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    assert!(client.command_now().starts_with("ssh remote"), "{client:?}");
    let size = client.memory("VmRSS");
    assert!(size <= CLIENT, "the client has {size} KiB");
    let slaves = lab.slaves();
    assert!(!slaves.is_empty());
    for slave in slaves {
        let size = slave.memory("VmRSS");
        assert!(size <= SLAVE, "{} has {size} KiB", slave.command);
    }
    running.finish().expect_status(0);
}
