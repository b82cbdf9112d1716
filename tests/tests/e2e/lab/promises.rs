//! The lab keeps its own promises: it starts, tells what happened, and leaves nothing behind.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use fakessh_lab::account::PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::process;
use fakessh_lab::{Askpass, Client, Container, Lab, Relay, root};

#[test]
fn a_command_runs_as_the_account_and_the_login_is_counted() {
    let lab = Lab::start();
    assert_eq!(lab.logins(), 0);
    let account = lab.account().name.clone();
    let done = lab.tool(Client::Ssh, ["ssh", "remote", "id -un"]).run();
    done.expect_status(0).expect_out(&format!("{account}\n"));
    assert_eq!(lab.logins(), 1);
}

#[test]
fn everything_is_gone_when_a_lab_is_dropped_in_mid_session() {
    let lab = Lab::start();
    let command = "setsid sh -c 'echo up; exec sleep 1000' & exec sleep 1000";
    let mut running = lab.tool(Client::Ssh, ["ssh", "remote", command]).start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    let (dir, mark, account) = (lab.dir().to_owned(), lab.mark().to_owned(), lab.account().clone());
    let processes = lab.processes();
    assert!(processes.len() >= 3, "ssh and two programs at least: {processes:?}");
    drop(lab);
    assert!(!dir.exists());
    for process in processes {
        assert!(process.wait(Duration::from_secs(60)), "still there: {process:?}");
    }
    let left = process::find(&mark, &[], &[]);
    assert!(left.is_empty(), "{left:?}");
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    assert!(!fakessh_lab::privilege::is_root() || !passwd.contains(&account.name));
    drop(running);
}

#[test]
fn a_server_that_is_stopped_refuses_and_one_that_is_started_again_accepts() {
    let lab = Lab::start();
    let port = lab.stop_server();
    assert!(TcpStream::connect(("127.0.0.1", port.number())).is_err());
    lab.tool(Client::Ssh, ["ssh", "remote", "true"]).run().expect_status(255);
    lab.restart_server(port);
    lab.tool(Client::Ssh, ["ssh", "remote", "true"]).run().expect_status(0);
    lab.rotate_host_key();
    lab.tool(Client::Ssh, ["ssh", "remote", "true"]).run().expect_status(255);
    lab.trust_host_key();
    lab.tool(Client::Ssh, ["ssh", "remote", "true"]).run().expect_status(0);
}

#[test]
fn a_relay_is_late_counts_and_cuts() {
    let lab = Lab::start();
    let relay = Relay::start(lab.port(), Duration::from_millis(20));
    lab.host_through("late", relay.port(), &[]);
    let begun = Instant::now();
    lab.tool(Client::Ssh, ["ssh", "late", "true"]).run().expect_status(0);
    assert!(begun.elapsed() >= Duration::from_millis(200), "a login is several round trips");
    assert_eq!(relay.connections(), 1);
    assert!(relay.bytes_up() > 1000 && relay.bytes_down() > 1000);
    let mut running = lab.tool(Client::Ssh, ["ssh", "late", "echo up; cat"]).input_open().start();
    assert_eq!(running.read_line().as_deref(), Some("up"));
    relay.cut();
    running.finish().expect_status(255);
}

#[test]
fn passwords_and_private_mounts_work() {
    if !root_for("an account with a password, and mounts") {
        return;
    }
    let lab = Lab::builder()
        .password()
        .private_mounts("mount -t tmpfs -o size=1m none \"$LAB/remote\"")
        .start();
    let askpass = Askpass::new(&lab, "askpass", &[PASSWORD]);
    let command = format!("findmnt -n -o FSTYPE {}", lab.remote_dir().display());
    let tool = lab.tool(Client::Ssh, ["ssh", "remote", &command]);
    askpass.for_tool(tool).run().expect_status(0).expect_out("tmpfs\n");
}

#[test]
fn what_is_left_in_temporary_places_roots_and_runtime_directories_is_found() {
    if !root_for("a container") {
        return;
    }
    let lab = Lab::start();
    let [jail, deep] = [lab.dir().join("jail"), lab.local_dir("container")];
    root::make(&jail);
    root::make(&deep);
    let container = Container::start(&lab, &deep);
    let inside = format!("/proc/{}/root/srv", container.pid()).into();
    for place in [jail.join("tmp"), inside, lab.runtime_dir(), "/tmp".into(), "/dev/shm".into()] {
        let left = place.join(format!(".fakessh-left-{}", lab.mark()));
        std::fs::create_dir(&left).unwrap();
        lab.account().give(&left);
        let found = std::panic::catch_unwind(|| lab.expect_nothing_left());
        assert!(found.is_err(), "not found: {}", left.display());
        std::fs::remove_dir(left).unwrap();
    }
    lab.expect_nothing_left();
}
