//! F1: what people do all day: rsync of many small files, git clone, sftp.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Bench;
use crate::bulk::lab_with_sudo;
use crate::order::Program;
use crate::rounds::{Rounds, median};
use crate::row::{Against, Row};
use crate::site::{Contender, Site};
use fakessh_lab::tree;

/// Files that a commit of the repository adds.
const FILES_PER_COMMIT: usize = 50;

/// A tool at work, from the contender and the place to put the copies in.
type Work<'a> = dyn Fn(Contender, &Path) -> Program + 'a;

/// F1: the three tools.
pub(super) fn tools(bench: &Bench) -> Vec<Row> {
    let site = Site::open(bench);
    vec![rsync(bench, &site), git(bench, &site), sftp(bench, &site), rsync_behind_sudo(bench)]
}

/// Files that rsync copies.
fn rsync_files(bench: &Bench) -> usize {
    bench.either(10_000, 300)
}

fn rsync(bench: &Bench, site: &Site) -> Row {
    let tree = site.lab().local_dir("bench-rsync").join("tree");
    tree::make(&tree, rsync_files(bench));
    let place = place_on_target(site, "bench-rsync");
    let work = |contender, copy: &Path| copy_tree(site, contender, &tree, copy);
    row(bench, site, &format!("rsync of {} small files", rsync_files(bench)), &place, &work)
}

fn copy_tree(site: &Site, contender: Contender, tree: &Path, copy: &Path) -> Program {
    let shell = site.ssh_words(contender).join(" ");
    let to = format!("{}:{}", site.host(), copy.display());
    Program::new(["rsync", "-a", "-e", &shell, &format!("{}/", tree.display()), &to])
}

/// The same through `+sudo`, over the time of the plain context.
fn rsync_behind_sudo(bench: &Bench) -> Row {
    let lab = lab_with_sudo();
    let plain = Site::of(&lab, "remote", bench.cipher());
    let behind = Site::behind(&lab, "remote", "remote+sudo", bench.cipher());
    let tree = lab.local_dir("bench-sudo").join("tree");
    tree::make(&tree, rsync_files(bench));
    let copy = place_on_target(&plain, "bench-sudo").join("copy");
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..bench.either(6, 1) {
        for (site, times) in [&plain, &behind].into_iter().zip(&mut times) {
            times.push(site.time(Contender::Ours, copy_tree(site, Contender::Ours, &tree, &copy)));
            fs::remove_dir_all(&copy).expect("removing a copy");
        }
    }
    let [plain, behind] = times.map(|times| median(&times).expect("at least one round"));
    let what = format!("rsync of {} small files through +sudo, over plain", rsync_files(bench));
    let note = format!("{behind:.0} ms through +sudo, {plain:.0} ms plain");
    Row::new(what, "x", behind / plain).target(Against::Nothing, 1.3, None).note(note)
}

fn git(bench: &Bench, site: &Site) -> Row {
    let commits = bench.either(100, 5);
    let place = place_on_target(site, "bench-git");
    let repository = place.join("project.git");
    make_repository(&repository, commits);
    let owner = format!("{}:{}", site.lab().account().uid, site.lab().account().gid);
    run(Command::new("chown").args(["-R", &owner]).arg(&repository), None);
    let work = |contender, copy: &Path| {
        let from = format!("{}:{}", site.host(), repository.display());
        let mut program = Program::new(["git", "clone", "-q", &from, &copy.display().to_string()]);
        let mut set = |name: &str, value: String| program.environment.push((name.into(), value));
        set("GIT_CONFIG_GLOBAL", "/dev/null".into());
        set("GIT_CONFIG_SYSTEM", "/dev/null".into());
        if contender != Contender::Ours {
            set("GIT_SSH_COMMAND", site.ssh_words(contender).join(" "));
        }
        program
    };
    let what = format!("git clone, {commits} commits, {} files", commits * FILES_PER_COMMIT);
    row(bench, site, &what, &site.lab().local_dir("bench-git"), &work)
}

fn sftp(bench: &Bench, site: &Site) -> Row {
    let count = bench.either(1000, 50);
    let local = site.lab().local_dir("bench-sftp");
    let files = local.join("files");
    fs::create_dir(&files).expect("creating a directory");
    for number in 0..count {
        fs::write(files.join(format!("f{number}")), "content\n".repeat(number % 500))
            .expect("writing a file");
    }
    let place = place_on_target(site, "bench-sftp");
    let batch = local.join("batch");
    let work = |contender, copy: &Path| {
        let put = format!("put -r {} {}\n", files.display(), copy.display());
        fs::write(&batch, put).expect("writing a batch for sftp");
        let name = if contender == Contender::Ours { "sftp" } else { "/usr/bin/sftp" };
        let words = [name.to_owned(), "-q".into()].into_iter();
        Program::new(words.chain(site.rival_options(contender)))
            .word("-b")
            .word(batch.display().to_string())
            .word(site.host())
    };
    row(bench, site, &format!("sftp put of {count} files"), &place, &work)
}

/// Lets all three work, each into a new place, and removes what they made.
fn row(bench: &Bench, site: &Site, what: &str, place: &Path, work: &Work<'_>) -> Row {
    let turns = [(Contender::Ours, 1), (Contender::ControlMaster, 1), (Contender::Ssh, 1)];
    let copy = place.join("copy");
    let rounds = Rounds::take(bench.either(4, 1), &turns, |contender| {
        let took = site.time(contender, work(contender, &copy));
        let made = fs::read_dir(&copy).map_or(0, Iterator::count);
        assert!(made > 0, "{what}: nothing in {}", copy.display());
        fs::remove_dir_all(&copy).expect("removing a copy");
        took
    });
    Row::new(what, "ms", rounds.ours()).rivals(rounds.control_master(), rounds.ssh()).target(
        Against::Either,
        1.0,
        None,
    )
}

fn place_on_target(site: &Site, name: &str) -> PathBuf {
    let place = site.lab().remote_dir().join(name);
    fs::create_dir(&place).expect("creating a directory on the target");
    site.lab().account().give(&place);
    place
}

/// A bare repository with a history: each commit adds files and changes one that was there.
fn make_repository(path: &Path, commits: usize) {
    run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(path), None);
    let mut stream = Vec::new();
    let mut seed = 1_u64;
    for commit in 0..commits {
        writeln!(
            stream,
            "commit refs/heads/main\ncommitter a <a@b> {} +0000\ndata 1\nm",
            1_600_000_000 + commit
        )
        .expect("writing to memory");
        let changed = format!("d{}/f0", commit / 2);
        let added = (0..FILES_PER_COMMIT).map(|file| format!("d{commit}/f{file}"));
        for name in added.chain([changed]) {
            let content = text(&mut seed);
            writeln!(stream, "M 100644 inline {name}\ndata {}\n{content}", content.len())
                .expect("writing to memory");
        }
    }
    let mut import = Command::new("git");
    import.arg("-C").arg(path).args(["fast-import", "--quiet"]);
    run(&mut import, Some(&stream));
}

/// Two kilobytes or less that compress as text does.
fn text(seed: &mut u64) -> String {
    let mut text = String::new();
    let mut next = || {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize
    };
    for _ in 0..next() % 60 + 2 {
        text += &format!("let value_{} = call_{}(\"{:x}\");\n", next() % 50, next() % 20, next());
    }
    text
}

fn run(command: &mut Command, input: Option<&[u8]>) {
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("starting it");
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        pipe.write_all(input).expect("writing to it");
    }
    let status = child.wait().expect("waiting for it");
    assert!(status.success(), "{command:?}: {status}");
}
