//! Builds the slave that the master embeds: static, small, for this machine's architecture.
//!
//! `FAKESSH_SLAVE` names a slave that is there already.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?).join("slave");
    provide(&out)?;
    let fingerprint = fingerprint(&std::fs::read(out)?);
    println!("cargo::rustc-env=FAKESSH_SLAVE_FINGERPRINT={fingerprint:016x}");
    Ok(())
}

/// Tells builds of the slave apart (FNV-1a). Nothing else rests on it.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Puts the slave there.
fn provide(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=FAKESSH_SLAVE");
    if let Some(ready) = env::var_os("FAKESSH_SLAVE") {
        println!("cargo::rerun-if-changed={}", Path::new(&ready).display());
        std::fs::copy(ready, out)?;
        return Ok(());
    }
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    for part in ["protocol", "unix", "shim", "slave"] {
        for file in ["src", "Cargo.toml"] {
            println!("cargo::rerun-if-changed={}", workspace.join(part).join(file).display());
        }
    }
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());

    let target = target()?;
    let directory = target_directory()?;
    let mut cargo = Command::new(env::var("CARGO")?);
    // Nothing of the outer build may leak into the inner one.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let outer = ["CARGO_", "RUSTC", "RUSTFLAGS", "RUSTDOC"];
        if outer.iter().any(|prefix| name.starts_with(prefix)) && name != "CARGO_HOME" {
            cargo.env_remove(&*name);
        }
    }
    let status = cargo
        .current_dir(workspace.join("slave"))
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .args(["build", "--locked", "--profile", "slave", "--target", &target, "--target-dir"])
        .arg(&directory)
        .status()?;
    if !status.success() {
        return Err(format!("building the slave for {target} failed: {status}").into());
    }
    std::fs::copy(directory.join(&target).join("slave").join("fakessh-slave"), out)?;
    Ok(())
}

/// musl where it is installed, for its size; else glibc, linked statically all the same.
fn target() -> Result<String, Box<dyn Error>> {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH")?;
    let musl = format!("{architecture}-unknown-linux-musl");
    let output = Command::new(env::var("RUSTC")?)
        .args(["--print", "target-libdir", "--target", &musl])
        .output()?;
    let libraries = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let installed = output.status.success() && libraries.is_dir();
    Ok(if installed { musl } else { format!("{architecture}-unknown-linux-gnu") })
}

/// A target directory of its own beside the outer one's profiles: the outer build holds the lock
/// of its own, and all profiles of the master share one slave.
fn target_directory() -> Result<PathBuf, Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // OUT_DIR is TARGET/[TRIPLE/]PROFILE/build/NAME/out.
    let profile = out.ancestors().nth(3).ok_or("OUT_DIR is not where cargo puts it")?;
    Ok(profile.with_file_name("slave-build"))
}
