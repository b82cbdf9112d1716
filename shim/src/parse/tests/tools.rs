//! The command lines that tools are known to use, as their sources and their runs show them.

use super::*;

/// What a tool wants, in short.
struct Wanted {
    user: Option<&'static str>,
    host: &'static str,
    port: Option<u16>,
    request: Request,
    /// How `ssh -G` is to be asked, in words.
    way: &'static str,
}

fn check(tool: &str, line: &CommandLine, wanted: &Wanted) {
    let invocation = &line.invocation;
    assert_eq!(invocation.unserved, None, "{tool}");
    assert_eq!(invocation.destination.user.as_deref(), wanted.user, "{tool}");
    assert_eq!(invocation.destination.host, wanted.host, "{tool}");
    assert_eq!(invocation.destination.port, wanted.port, "{tool}");
    assert_eq!(invocation.request, wanted.request, "{tool}");
    assert_eq!(texts(&invocation.connection).join(" "), wanted.way, "{tool}");
}

fn subsystem(name: &str) -> Request {
    Request::Subsystem(name.into())
}

#[test]
fn tools_whose_words_hold_no_space() {
    let host = |request, way| Wanted { user: None, host: "h", port: None, request, way };
    let full = |request, way| Wanted { user: Some("u"), host: "h", port: Some(22), request, way };
    let user = |request, way| Wanted { user: Some("u"), host: "h", port: None, request, way };
    let scp = "-x -oPermitLocalCommand=no -oClearAllForwardings=yes -oRemoteCommand=none \
               -oRequestTTY=no -oControlMaster=no -oForwardAgent=no";
    let table = [
        (
            "rsync",
            "-l u h rsync --server -vlogDtpre.iLsfxCIvu . /srv/site/".to_owned(),
            user(command("rsync --server -vlogDtpre.iLsfxCIvu . /srv/site/"), ""),
        ),
        (
            "rsync -4 with a port",
            "-p 22 -l u -4 h rsync --server --sender -logDtpre.iLsfxCIvu . x".into(),
            full(
                command("rsync --server --sender -logDtpre.iLsfxCIvu . x"),
                "-o AddressFamily=inet",
            ),
        ),
        ("scp", format!("{scp} -p 22 -l u -s -- h sftp"), full(subsystem("sftp"), "")),
        (
            "scp -O to",
            format!("{scp} -l u -- h scp -r -t dir/"),
            user(command("scp -r -t dir/"), ""),
        ),
        ("scp -O from", format!("{scp} -- h scp -f file"), host(command("scp -f file"), "")),
        (
            "scp -C -i",
            format!("{scp} -C -i key -- h scp -f file"),
            host(command("scp -f file"), "-o Compression=yes -i key"),
        ),
        (
            "sshfs",
            "-x -a -oClearAllForwardings=yes -oServerAliveInterval=15 -2 -s -- u@h sftp".into(),
            user(subsystem("sftp"), "-o ServerAliveInterval=15"),
        ),
        (
            "sshfs with a port",
            "-x -a -oClearAllForwardings=yes -oport=22 -2 -s -- u@h sftp".into(),
            full(subsystem("sftp"), ""),
        ),
        ("restic", "h -p 22 -l u -s sftp".into(), full(subsystem("sftp"), "")),
        (
            "restic with keepalive",
            "h -l u -o ServerAliveInterval=60 -o ServerAliveCountMax=240 -s sftp".into(),
            user(subsystem("sftp"), "-o ServerAliveInterval=60 -o ServerAliveCountMax=240"),
        ),
        ("rclone", "u@h -s sftp".into(), user(subsystem("sftp"), "")),
        (
            "unison",
            "-l u -p 22 h -e none unison -server -contactquietly".into(),
            full(command("unison -server -contactquietly"), ""),
        ),
        ("pdsh", "-2 -a -x -l u h uname -a".into(), user(command("uname -a"), "")),
        ("svn", "-q -- u@h svnserve -t".into(), user(command("svnserve -t"), "")),
        ("borg", "-p 22 u@h borg serve --info".into(), full(command("borg serve --info"), "")),
        (
            "distcc",
            "-l u h distccd --inetd --enable-tcp-insecure".into(),
            user(command("distccd --inetd --enable-tcp-insecure"), ""),
        ),
        (
            "clush",
            "-oForwardAgent=no -oForwardX11=no -o StrictHostKeyChecking=no \
             -o ConnectTimeout=15 -l u h uptime"
                .into(),
            user(command("uptime"), "-o StrictHostKeyChecking=no -o ConnectTimeout=15"),
        ),
        (
            "pssh",
            "h -o NumberOfPasswordPrompts=1 -o SendEnv=PSSH_NODENUM -l u -p 22 uptime".into(),
            full(command("uptime"), "-o NumberOfPasswordPrompts=1"),
        ),
        ("syncoid", "-S /tmp/syncoid-u@h-1 u@h zfs list".into(), user(command("zfs list"), "")),
        (
            "nix copy",
            "h -x -a nix-store --serve --write".into(),
            host(command("nix-store --serve --write"), ""),
        ),
    ];
    for (tool, words, wanted) in table {
        check(tool, &parsed(&words, &[]), &wanted);
    }
}

#[test]
fn git() {
    let line = parsed("-o SendEnv=GIT_PROTOCOL -p 22 u@h", &["git-upload-pack 'repo.git'"]);
    let request = command("git-upload-pack 'repo.git'");
    let wanted = Wanted { user: Some("u"), host: "h", port: Some(22), request, way: "" };
    check("git", &line, &wanted);
    assert_eq!(line.invocation.send_env, ["GIT_PROTOCOL"]);
}

#[test]
fn sftp() {
    let line = parsed(
        "",
        &[
            "-oForwardX11 no",
            "-oPermitLocalCommand no",
            "-oClearAllForwardings yes",
            "-oForwardAgent no",
            "-oPort 22",
            "-oUser u",
            "-obatchmode yes",
            "-s",
            "--",
            "h",
            "sftp",
        ],
    );
    let request = subsystem("sftp");
    check("sftp", &line, &Wanted { user: Some("u"), host: "h", port: Some(22), request, way: "" });
    assert!(line.invocation.batch);
}

#[test]
fn mercurial() {
    let line = parsed("u@h", &["hg -R repo serve --stdio"]);
    let request = command("hg -R repo serve --stdio");
    check("hg", &line, &Wanted { user: Some("u"), host: "h", port: None, request, way: "" });
}

#[test]
fn ansible() {
    let line = parsed(
        "-vvv -C -o ControlMaster=auto -o ControlPersist=60s -o KbdInteractiveAuthentication=no \
         -o PasswordAuthentication=no -o Port=22",
        &[
            "-o",
            "User=\"u\"",
            "-o",
            "ConnectTimeout=10",
            "-o",
            "ControlPath=\"/home/u/.ansible/cp/0123\"",
            "h",
            "/bin/sh -c 'echo ~u && sleep 0'",
        ],
    );
    let way = "-o Compression=yes -o KbdInteractiveAuthentication=no \
               -o PasswordAuthentication=no -o ConnectTimeout=10";
    let request = command("/bin/sh -c 'echo ~u && sleep 0'");
    check("ansible", &line, &Wanted { user: Some("u"), host: "h", port: Some(22), request, way });

    let terminal = parsed("-tt h", &["sudo id"]).invocation;
    assert_eq!(terminal.request_tty, Some(RequestTty::Force));
}

#[test]
fn docker() {
    let line = parsed(
        "-l u -p 22",
        &["-o ConnectTimeout=30", "-T", "--", "h", "docker system dial-stdio"],
    );
    let request = command("docker system dial-stdio");
    let way = "-o ConnectTimeout=30";
    check("docker", &line, &Wanted { user: Some("u"), host: "h", port: Some(22), request, way });
}

#[test]
fn nix_with_a_master_of_its_own() {
    let master = parsed(
        "h -x -M -N -S /tmp/nix/ssh.sock",
        &["-oPermitLocalCommand=yes", "-oLocalCommand=echo started"],
    );
    let request = Request::Nothing;
    check("nix -M", &master, &Wanted { user: None, host: "h", port: None, request, way: "" });
    assert_eq!(master.local.local_command, Some("echo started".into()));
    assert!(master.invocation.announce && master.local.is_master);
}

#[test]
fn libvirt() {
    let line = parsed("-T -e none -- h", &["sh -c 'virt-ssh-helper \"qemu:///system\"'"]);
    let request = command("sh -c 'virt-ssh-helper \"qemu:///system\"'");
    check("libvirt", &line, &Wanted { user: None, host: "h", port: None, request, way: "" });
}
