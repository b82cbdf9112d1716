//! The tools that people run: rsync, scp, sftp, git, tar.

use std::fs;
use std::path::{Path, PathBuf};

use fakessh_lab::{Client, Lab, SharedLab, both_clients, tree};

static LAB: SharedLab = SharedLab::new(Lab::start);

/// A directory on the target and one on the client's side that only this test uses.
fn places(lab: &Lab, test: &str, client: Client) -> (PathBuf, PathBuf) {
    let name = format!("{test}-{client:?}");
    let remote = lab.remote_dir().join(&name);
    fs::create_dir(&remote).unwrap();
    lab.account().give(&remote);
    (remote, lab.local_dir(&name))
}

/// `remote:PATH`, with a slash at the end.
fn at(path: &Path) -> String {
    format!("remote:{}/", path.display())
}

both_clients! {
    fn rsync_copies_a_tree_there_and_back_with_all_that_it_carries(client) {
        let lab = LAB.get();
        let (remote, local) = places(&lab, "rsync", client);
        let (tree, back) = (local.join("tree"), local.join("back"));
        tree::make(&tree, 300);
        let from = format!("{}/", tree.display());
        lab.tool(client, ["rsync", "-aH", &from, &at(&remote.join("tree"))]).run().expect_status(0);
        tree::assert_same(&tree, &remote.join("tree"));
        let to = format!("{}/", back.display());
        lab.tool(client, ["rsync", "-aH", &at(&remote.join("tree")), &to]).run().expect_status(0);
        tree::assert_same(&tree, &back);
        // Nothing to do the second time, and a deleted file goes.
        fs::remove_file(tree.join("big")).unwrap();
        let again = ["rsync", "-aHi", "--delete", &from, &at(&remote.join("tree"))];
        let done = lab.tool(client, again).run().expect_status(0);
        assert_eq!(done.out().lines().filter(|line| !line.starts_with(".d")).count(), 1);
        tree::assert_same(&tree, &remote.join("tree"));
    }

    fn rsync_says_what_the_other_side_refused(client) {
        let lab = LAB.get();
        let done = lab.tool(client, ["rsync", "-a", "remote:/no/such/place", "."]).run();
        assert!(done.err().contains("No such file or directory"), "{}", done.shown());
        done.expect_status(23);
    }

    fn scp_copies_a_tree_in_both_of_its_protocols(client) {
        let lab = LAB.get();
        let (remote, local) = places(&lab, "scp", client);
        let tree = local.join("tree");
        tree::make_for_scp(&tree, 30);
        for (name, options) in [("sftp", vec![]), ("old", vec!["-O"])] {
            let there = remote.join(name);
            let back = local.join(name);
            let words = ["scp", "-q", "-r", "-p"].into_iter().chain(options.iter().copied());
            let up = [tree.display().to_string(), format!("remote:{}", there.display())];
            let all = words.clone().map(String::from).chain(up);
            lab.tool(client, all).run().expect_status(0).expect_err("");
            tree::assert_same_for_scp(&tree, &there);
            let down = [format!("remote:{}", there.display()), back.display().to_string()];
            let all = words.map(String::from).chain(down);
            lab.tool(client, all).run().expect_status(0).expect_err("");
            tree::assert_same_for_scp(&tree, &back);
        }
    }

    fn scp_copies_between_two_hosts_through_here(client) {
        let lab = LAB.get();
        let (remote, _) = places(&lab, "scp3", client);
        fs::write(remote.join("one"), "content\n").unwrap();
        let [one, two] = ["one", "two"].map(|name| format!("remote:{}/{name}", remote.display()));
        lab.tool(client, ["scp", "-q", "-3", &one, &two]).run().expect_status(0);
        assert_eq!(fs::read_to_string(remote.join("two")).unwrap(), "content\n");
    }

    fn scp_fails_as_it_does_for_a_file_that_does_not_exist(client) {
        let lab = LAB.get();
        lab.tool(client, ["scp", "remote:/no/such/file", "."]).run().expect_status(1);
    }

    fn sftp_runs_a_batch(client) {
        let lab = LAB.get();
        let (remote, local) = places(&lab, "sftp", client);
        fs::write(local.join("file"), "some content\n").unwrap();
        fs::set_permissions(local.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o640))
            .unwrap();
        let batch = format!(
            "cd {}\nmkdir sub\nput -p file sub/there\nget sub/there back\nrename sub/there sub/new\n\
             ls sub\n",
            remote.display()
        );
        let tool = lab.tool(client, ["sftp", "-q", "-b", "-", "remote"]).directory(&local);
        let done = tool.input(batch).run().expect_status(0);
        assert!(done.out().contains("sub/new"), "{}", done.shown());
        assert_eq!(fs::read_to_string(local.join("back")).unwrap(), "some content\n");
        let failing = format!("cd {}\nget nothing\n", remote.display());
        let tool = lab.tool(client, ["sftp", "-q", "-b", "-", "remote"]).directory(&local);
        tool.input(failing).run().expect_status(1);
    }

    fn git_clones_and_pushes(client) {
        let lab = LAB.get();
        let (remote, local) = places(&lab, "git", client);
        let repository = remote.join("project.git");
        let script = format!(
            "set -e
            ssh remote git init -q --bare -b main {repository}
            git clone -q remote:{repository} first
            cd first
            git checkout -q -b main
            for i in $(seq 200); do seq $i >file$i; done
            git add . && git commit -q -m one && git push -q origin main
            cd .. && git clone -q ssh://remote{repository} second
            cd second && echo more >more && git add . && git commit -q -m two && git push -q
            cd ../first && git pull -q && git fsck && git log --format=%s",
            repository = repository.display()
        );
        let done = lab.tool(client, ["sh", "-c", &script]).directory(&local).run();
        done.expect_status(0).expect_out("two\none\n");
        let files = fs::read_dir(local.join("first")).unwrap().count();
        assert_eq!(files, 202);
    }

    fn git_speaks_its_second_protocol_where_the_variable_passes(client) {
        let lab = LAB.get();
        let (remote, local) = places(&lab, "git2", client);
        let script = format!(
            "ssh remote git init -q --bare {0}/r.git; GIT_TRACE_PACKET=1 git ls-remote remote:{0}/r.git",
            remote.display()
        );
        let done = lab.tool(client, ["sh", "-c", &script]).directory(&local).run();
        assert!(done.err().contains("version 2"), "{}", done.shown());
        done.expect_status(0);
    }

    fn tar_streams_into_tar(client) {
        let lab = LAB.get();
        let (remote, local) = places(&lab, "tar", client);
        let tree = local.join("tree");
        tree::make(&tree, 300);
        let script = format!(
            "tar -C {} -cf - --format=pax . | ssh remote tar -C {} -xpf - && \
             mkdir back && ssh remote tar -C {} -cf - --format=pax . | tar -C back -xpf -",
            tree.display(),
            remote.display(),
            remote.display()
        );
        lab.tool(client, ["bash", "-c", &script]).directory(&local).run().expect_status(0);
        tree::assert_same(&tree, &local.join("back"));
    }
}

#[test]
fn ten_thousand_files_and_every_tool_take_one_login_with_fakessh() {
    let lab = Lab::start();
    let local = lab.local_dir("main");
    let tree = local.join("tree");
    tree::make(&tree, 10_000);
    let remote = lab.remote_dir();
    let script = format!(
        r#"set -ex
        rsync -aH tree/ remote:{remote}/tree/
        rsync -aH remote:{remote}/tree/ back/
        diff -r --no-dereference tree back
        scp -q tree/big remote:{remote}/big
        scp -q -O remote:{remote}/big big2
        scp -q -r tree/d000 remote:{remote}/d000
        scp -q -3 remote:{remote}/big remote:{remote}/big3
        echo 'get {remote}/big3' | sftp -q -b - remote
        cmp big3 big2
        ssh remote git init -q --bare -b main {remote}/r.git
        git clone -q remote:{remote}/r.git r
        cd r && git checkout -q -b main && cp ../tree/big . && git add . && git commit -q -m m
        git push -q origin main && cd ..
        ssh remote mkdir {remote}/tar
        tar -cf - -C tree . | ssh remote tar -xf - -C {remote}/tar
        "#,
        remote = remote.display()
    );
    let tool = lab.tool(Client::Fakessh, ["bash", "-c", &script]).directory(&local);
    tool.guard(std::time::Duration::from_secs(180)).run().expect_status(0);
    tree::assert_same(&tree, &local.join("back"));
    assert_eq!(lab.logins(), 1);
    lab.expect_nothing_left();
}
