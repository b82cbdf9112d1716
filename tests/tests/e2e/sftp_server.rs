//! The SFTP server of the slave itself, reached as any other: through a connection, by `sftp`.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use fakessh_lab::tree;
use fakessh_lab::{Client, Lab};

#[test]
fn sftp_works_where_the_target_has_no_server_of_its_own() {
    let lab = Lab::start();
    let remote = lab.remote_dir().join("served");
    fs::create_dir(&remote).unwrap();
    lab.account().give(&remote);
    let local = lab.local_dir("served");
    let big = vec![b'b'; 20_000_000];
    fs::write(local.join("big"), &big).unwrap();
    fs::create_dir(local.join("tree")).unwrap();
    // SFTP's times are whole seconds.
    let then = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for number in 0..150 {
        let path = local.join(format!("tree/{number}"));
        fs::write(&path, number.to_string()).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
    }
    fs::File::open(local.join("tree")).unwrap().set_modified(then).unwrap();
    let batch = format!(
        "cd {}\nput big\nput -Rp tree\nget big back\nget -Rp tree tree2\nls -l big\nrm big\n",
        remote.display()
    );
    let command = ["sftp", "-q", "-s", "fakessh-sftp", "-b", "-", "remote"];
    let tool = lab.tool(Client::Fakessh, command).directory(&local);
    let done = tool.input(batch).run().expect_status(0);
    assert!(done.out().contains(" 20000000 "), "{}", done.shown());
    assert!(fs::read(local.join("back")).unwrap() == big);
    tree::assert_same(&local.join("tree"), &local.join("tree2"));
    assert!(!remote.join("big").exists());
    let tool = lab.tool(Client::Fakessh, command).directory(&local);
    tool.input("get no-such-file\n".to_owned()).run().expect_status(1);
}
