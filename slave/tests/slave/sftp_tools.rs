//! OpenSSH's own `sftp` and `scp`, and `sshfs`, with OpenSSH's server and with ours: the same
//! output, the same files, the same status.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::sftp_client::{Scratch, openssh, ours};
use fakessh_lab::privilege::{has, not_here, root_for};

/// What is there to be sent and fetched. All times are of the past, so that two runs look alike.
const TREE: &str = "
    umask 022; mkdir -p local remote/dir/sub 'remote/odd names' remote/empty local/up/deep
    seq 200000 >remote/big; seq 100000 120000 >local/up/numbers; printf x >local/up/deep/x
    printf hello >remote/hello; ln -s hello remote/link; ln -s nowhere remote/dangling
    ln -s .. remote/dir/up; printf s >remote/dir/sub/s; printf n >\"remote/odd names/a b\"
    printf q >\"remote/odd names/it's\"; printf g >'remote/odd names/[g]*?'
    printf u >'remote/odd names/\u{fc}\u{2713}'
    printf i >\"$(printf 'remote/odd names/\\377')\"
    truncate -s 3M local/sparse; printf end >>local/sparse; : >local/nothing; : >remote/nothing
    head -c 100000 remote/big >local/part; cp local/part remote/part; seq 200000 >local/part.full
    chmod 600 remote/hello; chmod 4750 local/up/numbers; chmod 700 local/up/deep
    mkfifo remote/fifo; cp -r remote/dir remote/dir2
    for n in $(seq 120); do echo $n >remote/empty/$n; done
    find . -exec touch -h -d '2001-02-03 04:05:06' {} +";

/// What is there afterwards: kinds, modes, owners, links, sizes, times, contents.
const STATE: &str = "
    find local remote -printf '%p|%y|%m|%U|%G|%n|%l\\n' | LC_ALL=C sort
    find local remote \\( -newermt 2024-01-01 -printf '%p now\\n' \\) -o -printf '%p %Ts\\n' | LC_ALL=C sort
    find local remote -type f -printf '%p %s\\n' | LC_ALL=C sort
    find local remote -type f -exec cksum {} + | LC_ALL=C sort";

/// What a run left.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    state: String,
}

/// Runs `command` in a new tree with each server, which lies at `server` in it.
fn with_both(command: impl Fn(&Scratch) -> Command) -> Option<[Outcome; 2]> {
    let scratch = Scratch::new();
    if !has("sftp") || !has("scp") {
        return None;
    }
    let servers = [openssh()?, ours()];
    Some(servers.map(|server| {
        scratch.empty();
        scratch.shell(TREE);
        let _ = server_at(&scratch, &server);
        let output = command(&scratch).stdin(Stdio::null()).output().unwrap();
        Outcome {
            status: output.status.code(),
            stdout: without_now(&String::from_utf8_lossy(&output.stdout)),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            state: scratch.shell(STATE),
        }
    }))
}

/// A program at a fixed path that is this server, whatever its arguments. (A shell writes it: a
/// descriptor of ours that another test's child had for a moment would make it busy.)
fn server_at(scratch: &Scratch, server: &[String]) -> PathBuf {
    let line = format!("exec {}", server.join(" "));
    scratch.shell(&format!("printf '#!/bin/sh\\n%s\\n' '{line}' >../server; chmod 755 ../server"));
    scratch.server()
}

/// Times of today, which differ from one run to the next, made alike: `Nov 21 09:44`.
fn without_now(text: &str) -> String {
    let mut alike = String::new();
    for line in text.split_inclusive('\n') {
        let time = line.char_indices().map(|(at, _)| at).find(|&at| {
            line.as_bytes()[at..].first_chunk::<12>().is_some_and(|time| {
                time[3] == b' ' && time[6] == b' ' && time[9] == b':' && time[10].is_ascii_digit()
            })
        });
        match time {
            Some(at) => {
                alike += &line[..at];
                alike += "(today)     ";
                alike += &line[at + 12..];
            }
            None => alike += line,
        }
    }
    alike
}

/// Asserts that both did the same, and returns it.
fn same([theirs, ours]: [Outcome; 2]) -> Outcome {
    assert_eq!(theirs.stdout, ours.stdout, "stdout");
    assert_eq!(theirs.stderr, ours.stderr, "stderr");
    assert_eq!(theirs.state, ours.state, "files");
    assert_eq!(theirs.status, ours.status);
    ours
}

fn sftp(scratch: &Scratch, batch: &str, options: &[&str]) -> Command {
    fs::write(scratch.path.join("batch"), batch).unwrap();
    let mut command = Command::new("sftp");
    command.args(options).arg("-D").arg(scratch.server());
    command.args(["-b", "batch"]).current_dir(&scratch.path);
    command
}

#[test]
fn a_batch_of_everything_does_the_same() {
    let batch = "
        cd remote
        lcd local
        pwd
        ls
        ls -la
        ls -ln dir
        ls -lh *
        ls -1t empty
        ls -lS
        ls odd*
        ls -l empty
        -ls nothere
        df /proc
        df -i /proc
        df -h /sys
        put up/numbers
        put -p up/numbers numbers.p
        put -f up/numbers numbers.f
        put sparse
        put nothing zero
        put -Rp up
        -put up
        -put nothere
        -put up/numbers nothere/x
        get big
        get -p hello hello.p
        get -f hello hello.f
        get link
        get nothing zero
        get -Rp dir
        get -R empty
        get 'odd names/a b'
        get \"odd names/it's\"
        -get odd\\ names/\\[g\\]\\*\\?
        get odd\\ names/*
        -get dangling
        -get nothere
        -get dir
        -get fifo
        reget big part
        reput part.full part
        -reput hello.p big
        mkdir made
        -mkdir made
        -mkdir nothere/made
        rename hello renamed
        -rename nothere x
        -rename dir2 big
        rename renamed part
        ln part hard
        -ln nothere x
        -ln part big
        ln -s target symbolic
        -ln -s target symbolic
        symlink ../x made/symbolic
        chmod 4711 big
        chmod 700 dir
        -chmod 600 dangling
        chown 12 big
        chgrp 13 big
        chown -h 14 dangling
        chgrp -h 15 dangling
        -chown 12 nothere
        cp big copy
        copy 'odd names/a b' copy2
        -cp nothere x
        -cp dir x
        -cp big big
        -cp big made
        rm copy2
        rm empty/1*
        -rm made
        -rm nothere
        -rmdir dir
        -rmdir nothere
        -rmdir big
        rm made/symbolic
        rmdir made
        cd dir/up/dir
        pwd
        -cd hello
        -cd ../nothere
        cd ..
        ls -l
        cd /
        pwd
        -cd ~
        version
        bye";
    let Some(both) = with_both(|scratch| sftp(scratch, batch, &[])) else { return };
    let outcome = same(both);
    assert_eq!(outcome.status, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(outcome.stdout.contains("ls -l"), "{}", outcome.stdout);
    assert!(outcome.state.contains("remote/copy|f|"), "{}", outcome.state);
}

#[test]
fn the_first_failure_ends_a_batch_with_the_same_status() {
    for command in ["rm nothere", "get nothere", "cd big", "mkdir dir", "put nothere", "ls no"] {
        let batch = format!("cd remote\n{command}\nmkdir not-reached\n");
        let Some(both) = with_both(|scratch| sftp(scratch, &batch, &[])) else { return };
        let outcome = same(both);
        assert_eq!(outcome.status, Some(1), "{command}");
        assert!(!outcome.state.contains("not-reached"));
    }
}

#[test]
fn other_sizes_and_numbers_of_requests_do_the_same() {
    let batch = "cd remote\nlcd local\nput up/numbers\nget big\nget -R empty\nput sparse\n";
    for options in [
        &["-B", "1000", "-R", "200"][..],
        &["-B", "260000", "-R", "64"],
        &["-B", "1", "-R", "1", "-p", "-r"],
    ] {
        // A byte at a time takes its time.
        let batch =
            if options[1] == "1" { "put -Rp local/up remote\nget remote/hello" } else { batch };
        let command = |scratch: &Scratch| sftp(scratch, batch, options);
        let Some(both) = with_both(command) else { return };
        assert_eq!(same(both).status, Some(0), "{options:?}");
    }
}

#[test]
fn scp_does_the_same() {
    for (words, status) in [
        (&["host:remote/big", "local/big"][..], 0),
        (&["-p", "host:remote/hello", "local"], 0),
        (&["-rp", "local/up", "host:remote/new"], 0),
        (&["-r", "local/up", "host:remote"], 0),
        // A link to a directory is not fetched.
        (&["-r", "host:remote/dir", "host:remote/odd names", "local"], 1),
        (&["-r", "host:remote/odd names", "host:remote/empty", "local"], 0),
        (&["host:remote/odd names/*", "local"], 0),
        (&["local/sparse", "local/nothing", "host:remote/empty"], 0),
        (&["local/part", "host:remote/part"], 0),
        (&["host:remote/nothere", "local"], 1),
        (&["local/part", "host:nothere/x"], 1),
        (&["host:remote/dir", "local"], 1),
        (&["-r", "host:remote/dir", "local/part"], 1),
        (&["host:~/no-such-file-at-all", "local"], 1),
    ] {
        let command = |scratch: &Scratch| {
            let mut command = Command::new("scp");
            command.arg("-D").arg(scratch.server());
            command.args(words).current_dir(&scratch.path);
            command
        };
        let Some(both) = with_both(command) else { return };
        assert_eq!(same(both).status, Some(status), "{words:?}");
    }
}

#[test]
fn what_is_not_allowed_fails_the_same() {
    if !root_for("being somebody else") {
        return;
    }
    let batch = "cd remote\n-ls locked\n-get locked/in\n-put local/part locked/x\n-rm locked/in\n\
        -mkdir locked/x\n-get secret\n-put local/part secret\n-chmod 777 secret\n-chown 1 secret\n\
        -rename secret x\n-rename mine secret\n-ln secret x\n-rm secret\n-cp secret mine/x\n\
        put local/part mine/part\n-ls -l\nls -l mine\nchmod 600 mine/part\n-cd locked\n-ls\n";
    let command = |scratch: &Scratch| {
        scratch.shell(
            "mkdir remote/locked remote/mine; touch remote/locked/in; chmod 700 remote/locked
             echo s >remote/secret; chmod 600 remote/secret; chown nobody remote/mine
             touch -d 2001-01-01 remote/* remote",
        );
        let plain = sftp(scratch, batch, &[]);
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "sftp"]);
        command.args(plain.get_args()).current_dir(&scratch.path);
        command
    };
    let Some(both) = with_both(command) else { return };
    let outcome = same(both);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("Permission denied"), "{}", outcome.stderr);
}

/// A mounted directory, unmounted however the test ends.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("fusermount3").args(["-u", "-z"]).arg(&self.0).status();
    }
}

/// Mounts `remote` at `mount`, with this server.
fn mount(scratch: &Scratch, server: &[String]) -> Option<Mount> {
    let server = server_at(scratch, server);
    let point = scratch.path.join("mount");
    fs::create_dir_all(&point).unwrap();
    let mut command = Command::new("sshfs");
    command.arg(format!("host:{}", scratch.path.join("remote").display())).arg(&point);
    command.arg("-o").arg(format!("ssh_command={}", server.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success().then_some(Mount(point))
}

#[test]
fn sshfs_works_over_it() {
    let scratch = Scratch::new();
    scratch.shell(TREE);
    if !has("sshfs") {
        return;
    }
    let Some(mounted) = mount(&scratch, &ours()) else {
        // Where there is no FUSE, or no right to it, OpenSSH's server does not help.
        let theirs = openssh().and_then(|theirs| mount(&scratch, &theirs));
        assert!(theirs.is_none(), "sshfs mounts with OpenSSH's server, and not with ours");
        return not_here("the kernel lets sshfs mount nothing");
    };
    scratch.shell(
        "diff remote/big mount/big; test $(ls mount/empty | wc -l) = 120
         cp -a local/up mount/; cmp local/up/numbers remote/up/numbers
         test \"$(stat -c '%a %Y' local/up/numbers)\" = \"$(stat -c '%a %Y' remote/up/numbers)\"
         mv mount/big mount/moved; mv mount/moved mount/hello; cmp remote/hello mount/hello
         ln mount/part mount/hard; ln -s part mount/soft; test $(readlink remote/soft) = part
         truncate -s 1000 mount/part; test $(stat -c %s remote/part) = 1000
         printf more >>mount/part; test $(stat -c %s remote/part) = 1004
         chmod 640 mount/part; test $(stat -c %a remote/part) = 640
         mkdir mount/m; rmdir mount/m; rm -r mount/empty; test ! -e remote/empty
         df mount >/dev/null; sync mount/part; ! rm mount/nothere 2>/dev/null",
    );
    let mut file = fs::File::create(mounted.0.join("written")).unwrap();
    let block = vec![b'b'; 1_000_000];
    for _ in 0..20 {
        file.write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
    drop(file);
    let written = fs::read(Path::new(&scratch.path).join("remote/written")).unwrap();
    assert!(written.len() == 20_000_000 && written.iter().all(|&byte| byte == b'b'));
}
