//! The same packets to OpenSSH's server and to ours: the same answers, byte by byte.

use std::fs;

use crate::sftp_client::{Body, Client, Scratch, kind, openssh, ours, text};

/// Names that need care, and lengths that are limits.
fn odd_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b""[..],
        b".",
        b"..",
        b"/",
        b"//",
        b"./",
        b"../",
        b"a",
        b"a/",
        b"a/.",
        b"a/..",
        b"a/x",
        b"no",
        b"no/",
        b"no/x",
        b"d",
        b"d/",
        b"d/e/../f",
        b"link",
        b"link/",
        b"dlink/f",
        b"dlink/..",
        b"loop",
        b"loop/x",
        b"dangling",
        b"dangling/",
        b" ",
        b"*",
        b"\xff\xfe",
        b"-",
        b"~",
        b"~/a",
        b"~root",
        b"~root/",
        b"~root//x",
        b"~nobody-of-this-name/x",
        b"a\0",
        b"/root/..",
        b"/dev/null",
        b"/dev/null/x",
        b"/proc/self/..",
        b"/usr/share",
        b"//usr//./share",
        b"new\nline",
    ]
    .map(<[u8]>::to_vec)
    .into();
    for len in [255, 256, 1023, 4094, 4095, 4096, 5000, 100_000] {
        names.push(vec![b'n'; len]);
        names.push(b"./".repeat(len / 2));
    }
    names
}

fn tree(scratch: &Scratch) {
    scratch.shell(
        "printf hello >a; mkdir -p d/e; printf f >d/f; ln -s a link; ln -s d dlink; ln -s loop loop
         ln -s gone dangling; mkfifo fifo; touch ' ' ./- '*' \"$(printf 'new\\nline')\" sticky
         chmod 4711 a; chmod 2750 d; chmod 1777 d/e; chmod 7000 sticky; ln a hard
         truncate -s 5000000000 big
         for n in $(seq 250); do echo $n >many-$n; done; mkdir empty; mkdir -p locked/in
         touch -h -d '2001-02-03 04:05:06' ./*; touch -d '2040-01-01' d/f; touch -d '1960-01-01' d/e
         touch -d '-20 days' big; touch -d '2020-05-05' d .",
    );
    if rustix::process::geteuid().is_root() {
        scratch.shell(
            "chown 1:2 a; chown -h 4000000000:3999999999 link; chown nobody d
             mknod zero c 1 5 || true; mknod disk b 1 5 || true",
        );
    }
}

/// Both servers in this directory, after their introductions.
fn pair(scratch: &Scratch) -> Option<[Client; 2]> {
    let theirs = openssh()?;
    let mut both = [&theirs, &ours()].map(|server| Client::start(server, &scratch.path));
    let introductions = both.each_mut().map(|client| client.init(3));
    assert_eq!(introductions[0], introductions[1], "extensions differ");
    Some(both)
}

/// Asks both, and returns the one answer.
fn ask(both: &mut [Client; 2], kind: u8, body: &Body) -> Vec<u8> {
    let [theirs, ours] = both.each_mut().map(|client| client.ask(kind, body));
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(600)]).into_owned();
    assert!(
        theirs == ours,
        "request {kind} {:?}\ntheirs {:?}\nours   {:?}",
        shown(&body.0),
        shown(&theirs),
        shown(&ours)
    );
    ours
}

fn extended(name: &str, body: Body) -> Body {
    let mut whole = text(name);
    whole.0.extend(body.0);
    whole
}

#[test]
fn questions_about_names_have_the_same_answers() {
    let scratch = Scratch::new();
    tree(&scratch);
    let Some(mut both) = pair(&scratch) else { return };
    for name in odd_names() {
        for kind in [kind::STAT, kind::LSTAT, kind::REALPATH, kind::READLINK] {
            ask(&mut both, kind, &text(&name));
        }
        ask(&mut both, kind::EXTENDED, &extended("expand-path@openssh.com", text(&name)));
    }
    // Before 9.8, OpenSSH had one's own home for whoever exists, and none for the empty name.
    for name in ["root", "nobody-of-this-name", "~", "root\0"] {
        ask(&mut both, kind::EXTENDED, &extended("home-directory", text(name)));
    }
    for path in ["/proc", "/sys", "/dev/null", "no", ""] {
        ask(&mut both, kind::EXTENDED, &extended("statvfs@openssh.com", text(path)));
    }
    let ids: Vec<u8> = [0u32, 1, 2, 33, 65534, 4_000_000_000, u32::MAX]
        .iter()
        .flat_map(|id| id.to_be_bytes())
        .collect();
    let body = extended("users-groups-by-id@openssh.com", text(&ids).string(&ids));
    ask(&mut both, kind::EXTENDED, &body);
    let body = extended("users-groups-by-id@openssh.com", text("").string(""));
    ask(&mut both, kind::EXTENDED, &body);
    // All limits but that of handles.
    let limits = extended("limits@openssh.com", Body::default());
    let [theirs, ours] = both.each_mut().map(|client| client.ask(kind::EXTENDED, &limits));
    assert_eq!((theirs.len(), &theirs[..29]), (ours.len(), &ours[..29]));
    ask(&mut both, kind::EXTENDED, &extended("no-such-extension", text("x")));
}

#[test]
fn directories_are_listed_the_same() {
    let scratch = Scratch::new();
    tree(&scratch);
    // Whoever reads a directory first changes its time of access. And none is listed in which
    // other tests change something: they make accounts, and use terminals.
    scratch.shell("ls -R >/dev/null; ls .. / /usr /usr/share >/dev/null");
    let Some(mut both) = pair(&scratch) else { return };
    for path in [".", "d", "d/", "dlink", "empty", "a", "no", "", "fifo", "/usr", "/usr/share"] {
        let answer = ask(&mut both, kind::OPENDIR, &text(path));
        if answer[0] != 102 {
            continue;
        }
        let handle = &answer[9..];
        while ask(&mut both, kind::READDIR, &text(handle))[0] == 104 {}
        ask(&mut both, kind::READDIR, &text(handle));
        ask(&mut both, kind::READ, &text(handle).u64(0).u32(10));
        ask(&mut both, kind::FSTAT, &text(handle));
        ask(&mut both, kind::FSETSTAT, &text(handle).u32(0));
        ask(&mut both, kind::CLOSE, &text(handle));
    }
}

#[test]
fn files_are_read_the_same() {
    let scratch = Scratch::new();
    tree(&scratch);
    let Some(mut both) = pair(&scratch) else { return };
    for path in ["a", "link", "big", "d", "no", "/dev/zero", "/proc/version", "loop", "dangling"] {
        let answer = ask(&mut both, kind::OPEN, &text(path).u32(1).u32(0));
        if answer[0] != 102 {
            continue;
        }
        let handle = &answer[9..];
        if !path.starts_with('/') {
            ask(&mut both, kind::FSTAT, &text(handle));
        }
        for offset in [0, 1, 4, 5, 6, 4_999_999_999, i64::MAX as u64, u64::MAX] {
            for len in [0, 1, 5, 32_768, 261_120, 261_121, u32::MAX] {
                ask(&mut both, kind::READ, &text(handle).u64(offset).u32(len));
            }
        }
        ask(&mut both, kind::WRITE, &text(handle).u64(0).string("x"));
        ask(&mut both, kind::EXTENDED, &extended("fsync@openssh.com", text(handle)));
        ask(&mut both, kind::CLOSE, &text(handle));
        ask(&mut both, kind::CLOSE, &text(handle));
    }
    for handle in [&b""[..], &[0], &[0; 4], &[0xff; 4], &[0x7f; 4], &[0; 255], &[0; 300]] {
        for kind in [kind::CLOSE, kind::FSTAT, kind::READDIR] {
            ask(&mut both, kind, &text(handle));
        }
        ask(&mut both, kind::READ, &text(handle).u64(0).u32(1));
        ask(&mut both, kind::WRITE, &text(handle).u64(0).string("x"));
        ask(&mut both, kind::FSETSTAT, &text(handle).u32(1).u64(0));
        for extension in ["fsync@openssh.com", "fstatvfs@openssh.com"] {
            ask(&mut both, kind::EXTENDED, &extended(extension, text(handle)));
        }
    }
}

/// What a test did to a directory, as far as two servers can agree on it.
fn state(scratch: &Scratch) -> String {
    scratch.shell(
        "find . -printf '%P|%y|%m|%U|%G|%n|%l\n' | LC_ALL=C sort
         find . -type f -printf '%P|%s|%TY\n' | LC_ALL=C sort
         find . -type f -size -1000k -exec cksum {} + | LC_ALL=C sort",
    )
}

#[test]
fn changes_have_the_same_outcome() {
    let Some(theirs) = openssh() else { return };
    let scratch = Scratch::new();
    let mut seen = Vec::new();
    for server in [theirs, ours()] {
        scratch.empty();
        tree(&scratch);
        let mut client = Client::start(&server, &scratch.path);
        client.init(3);
        let answers = change(&mut client);
        assert!(client.end().success());
        seen.push((answers, state(&scratch)));
    }
    let [theirs, ours] = &seen[..] else { unreachable!() };
    for (theirs, ours) in theirs.0.iter().zip(&ours.0) {
        assert_eq!(theirs, ours);
    }
    assert_eq!(theirs.1, ours.1);
}

/// Changes all that can be changed. Returns what was asked and answered.
fn change(client: &mut Client) -> Vec<String> {
    let mut answers = Vec::new();
    let mut ask = |kind: u8, body: &Body| {
        let answer = client.ask(kind, body);
        let asked = String::from_utf8_lossy(&body.0[..body.0.len().min(80)]).into_owned();
        answers.push(format!("{kind} {asked:?}: {:?}", String::from_utf8_lossy(&answer)));
        answer
    };
    let attributes = |flags: u32| Body::default().u32(flags);
    let with = |path: &str, attributes: &Body| {
        let mut body = text(path);
        body.0.extend(&attributes.0);
        body
    };
    for (path, attributes) in [
        ("m1", attributes(0)),
        ("m2", attributes(4).u32(0o41_2711)),
        ("m1", attributes(0)),
        ("no/x", attributes(0)),
        ("a/x", attributes(0)),
        ("", attributes(0)),
    ] {
        ask(kind::MKDIR, &with(path, &attributes));
    }
    for path in ["a", "many-1", "d", "link", "dlink", "fifo", "no", "dangling", "loop"] {
        for attributes in [
            attributes(1).u64(3),
            attributes(1).u64(u64::MAX),
            attributes(4).u32(0o100_4640),
            attributes(8).u32(1_000_000_000).u32(u32::MAX),
            attributes(2).u32(7).u32(8),
            attributes(2).u32(u32::MAX).u32(9),
            attributes(0x8000_000f)
                .u64(2)
                .u32(1)
                .u32(1)
                .u32(0o600)
                .u32(5)
                .u32(6)
                .u32(1)
                .string("x")
                .string("y"),
            attributes(0),
        ] {
            ask(kind::SETSTAT, &with(path, &attributes));
            let link = extended("lsetstat@openssh.com", with(path, &attributes));
            ask(kind::EXTENDED, &link);
        }
    }
    for (old, new) in [
        ("many-2", "renamed"),
        ("many-3", "many-4"),
        ("many-5", "many-5"),
        ("many-6", "no/x"),
        ("no", "x"),
        ("d", "empty"),
        ("d", "d2"),
        ("link", "link2"),
        ("link2", "many-7"),
        ("many-8", "dangling"),
        ("empty", "d2/empty"),
        ("d2", "d2/e/d2"),
        ("many-9", "/proc/x"),
        ("loop", "loop2"),
        ("fifo", "fifo2"),
        ("fifo2", "a"),
    ] {
        ask(kind::RENAME, &text(old).string(new));
    }
    for (old, new) in [
        ("many-10", "posix"),
        ("many-11", "many-12"),
        ("many-13", "many-13"),
        ("no", "x"),
        ("empty2", "d2"),
        ("many-14", "d2"),
        ("m1", "m2"),
        ("many-15", "/proc/x"),
        ("d2", "d2/e/x"),
    ] {
        ask(kind::EXTENDED, &extended("posix-rename@openssh.com", text(old).string(new)));
    }
    for (old, new) in
        [("many-16", "hl"), ("many-16", "many-17"), ("d2", "hd"), ("no", "x"), ("loop2", "hloop")]
    {
        ask(kind::EXTENDED, &extended("hardlink@openssh.com", text(old).string(new)));
    }
    for (target, link) in [("t", "s1"), ("t", "s1"), ("", "s2"), ("t", "no/x"), ("t", "")] {
        ask(kind::SYMLINK, &text(target).string(link));
    }
    for path in ["many-18", "d2", "s1", "no", "hloop", "", "a/x", "many-19/"] {
        ask(kind::REMOVE, &text(path));
    }
    for path in ["m2", "d2", "a", "no", ".", "..", "dlink", ""] {
        ask(kind::RMDIR, &text(path));
    }
    open_and_write(&mut ask);
    answers
}

fn open_and_write(ask: &mut impl FnMut(u8, &Body) -> Vec<u8>) {
    for (number, flags) in (0..64u32).enumerate() {
        for path in ["many-20".to_owned(), format!("new-{number}"), "dlink".to_owned()] {
            let mode = Body::default().u32(4).u32(0o100_2666);
            let mut body = text(&path).u32(flags);
            body.0.extend(mode.0);
            let answer = ask(kind::OPEN, &body);
            if answer[0] != 102 {
                continue;
            }
            let handle = &answer[9..];
            ask(kind::WRITE, &text(handle).u64(6).string("written"));
            ask(kind::WRITE, &text(handle).u64(0).string(""));
            ask(kind::WRITE, &text(handle).u64(u64::MAX).string("x"));
            ask(kind::READ, &text(handle).u64(1).u32(100));
            ask(kind::FSETSTAT, &text(handle).u32(1 | 4 | 8).u64(9).u32(0o604).u32(7).u32(8));
            ask(kind::EXTENDED, &extended("fsync@openssh.com", text(handle)));
            ask(kind::CLOSE, &text(handle));
        }
    }
    copy(ask);
}

fn copy(ask: &mut impl FnMut(u8, &Body) -> Vec<u8>) {
    let from = ask(kind::OPEN, &text("many-100").u32(1).u32(0))[9..].to_vec();
    for (number, flags) in [0x1au32, 0x0a, 0x0e, 0x01].into_iter().enumerate() {
        let path = if flags == 1 { "many-101".to_owned() } else { format!("copied-{number}") };
        let to = ask(kind::OPEN, &text(path).u32(flags).u32(0))[9..].to_vec();
        for (from_offset, len, to_offset) in [(0, 0, 0), (1, 2, 10), (100, 0, 3), (0, 4, 20)] {
            // OpenSSH forgets that it could not write the last 64 KiB.
            let len = if flags == 1 { 0 } else { len };
            let body = text(&from).u64(from_offset).u64(len).string(&to).u64(to_offset);
            ask(kind::EXTENDED, &extended("copy-data", body));
        }
        let itself = text(&from).u64(0).u64(0).string(&from).u64(0);
        ask(kind::EXTENDED, &extended("copy-data", itself));
    }
    let same = ask(kind::OPEN, &text("many-100").u32(2).u32(0))[9..].to_vec();
    let body = text(&from).u64(0).u64(0).string(&same).u64(0);
    ask(kind::EXTENDED, &extended("copy-data", body));
}

#[test]
fn version_2_gets_statuses_without_words() {
    let scratch = Scratch::new();
    let Some(theirs) = openssh() else { return };
    let answers = [theirs, ours()].map(|server| {
        let mut client = Client::start(&server, &scratch.path);
        [
            client.init(2),
            client.ask(kind::STAT, &text("no")),
            client.init(4),
            client.ask(kind::STAT, &text("no")),
        ]
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[1][1].len(), 9);
}

#[test]
fn broken_packets_end_both_with_the_same_status() {
    let scratch = Scratch::new();
    fs::write(scratch.path.join("a"), "a").unwrap();
    let Some(theirs) = openssh() else { return };
    let introduced = b"\0\0\0\x05\x01\0\0\0\x03";
    // These end it while the client still waits.
    for bytes in [
        &b"\0\x04\0\x01\x05"[..],
        b"\xff\xff\xff\xff\x05",
        b"\0\0\0\x01\x05",
        b"\0\0\0\x05\x11\0\0\0\x01",
        b"\0\0\0\x09\x11\0\0\0\x01\0\0\0\x01",
        b"\0\0\0\x0c\x11\0\0\0\x01\0\0\0\x03a\0b",
        b"\0\0\0\x09\x11\0\0\0\x01\xff\xff\xff\xff",
        b"\0\0\0\x0e\x03\0\0\0\x01\0\0\0\x01a\0\0\0\x01",
        b"\0\0\0\x05\xc8\0\0\0\x01",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        for first in [&introduced[..], b""] {
            let ends = [&theirs, &ours()].map(|server| {
                let mut client = Client::start(server, &scratch.path);
                client.send(&[first, bytes].concat());
                client.wait().code()
            });
            assert_eq!(ends[0], ends[1], "{first:?} {bytes:?}");
        }
    }
    // And these are no fault: the client has gone.
    for bytes in [&b""[..], b"\0\0\0\x05\x11", introduced] {
        for server in [&theirs, &ours()] {
            let mut client = Client::start(server, &scratch.path);
            client.send(bytes);
            assert_eq!(client.end().code(), Some(0), "{bytes:?}");
        }
    }
}
