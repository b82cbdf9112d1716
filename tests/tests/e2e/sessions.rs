//! One session: status, streams and their ends, environment, command line.
//!
//! Every test that can be is held against OpenSSH's client first and against ours in the same
//! words.

use fakessh_lab::{Client, Gate, Lab, SharedLab, both_clients, pattern};

static LAB: SharedLab = SharedLab::new(Lab::start);

both_clients! {
    fn the_exit_status_is_that_of_the_program(client) {
        let lab = LAB.get();
        for status in [0, 1, 7, 127, 255] {
            let command = format!("exit {status}");
            lab.tool(client, ["ssh", "remote", &command]).run().expect_status(status);
        }
    }

    fn a_program_killed_by_a_signal_says_so(client) {
        let lab = LAB.get();
        for signal in [9, 15] {
            let command = format!("kill -{signal} $$");
            let expected = client.status_of_signal(signal);
            lab.tool(client, ["ssh", "remote", &command]).run().expect_status(expected);
        }
    }

    fn an_unknown_command_is_127_and_a_forbidden_one_126(client) {
        let lab = LAB.get();
        lab.tool(client, ["ssh", "remote", "/no/such/program"]).run().expect_status(127);
        lab.tool(client, ["ssh", "remote", "/etc/passwd"]).run().expect_status(126);
    }

    fn standard_error_is_separate(client) {
        let words = ["ssh", "remote", "echo out; echo err >&2; echo more"];
        let done = LAB.get().tool(client, words).run().expect_status(0);
        done.expect_out("out\nmore\n").expect_err("err\n");
    }

    fn nothing_is_added_to_a_program_that_says_nothing(client) {
        let done = LAB.get().tool(client, ["ssh", "remote", "true"]).run();
        done.expect_status(0).expect_out("").expect_err("");
    }

    fn the_end_of_stdin_reaches_a_program_that_still_has_output(client) {
        let lab = LAB.get();
        let tool = lab.tool(client, ["ssh", "remote", "sort"]);
        tool.input("pear\napple\nfig\n").run().expect_status(0).expect_out("apple\nfig\npear\n");
    }

    fn a_writer_gets_a_broken_pipe_when_the_program_has_ended(client) {
        let script = r#"yes | ssh remote true; echo "${PIPESTATUS[@]}""#;
        let done = LAB.get().tool(client, ["bash", "-c", script]).run();
        done.expect_status(0).expect_out("141 0\n");
    }

    fn a_reader_that_leaves_is_a_broken_pipe_for_the_program_and_its_status_counts(client) {
        let lab = LAB.get();
        let told = Gate::new(&lab);
        let command = format!("yes; echo $? >{}; exit 3", told.path());
        let script = format!(r#"ssh remote '{command}' | head -n 1; echo "${{PIPESTATUS[0]}}""#);
        let running = lab.tool(client, ["bash", "-c", &script]).start();
        assert_eq!(told.read(), "141\n");
        running.finish().expect_status(0).expect_out("y\n3\n");
    }

    fn a_broken_standard_error_ends_only_standard_error(client) {
        let lab = LAB.get();
        let script = "{ ssh remote 'echo a; seq 100000 >&2; echo b; exit 4' 2>&1 >&3 | true; \
                      exit ${PIPESTATUS[0]}; } 3>&1";
        let done = lab.tool(client, ["bash", "-c", script]).run();
        done.expect_status(4).expect_out("a\nb\n");
    }

    fn a_reader_sees_the_end_of_output_before_the_program_ends(client) {
        let lab = LAB.get();
        let gate = Gate::new(&lab);
        // sshd gives a program one socket as stdin and stdout, and reports the end of output only
        // once stderr has ended as well.
        let command = format!("echo x; exec <&- >&- 2>&-; read line <{}; exit 4", gate.path());
        let script = format!("ssh remote '{command}' | {{ cat; echo eof; }}; exit ${{PIPESTATUS[0]}}");
        let mut running = lab.tool(client, ["bash", "-c", &script]).start();
        assert_eq!(running.read_line().as_deref(), Some("x"));
        assert_eq!(running.read_line().as_deref(), Some("eof"));
        // Only now can the program end.
        gate.open("go\n");
        running.finish().expect_status(4).expect_out("x\neof\n").expect_err("");
    }

    fn a_session_lasts_until_grandchildren_let_go_of_its_output(client) {
        let lab = LAB.get();
        let gate = Gate::new(&lab);
        let command = format!("cat {} & echo started; exit 5", gate.path());
        let mut running = lab.tool(client, ["ssh", "remote", &command]).start();
        assert_eq!(running.read_line().as_deref(), Some("started"));
        gate.open("from the grandchild\n");
        running.finish().expect_status(5).expect_out("started\nfrom the grandchild\n");
    }

    fn bytes_of_all_values_pass_both_ways(client) {
        let lab = LAB.get();
        let mut bytes: Vec<u8> = (0..=255).collect();
        pattern::write(&mut bytes, 1 << 20).unwrap();
        let done = lab.tool(client, ["ssh", "remote", "tee /dev/stderr"]).input(bytes.clone()).run();
        assert!(done.stdout == bytes && done.stderr == bytes);
        done.expect_status(0);
    }

    fn the_last_byte_of_output_comes_before_the_status(client) {
        let words = ["ssh", "remote", "head -c 20000000 /dev/zero; exit 9"];
        let done = LAB.get().tool(client, words).run();
        assert_eq!(done.stdout.len(), 20_000_000);
        done.expect_status(9);
    }

    fn words_are_joined_by_a_space_and_read_by_the_shell(client) {
        let lab = LAB.get();
        let home = lab.account().home.display().to_string();
        let done = lab.tool(client, ["ssh", "remote", "echo", "a  b", "'c  d'", "$HOME"]).run();
        done.expect_status(0).expect_out(&format!("a b c  d {home}\n"));
    }

    fn options_are_read_before_and_after_the_host(client) {
        let lab = LAB.get();
        let user = lab.account().name.clone();
        for words in [
            vec!["-q", "-T", "-x", "-a", "-oBatchMode=yes", "remote"],
            vec!["-l", &user, "remote", "-T"],
            vec!["remote", "-l", &user, "-o", "BatchMode yes"],
            vec!["-4TC", "--", "remote"],
            vec!["ssh://remote"],
            vec!["-o ConnectTimeout=30", "remote"],
            vec![&format!("{user}@remote")],
        ] {
            let all = ["ssh"].into_iter().chain(words).chain(["echo", "done"]);
            lab.tool(client, all).run().expect_status(0).expect_out("done\n");
        }
    }

    fn the_program_starts_as_in_a_login(client) {
        let lab = LAB.get();
        let account = lab.account();
        let command = r#"echo "$USER $LOGNAME $HOME $SHELL"; pwd; ps -o sid= -p $$ | tr -d " "; echo $$"#;
        let done = lab.tool(client, ["ssh", "remote", command]).run().expect_status(0);
        let out = done.out();
        let lines: Vec<&str> = out.lines().collect();
        let (name, home) = (&account.name, account.home.display().to_string());
        assert_eq!(lines[0], format!("{name} {name} {home} /bin/bash"));
        assert_eq!(lines[1], home);
        assert_eq!(lines[2], lines[3], "it leads a session of its own");
    }

    fn the_environment_names_the_connection(client) {
        let lab = LAB.get();
        let done = lab.tool(client, ["ssh", "remote", "echo $SSH_CONNECTION; echo $SSH_CLIENT"]).run();
        let out = done.expect_status(0).out();
        let words: Vec<Vec<&str>> = out.lines().map(|line| line.split(' ').collect()).collect();
        let port = lab.port().to_string();
        assert_eq!((words[0].len(), words[1].len()), (4, 3), "{out}");
        assert_eq!([words[0][0], words[0][2], words[0][3]], ["127.0.0.1", "127.0.0.1", &port]);
        assert_eq!([words[1][0], words[1][1], words[1][2]], [words[0][0], words[0][1], &port]);
    }

    fn variables_are_sent_where_asked_for(client) {
        let lab = LAB.get();
        let command = "echo \"$LC_ONE,$LC_TWO,$LC_THREE,$OTHER\"";
        let words = ["ssh", "-o", "SendEnv=LC_ONE", "-o", "SetEnv=LC_TWO=two", "remote", command];
        let tool = lab.tool(client, words).env("LC_ONE", "one").env("LC_THREE", "three");
        tool.env("OTHER", "other").run().expect_status(0).expect_out("one,two,,\n");
    }

    fn a_login_shell_reads_a_script(client) {
        let lab = LAB.get();
        let script = "cd /\npwd\nshopt -q login_shell && echo login\nexit 4\n";
        let done = lab.tool(client, ["ssh", "-T", "remote"]).input(script).run();
        done.expect_status(4).expect_out("/\nlogin\n").expect_err("");
        let done = lab.tool(client, ["ssh", "remote"]).input("exit 5\n").run();
        assert!(done.err().contains("Pseudo-terminal will not be allocated"), "{}", done.shown());
        done.expect_status(5);
    }

    fn minus_n_reads_nothing(client) {
        let lab = LAB.get();
        let tool = lab.tool(client, ["ssh", "-n", "remote", "cat; echo end"]).input("not this\n");
        tool.run().expect_status(0).expect_out("end\n");
    }

    fn closed_and_empty_standard_streams_are_no_trouble(client) {
        let lab = LAB.get();
        for (redirection, out) in [("<&-", "end\n"), ("</dev/null", "end\n"), (">&-", "")] {
            let script = format!("ssh remote 'cat; echo end' {redirection}");
            let done = lab.tool(client, ["sh", "-c", &script]).run();
            done.expect_status(0).expect_out(out).expect_err("");
        }
        lab.tool(client, ["sh", "-c", "ssh remote 'echo out; echo err >&2; exit 3' 2>&-"])
            .run()
            .expect_status(3)
            .expect_out("out\n")
            .expect_err("");
    }

    fn a_command_line_of_100_kilobytes_passes(client) {
        let word = "x".repeat(100_000);
        let done = LAB.get().tool(client, ["ssh", "remote", "printf", "%s", &word]).run();
        done.expect_status(0).expect_out(&word);
    }

    fn sessions_run_beside_each_other_and_after_each_other(client) {
        let script = "for i in 1 2 3 4 5; do ssh remote 'echo one; exit 1' & done; \
                      for i in 1 2 3 4 5; do ssh remote 'echo one'; done; wait";
        let done = LAB.get().tool(client, ["bash", "-c", script]).run();
        done.expect_status(0).expect_out(&"one\n".repeat(10));
    }
}

/// OpenSSH's server gives a program one socket as stdin and stdout, and so can't tell.
#[test]
fn a_program_that_closes_stdin_early_goes_on_with_its_output_with_fakessh() {
    let lab = LAB.get();
    let gate = Gate::new(&lab);
    // Only a broken pipe ends the first command; the program then reads what the second writes.
    let script = format!(
        "(yes; echo writer ended with $? >{0}) | ssh remote 'exec <&-; cat {0}; exit 3'; \
         exit ${{PIPESTATUS[1]}}",
        gate.path()
    );
    let done = lab.tool(Client::Fakessh, ["bash", "-c", &script]).run();
    done.expect_status(3).expect_out("writer ended with 141\n");
}
