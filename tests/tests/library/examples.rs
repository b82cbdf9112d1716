//! The examples do what they say.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use fakessh_lab::{Lab, Tool};

/// The program of an example, which cargo has built beside the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let program = profile.join("examples").join(name);
    assert!(program.exists(), "no {}: cargo build --examples", program.display());
    program
}

fn run(name: &str, words: &[&str]) -> String {
    run_to(0, name, words)
}

fn run_to(status: i32, name: &str, words: &[&str]) -> String {
    let program = example(name);
    let words = [program.to_str().unwrap()].into_iter().chain(words.iter().copied());
    Tool::new(words).run().expect_status(status).out()
}

#[test]
fn hello_says_what_system_the_host_has() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    assert!(run("hello", &["remote", &config]).starts_with("remote: Linux "));
}

#[test]
fn parallel_prints_each_result() {
    let lab = Lab::start();
    lab.host_through("closed", 1, &[]);
    lab.host_through("another", lab.port(), &[]);
    let config = lab.config_path().display().to_string();
    let hosts = ["remote", "another", "closed", "remote+sudo"];
    let words = [&[&*config, "echo here"][..], &hosts].concat();
    let mut lines: Vec<String> = run_to(1, "parallel", &words).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines[0], "another: exit status: 0: here");
    assert!(lines[1].starts_with("closed: try again: "), "{lines:?}");
    assert!(lines[2].starts_with("remote+sudo: ") && !lines[2].contains("here"), "{lines:?}");
    assert_eq!(lines[3], "remote: exit status: 0: here");
}

#[test]
fn line_protocol_gets_an_answer_for_each_line() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    let expected = "1 squared is 1\n2 squared is 4\n3 squared is 9\n\
                    the service ended: exit status: 0\n";
    assert_eq!(run("line_protocol", &["remote", &config]), expected);
}

#[test]
fn http_over_route_prints_a_page_of_the_target() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let served = std::thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\na page\n").unwrap();
        String::from_utf8(request).unwrap()
    });
    assert_eq!(run("http_over_route", &["remote", &port, &config]), "200 OK\na page\n");
    assert!(served.join().unwrap().starts_with("GET / HTTP/1.1\r\n"));
}

#[test]
fn shared_leaves_the_connection_to_the_users_master() {
    let lab = Lab::start();
    let config = lab.config_path().display().to_string();
    let program = fakessh_lab::binary::fakessh();
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    for _ in 0..2 {
        let words = [example("shared").to_str().unwrap(), "remote", "echo here; exit 3", &config]
            .map(str::to_owned);
        let tool = Tool::new(words).env("PATH", &path).env("FAKESSH_DIR", lab.fakessh_dir());
        assert_eq!(tool.run().expect_status(3).out(), "here\n");
    }
    assert_eq!(lab.logins(), 1);
}

#[test]
fn tool_copies_to_two_places_with_one_login() {
    let lab = Lab::start();
    lab.host_through("another", lab.port(), &[]);
    let config = lab.config_path().display().to_string();
    let tree = lab.local_dir("tree");
    std::fs::write(tree.join("file"), "text").unwrap();
    let program = example("tool");
    let words = [program.to_str().unwrap(), tree.to_str().unwrap(), &config, "remote", "another"];
    let copied = Tool::new(words).env("FAKESSH_DIR", lab.fakessh_dir()).run().expect_status(0);
    assert_eq!(copied.out(), "first: exit status: 0\nsecond: exit status: 0\n");
    let read = "cat copy-first/file copy-second/file";
    let read = lab.fakessh(["ssh", "-F", &config, "remote", read]).run().expect_status(0);
    assert_eq!(read.out(), "texttext");
}
