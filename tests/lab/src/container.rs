//! Containers without an engine, and with LXC.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::guardian::MARK_VARIABLE;
use crate::namespaces::Namespaces;
use crate::{Lab, root};

/// A root with namespaces around it that the kernel alone makes: for nsenter, and behind the
/// stand-ins of engines. Ends when dropped.
#[derive(Debug)]
pub struct Container {
    namespaces: Namespaces,
}

impl Container {
    /// Starts one in this root, in mount, process, host name and IPC namespaces of its own. Root
    /// only.
    ///
    /// # Panics
    /// If the kernel can't.
    pub fn start(lab: &Lab, root: &Path) -> Container {
        fs::create_dir_all(root.join(".before")).expect("a place for the former root");
        let script = format!(
            "mount --bind '{root}' '{root}'
            cd '{root}'
            {devices}
            pivot_root . .before
            exec chroot . /bin/sh -e -c 'mount -t proc proc /proc
                umount -l /.before; rmdir /.before
                hostname container; echo up; exec cat'",
            root = root.display(),
            devices = root::devices(root)
        );
        let kinds = ["--mount", "--propagation", "private", "--pid", "--fork", "--uts", "--ipc"];
        let namespaces = Namespaces::new(&kinds, &script, lab.mark());
        lab.0.containers.add(namespaces.pid());
        lab.0.containers.add(namespaces.holder());
        Container { namespaces }
    }

    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.namespaces.pid()
    }
}

/// A container that LXC runs, where [`Lxc::ETC`] says that it keeps them. Ends when dropped.
#[derive(Debug)]
pub struct Lxc {
    path: PathBuf,
    name: String,
}

impl Lxc {
    /// A file for [`crate::LabBuilder::etc`], by which LXC's programs on the target find the
    /// lab's containers.
    pub const ETC: (&'static str, &'static str) = ("lxc/lxc.conf", "lxc.lxcpath = $LAB/lxc\n");

    /// Starts a container of this name in this root: see [`crate::privilege::containers_for`].
    ///
    /// # Panics
    /// If LXC can't.
    pub fn start(lab: &Lab, name: &str, root: &Path) -> Lxc {
        let path = lab.dir().join("lxc");
        let dir = path.join(name);
        fs::create_dir_all(&dir).expect("creating a directory of the lab");
        let config = format!(
            "lxc.uts.name = {name}\nlxc.rootfs.path = dir:{root}\nlxc.net.0.type = none\n\
             lxc.mount.auto = proc:mixed\nlxc.cgroup.dir = {mark}-{name}\n\
             lxc.environment = {MARK_VARIABLE}={mark}\n",
            root = root.display(),
            mark = lab.mark(),
        );
        fs::write(dir.join("config"), config).expect("writing LXC's configuration");
        // Returns when the container runs, or can't.
        let started = Command::new("lxc-start")
            .args(["--daemon", "--name", name, "--lxcpath"])
            .arg(&path)
            .args(["--", "/bin/sleep", "1000000"])
            .env_clear()
            .env("PATH", crate::tool::PATH)
            .env(MARK_VARIABLE, lab.mark())
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .expect("starting lxc-start");
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(started.status.success(), "lxc-start {name}: {said}");
        let lxc = Lxc { path, name: name.to_owned() };
        lab.0.containers.add(lxc.pid());
        lxc
    }

    /// The first process in it.
    ///
    /// # Panics
    /// If LXC doesn't say.
    pub fn pid(&self) -> u32 {
        let done = Command::new("lxc-info")
            .args(["--pid", "--no-humanize", "--name", &self.name, "--lxcpath"])
            .arg(&self.path)
            .output()
            .expect("starting lxc-info");
        String::from_utf8_lossy(&done.stdout).trim().parse().expect("a process id")
    }
}

impl Drop for Lxc {
    fn drop(&mut self) {
        // What does not stop is killed by the lab's guardian.
        _ = Command::new("lxc-stop")
            .args(["--kill", "--name", &self.name, "--lxcpath"])
            .arg(&self.path)
            .stdin(Stdio::null())
            .output();
    }
}
