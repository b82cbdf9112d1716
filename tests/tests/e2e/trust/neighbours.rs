//! Another process of the account: it gets into none of ours, and so not to the root that a held
//! `sudo` is.

use std::fs;

use fakessh_lab::account::PASSWORD;
use fakessh_lab::files::{copy_program, write_script};
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Askpass, Client, Lab, binary};

/// Tries every door into the processes whose command line holds a word, and says which are open:
/// descriptors, memory, environment, a debugger. The second line says how many were tried.
const ATTACK: &str = r#"
import ctypes, errno, os, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
READV, PTRACE = {"x86_64": (310, 101), "aarch64": (270, 117)}[platform.machine()]
PIDFD_OPEN, PIDFD_GETFD, SEIZE, DETACH = 434, 438, 0x4206, 17
def attack(pid):
    for number in range(64):
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                os.close(os.open(f"/proc/{pid}/fd/{number}", flags | os.O_NONBLOCK))
                yield f"fd/{number}"
            except OSError as error:
                # A socket that is reached can't be opened; what is not there is looked for.
                if error.errno == errno.ENXIO:
                    yield f"fd/{number}"
    for name in ("mem", "environ", "maps", "exe", "fd", "fdinfo", "map_files"):
        path = f"/proc/{pid}/{name}"
        try:
            os.listdir(path) if os.path.isdir(path) else os.close(os.open(path, os.O_RDONLY))
            yield name
        except OSError:
            pass
    local, far = ctypes.create_string_buffer(8), Vector(0x1000, 8)
    near = Vector(ctypes.addressof(local), 8)
    read = libc.syscall(READV, pid, ctypes.byref(near), 1, ctypes.byref(far), 1, 0)
    if read >= 0 or ctypes.get_errno() == errno.EFAULT:
        yield "process_vm_readv"
    pidfd = libc.syscall(PIDFD_OPEN, pid, 0)
    for number in range(16):
        if libc.syscall(PIDFD_GETFD, pidfd, number, 0) >= 0:
            yield f"pidfd_getfd {number}"
    if libc.syscall(PTRACE, SEIZE, pid, 0, 0) == 0:
        yield "ptrace"
        libc.syscall(PTRACE, DETACH, pid, 0, 0)
victims = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        command = open(f"/proc/{pid}/cmdline").read().replace("\0", " ")
    except OSError:
        continue
    if WORD in command and int(pid) not in (os.getpid(), os.getppid()):
        victims.append(int(pid))
def lives(pid):
    # What has ended has no memory, and its maps are open to everybody, and empty.
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False
found = {pid: set(attack(pid)) for pid in victims}
print(sorted({door for pid, doors in found.items() if lives(pid) for door in doors}))
print(len(victims))
"#;

/// Attacks the processes with this in their command line as the lab's account, and holds that at
/// least so many were there, and none of them open.
#[track_caller]
fn expect_closed(lab: &Lab, word: &str, victims: usize) {
    let script = format!("WORD = {word:?}\n{ATTACK}");
    let attack = lab.tool(Client::Ssh, ["ssh", "remote", "python3 -"]).input(script);
    let done = attack.run().expect_status(0);
    let out = done.out();
    let (open, count) = out.trim().split_once('\n').expect("two lines");
    assert_eq!(open, "[]", "{}", done.shown());
    assert!(count.parse::<usize>().unwrap() >= victims, "{}", done.shown());
}

#[test]
fn a_process_of_the_account_gets_into_no_slave_of_a_held_sudo() {
    if !root_for("rules of sudo") {
        return;
    }
    let rules = "Defaults requiretty\n$ACCOUNT ALL=(ALL) ALL\n";
    let lab = Lab::builder().etc("sudoers.d/lab", rules).start();
    let askpass = Askpass::new(&lab, "ask", &[PASSWORD]);
    let tool = lab.run(["remote+sudo"], ["ssh", "remote", "id -u"]);
    askpass.for_tool(tool).run().expect_status(0).expect_out("0\n");
    // Of the account and of root: each slave and what watches over it, and sudo.
    expect_closed(&lab, "/.fakessh-", 5);
    // What a slave starts is as open as any program.
    let script = "cat /proc/$$/environ >/dev/null && ls /proc/$$/fd >/dev/null && ulimit -c";
    let limit = lab.tool(Client::Ssh, ["ssh", "remote", "ulimit -c"]).run().expect_status(0).out();
    lab.tool(Client::Fakessh, ["ssh", "remote", script]).run().expect_status(0).expect_out(&limit);
    lab.expect_nothing_left();
}

#[test]
fn a_start_as_root_runs_nothing_of_the_account_that_called_sudo() {
    if !root_for("rules of sudo") {
        return;
    }
    let rules = "Defaults env_keep += \"PATH XDG_RUNTIME_DIR\", !secure_path\n\
                 $ACCOUNT ALL=(ALL) NOPASSWD: ALL\n";
    let lab = Lab::builder().etc("sudoers.d/lab", rules).start();
    let home = &lab.account().home;
    let (bin, runtime, canary) = (home.join("bin"), home.join("runtime"), home.join("canary"));
    for directory in [&bin, &runtime] {
        fs::create_dir(directory).unwrap();
        lab.account().give(directory);
    }
    fs::write(&canary, "").unwrap();
    lab.account().give(&canary);
    for name in ["uname", "head", "mkdir", "chmod", "wc", "ls", "rm", "sleep", "id", "getent"] {
        let script = format!(
            "#!/bin/sh\n/usr/bin/id -u >>{}\nexec /usr/bin/{name} \"$@\"\n",
            canary.display()
        );
        write_script(&bin.join(name), &script);
    }
    let bashrc =
        format!("export PATH={}:$PATH XDG_RUNTIME_DIR={}\n", bin.display(), runtime.display());
    fs::write(home.join(".bashrc"), bashrc).unwrap();

    let words = ["--on", "remote+sudo", "--route", "x=remote+sudo"];
    let done = lab.run(words, ["sh", "-c", "echo $PATH; ssh x echo in"]).run().expect_status(0);
    let out = done.out();
    let (path, rest) = out.split_once('\n').unwrap();
    assert_eq!(rest, "in\n", "{}", done.shown());
    // What root's programs see is what sudo was told to pass on.
    let (directory, theirs) = path.split_once(':').unwrap();
    assert!(theirs.starts_with(bin.to_str().unwrap()), "{path}");
    assert!(!directory.starts_with(home.to_str().unwrap()), "{path}");
    for slave in lab.slaves() {
        let status = fs::read_to_string(format!("/proc/{}/status", slave.pid)).unwrap();
        let is_roots = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
        let is_there = slave.command.starts_with(runtime.to_str().unwrap());
        assert_eq!(is_there, !is_roots, "{slave:?}");
    }
    let ran = fs::read_to_string(&canary).unwrap();
    let uid = lab.account().uid.to_string();
    assert!(ran.lines().any(|line| line == uid), "the login has another PATH");
    assert!(ran.lines().all(|line| line == uid), "run as root: {ran}");
    lab.expect_nothing_left();
}

#[test]
fn an_ordinary_user_has_a_master_that_no_other_process_gets_into() {
    if !root_for("an account of its own") {
        return;
    }
    let lab = Lab::start();
    let program = lab.dir().join("fakessh-of-the-account");
    copy_program(&binary::fakessh(), &program);
    let as_account = |script: &str| {
        let script = format!(
            "export FAKESSH_DIR=$HOME/f; f={}; cd {}; {script}",
            program.display(),
            lab.remote_dir().display()
        );
        lab.tool(Client::Ssh, ["ssh", "remote", &script]).run().expect_status(0)
    };
    // Pipes and files that are not the master's, and a tool whose ssh comes back from the slave.
    let script = "echo file >in; $f run local -- sh -c 'echo pipe | ssh local cat | cat
        ssh local cat <in >out; cat out'; $f run --on local --route a=local -- ssh a echo back";
    as_account(script).expect_out("pipe\nfile\nback\n").expect_err("");
    expect_closed(&lab, "fakessh-of-the-account master", 1);
    expect_closed(&lab, "/.fakessh-", 2);
    as_account("$f stop");
}
