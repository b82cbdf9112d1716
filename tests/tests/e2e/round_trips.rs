//! A command takes one round trip: all that it needs goes up at once, all that it gives comes down.

use std::time::Duration;

use fakessh_lab::{Client, Gate, Lab, Relay};

#[test]
fn nothing_waits_for_an_answer_and_nothing_is_asked_back_with_fakessh() {
    let lab = Lab::start();
    let relay = Relay::start(lab.port(), Duration::ZERO);
    lab.host_through("far", relay.port(), &[]);
    let config = lab.config_path().display().to_string();
    lab.fakessh(["connect", "-F", &config, "far"]).run().expect_status(0);
    let [told, gate] = [(); 2].map(|()| Gate::new(&lab));
    let command = format!("cat >{}; cat {}; echo err >&2; exit 3", told.path(), gate.path());
    relay.hold(false, true);
    let running = lab.tool_to(Client::Fakessh, "far", ["ssh", "far", &command]).input("all of it");
    let running = running.start();
    assert_eq!(told.read(), "all of it");
    relay.hold(true, false);
    gate.open("out");
    running.finish().expect_status(3).expect_out("out").expect_err("err\n");
    relay.hold(false, false);
    lab.expect_nothing_left();
}
