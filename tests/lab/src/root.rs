//! File systems for containers: busybox, two accounts, and nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::copy_program;

/// The account in a root that is not root: its name, and its user and group id.
pub const USER: (&str, u32) = ("app", 1234);

/// Where Debian's busybox-static puts its program.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// The programs of a root, all of them busybox.
const PROGRAMS: &str = "[ ash awk basename cat chmod chown chroot cmp cp cut date dd diff dirname du echo \
    env false find grep gzip gunzip head hostname id kill ln ls md5sum mkdir mktemp mount mv \
    printenv printf ps pwd readlink realpath rm rmdir sed seq sh sha256sum sleep sort stat stty \
    sync tail tar tee test touch tr true tty umount uname uniq wc which whoami xargs";

/// Makes a root in this directory with the usual programs of a static busybox. It has no `sftp-server`.
///
/// # Panics
/// Without busybox, or if the directory can't be written.
pub fn make(root: &Path) {
    for (name, mode) in
        [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("proc", 0o555), ("dev", 0o755)]
    {
        directory(&root.join(name), mode);
    }
    for name in ["tmp", "srv"] {
        directory(&root.join(name), 0o1777);
    }
    copy_program(&busybox(), &root.join("bin/busybox"));
    for name in PROGRAMS.split_whitespace() {
        symlink("busybox", root.join("bin").join(name)).expect("a link to busybox");
    }
    let (user, id) = USER;
    let passwd = format!("root:x:0:0::/root:/bin/sh\n{user}:x:{id}:{id}::/srv:/bin/sh\n");
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(root.join("etc/group"), format!("root:x:0:\n{user}:x:{id}:\n")).unwrap();
}

/// Commands that put the usual devices into a root, in whose mount namespace they run.
pub(crate) fn devices(root: &Path) -> String {
    let dev = root.join("dev").display().to_string();
    format!(
        "for device in null zero full random urandom tty; do
            touch '{dev}'/$device; mount --bind /dev/$device '{dev}'/$device
        done"
    )
}

/// Makes a root that can run nothing but `/bin/sleep`: it has no shell.
///
/// # Panics
/// As [`make`].
pub fn make_without_shell(root: &Path) {
    directory(&root.join("bin"), 0o755);
    copy_program(&busybox(), &root.join("bin/sleep"));
}

/// Copies a program of this machine into a root, with the libraries that it needs.
///
/// # Panics
/// If `ldd` doesn't know it.
pub fn add_program(root: &Path, program: &str) {
    let listed = Command::new("ldd").arg(program).output().expect("running ldd");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let copy = root.join(file.trim_start_matches('/'));
        let parent = copy.parent().expect("a file in a directory");
        fs::create_dir_all(parent).expect("creating a directory of a root");
        copy_program(Path::new(file), &copy);
    }
    // Programs are looked for in /bin, which busybox knows.
    let name = Path::new(program).file_name().expect("a program's name");
    let plain = root.join("bin").join(name);
    if !plain.exists() {
        symlink(program, plain).expect("a link to a program");
    }
}

fn directory(path: &Path, mode: u32) {
    fs::create_dir_all(path).expect("creating a directory of a root");
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn busybox() -> PathBuf {
    let found = BUSYBOX.iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("busybox is not installed (Debian: busybox-static)")
}
