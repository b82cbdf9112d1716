//! Ways in: keys, agents, passwords, known hosts, jump hosts, and what `ssh_config` says.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use fakessh_lab::account::PASSWORD;
use fakessh_lab::files::write_script;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Askpass, Client, Lab, Tool, both_clients, pattern};

/// `ssh NAME 'echo in'`, with a login of its own: ours would use a connection that it has.
fn get_in(lab: &Lab, client: Client, name: &str) -> Tool {
    if client == Client::Fakessh {
        lab.close_all();
    }
    lab.tool_to(client, name, ["ssh", name, "echo in"])
}

/// A name for what a test adds to the configuration.
fn name(what: &str, client: Client) -> String {
    format!("{what}-{client:?}").to_lowercase()
}

/// Makes a key with these options of ssh-keygen and lets the server know it.
fn authorized_key(lab: &Lab, name: &str, options: &[&str]) -> PathBuf {
    let path = lab.dir().join("user").join(name);
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-C", name, "-f"]).arg(&path).args(options);
    assert!(command.status().unwrap().success());
    let line = fs::read_to_string(path.with_extension("pub")).unwrap();
    let file = lab.dir().join("server/authorized_keys");
    let mut file = fs::File::options().append(true).open(file).unwrap();
    std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
    path
}

both_clients! {
    fn keys_of_every_usual_kind_open_the_door(client) {
        let lab = Lab::start();
        for kind in ["ed25519", "rsa", "ecdsa"] {
            let name = name(kind, client);
            let key = authorized_key(&lab, &name, &["-t", kind, "-N", ""]);
            lab.host_with_key(&name, &key, &[]);
            get_in(&lab, client, &name).run().expect_status(0).expect_out("in\n").expect_err("");
        }
        assert_eq!(lab.logins(), 3);
    }

    fn the_passphrase_of_a_key_is_asked_for(client) {
        let lab = Lab::start();
        let name = name("encrypted", client);
        let key = authorized_key(&lab, &name, &["-t", "ed25519", "-N", "open sesame"]);
        lab.host_with_key(&name, &key, &[]);
        let askpass = Askpass::new(&lab, &format!("ask-{name}"), &["wrong", "open sesame"]);
        askpass.for_tool(get_in(&lab, client, &name)).run().expect_status(0).expect_out("in\n");
        assert_eq!(askpass.count(), 2, "{}", askpass.asked());
        assert!(askpass.asked().contains(&name), "{}", askpass.asked());
    }

    fn an_agent_signs(client) {
        let lab = Lab::start();
        let name = name("agent", client);
        let key = authorized_key(&lab, &name, &["-t", "ed25519", "-N", ""]);
        let mut lines = lab.way_in(lab.port());
        lines.push("IdentitiesOnly no".into());
        lab.host(&name, &lines);
        // The agent is the caller's: the master, which may be older, has none.
        let (run, config) = match client {
            Client::Ssh => ("ssh".to_owned(), String::new()),
            Client::Fakessh => (
                format!("{} run", fakessh_lab::binary::fakessh().display()),
                format!("-F {} {name} -- ssh", lab.config_path().display()),
            ),
        };
        let script = format!(
            "ssh-add -q {} && mv {0} {0}.away && {run} {config} {name} 'echo in'",
            key.display()
        );
        let tool = lab.tool(Client::Ssh, ["ssh-agent", "sh", "-c", &script]);
        tool.run().expect_status(0).expect_out("in\n");
    }

    fn the_agent_is_that_of_each_command(client) {
        let lab = Lab::start();
        let name = name("agents", client);
        let key = authorized_key(&lab, &name, &["-t", "ed25519", "-N", ""]);
        let mut lines = lab.way_in(lab.port());
        lines.push("IdentitiesOnly no".into());
        lab.host(&name, &lines);
        let run = match client {
            Client::Ssh => String::new(),
            Client::Fakessh => {
                let (program, config) = (fakessh_lab::binary::fakessh(), lab.config_path());
                format!("{} run -F {} -- ", program.display(), config.display())
            }
        };
        let script = format!(
            "ssh-add -q {} && mv {0} {0}.away && {run} sh -c 'ssh {name} \"echo in\"; \
             SSH_AUTH_SOCK=/none ssh -o BatchMode=yes {name} \"echo again\"; echo $?'",
            key.display()
        );
        let tool = lab.tool(Client::Ssh, ["ssh-agent", "sh", "-c", &script]);
        tool.run().expect_status(0).expect_out("in\n255\n");
    }

    fn a_jump_host_is_passed(client) {
        let lab = Lab::start();
        let name = name("jumped", client);
        // ssh starts another ssh for the jump, which reads the configuration of its own.
        lab.host_through(&name, lab.port(), &["ProxyJump remote"]);
        get_in(&lab, client, &name).run().expect_status(0).expect_out("in\n");
        assert_eq!(lab.logins(), 2);
    }

    fn a_proxy_command_is_run(client) {
        let lab = Lab::start();
        let name = name("proxied", client);
        let note = lab.local_dir("proxy").join(&name);
        let program = lab.dir().join("bin").join(&name);
        let script = "#!/usr/bin/python3\n\
            import os, socket, sys, threading\n\
            open(sys.argv[1], 'w').write(' '.join(sys.argv[2:]))\n\
            s = socket.create_connection((sys.argv[2], int(sys.argv[3])))\n\
            def up():\n\
            \x20   while True:\n\
            \x20       data = os.read(0, 65536)\n\
            \x20       if not data: break\n\
            \x20       s.sendall(data)\n\
            \x20   s.shutdown(socket.SHUT_WR)\n\
            threading.Thread(target=up, daemon=True).start()\n\
            while True:\n\
            \x20   data = s.recv(65536)\n\
            \x20   if not data: break\n\
            \x20   os.write(1, data)\n";
        write_script(&program, script);
        let command = format!("ProxyCommand {} {} %h %p %r", program.display(), note.display());
        lab.host_through(&name, lab.port(), &[&command]);
        get_in(&lab, client, &name).run().expect_status(0).expect_out("in\n");
        let passed = fs::read_to_string(note).unwrap();
        assert_eq!(passed, format!("127.0.0.1 {} {}", lab.port(), lab.account().name));
    }

    fn bulk_goes_both_ways_through_a_proxy_command_that_waits_for_each_write(client) {
        const BYTES: u64 = 32 << 20;
        let lab = Lab::start();
        let name = name("waits", client);
        let program = lab.dir().join("bin").join(&name);
        // While it writes one way, it reads nothing of the other.
        let script = "#!/usr/bin/python3\n\
            import os, select, socket, sys\n\
            s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n\
            while True:\n\
            \x20   ready, _, _ = select.select([0, s], [], [])\n\
            \x20   if 0 in ready:\n\
            \x20       data = os.read(0, 65536)\n\
            \x20       if not data: break\n\
            \x20       s.sendall(data)\n\
            \x20   if s in ready:\n\
            \x20       data = s.recv(65536)\n\
            \x20       if not data: break\n\
            \x20       while data: data = data[os.write(1, data):]\n";
        write_script(&program, script);
        let command = format!("ProxyCommand {} %h %p", program.display());
        lab.host_through(&name, lab.port(), &[&command]);
        let (input, input_end) = std::io::pipe().unwrap();
        let (output_end, output) = std::io::pipe().unwrap();
        let running = lab
            .tool_to(client, &name, ["ssh", &name, "cat"])
            .stdin(OwnedFd::from(input))
            .stdout(OwnedFd::from(output))
            .start();
        let writer = std::thread::spawn(move || pattern::write(input_end, BYTES));
        let came = pattern::check(output_end).unwrap();
        running.finish().expect_status(0);
        writer.join().unwrap().unwrap();
        assert_eq!(came, BYTES);
    }

    fn match_and_include_count(client) {
        let lab = Lab::start();
        let name = name("matched", client);
        let included = lab.dir().join("user").join(format!("{name}.conf"));
        let text = format!("Match exec \"test %n = {name}\"\n    Port {}\n", lab.port());
        fs::write(&included, text).unwrap();
        let mut lines = lab.way_in(1);
        lines.retain(|line| !line.starts_with("Port"));
        lines.push(format!("IdentityFile {}", lab.key().display()));
        lines.push(format!("Include {}", included.display()));
        lab.host(&name, &lines);
        get_in(&lab, client, &name).run().expect_status(0).expect_out("in\n");
    }

    fn known_hosts_may_be_hashed_or_patterns_or_in_another_file(client) {
        let lab = Lab::start();
        let key = fs::read_to_string(lab.dir().join("server/host_key.pub")).unwrap();
        let files = lab.local_dir(&name("known", client));
        fs::write(files.join("empty"), "# nothing here\n").unwrap();
        fs::write(files.join("pattern"), format!("*.example,fakessh-l?b {key}")).unwrap();
        fs::write(files.join("hashed"), format!("fakessh-lab {key}")).unwrap();
        let hash = Command::new("ssh-keygen").arg("-H").arg("-f").arg(files.join("hashed")).output();
        assert!(hash.unwrap().status.success());
        for kind in ["pattern", "hashed"] {
            let name = name(kind, client);
            let line = format!("UserKnownHostsFile {0}/empty {0}/{kind}", files.display());
            lab.host_through(&name, lab.port(), &[&line]);
            get_in(&lab, client, &name).run().expect_status(0).expect_out("in\n");
        }
    }

    fn a_host_certificate_is_trusted_by_its_authority(client) {
        let lab = Lab::start();
        let files = lab.local_dir(&name("ca", client));
        let run = |arguments: &[&str]| {
            let done = Command::new("ssh-keygen").args(arguments).current_dir(&files).output();
            assert!(done.unwrap().status.success(), "{arguments:?}");
        };
        run(&["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
        fs::copy(lab.dir().join("server/host_key.pub"), files.join("host.pub")).unwrap();
        run(&["-q", "-s", "ca", "-h", "-I", "lab", "-n", "fakessh-lab", "host.pub"]);
        let certificate = files.join("host-cert.pub");
        let other = Lab::builder()
            .sshd(&format!("HostKey {}/server/host_key", lab.dir().display()))
            .sshd(&format!("HostCertificate {}", certificate.display()))
            .start();
        let authority = fs::read_to_string(files.join("ca.pub")).unwrap();
        fs::write(other.known_hosts(), format!("@cert-authority fakessh-* {authority}")).unwrap();
        get_in(&other, client, "remote").run().expect_status(0).expect_out("in\n");
        // A key that is revoked is not trusted, whatever vouches for it.
        let key = fs::read_to_string(files.join("host.pub")).unwrap();
        let text = format!("@revoked * {key}@revoked * {authority}fakessh-lab {key}");
        fs::write(other.known_hosts(), text).unwrap();
        get_in(&other, client, "remote").run().expect_status(255).expect_out("");
    }

    fn an_unknown_host_key_is_asked_about_and_recorded(client) {
        let lab = Lab::start();
        let name = name("asked", client);
        let known = lab.dir().join("user").join(format!("known-{name}"));
        let file = format!("UserKnownHostsFile {}", known.display());
        lab.host_through(&name, lab.port(), &["StrictHostKeyChecking ask", &file]);
        let askpass = Askpass::new(&lab, &format!("ask-{name}"), &["yes"]);
        askpass.for_tool(get_in(&lab, client, &name)).run().expect_status(0).expect_out("in\n");
        assert_eq!(fs::read_to_string(&known).unwrap().lines().count(), 1);
        assert!(askpass.asked().contains("SHA256:"), "{}", askpass.asked());
    }

    fn a_new_host_key_is_accepted_where_the_user_said_so(client) {
        let lab = Lab::start();
        let name = name("new", client);
        let known = lab.dir().join("user").join(format!("known-{name}"));
        let file = format!("UserKnownHostsFile {}", known.display());
        lab.host_through(&name, lab.port(), &["StrictHostKeyChecking accept-new", &file]);
        get_in(&lab, client, &name).run().expect_status(0).expect_out("in\n");
        assert_eq!(fs::read_to_string(&known).unwrap().lines().count(), 1);
    }

    fn a_password_opens_the_door(client) {
        if !root_for("an account with a password") {
            return;
        }
        let lab = Lab::builder().password().start();
        let askpass = Askpass::new(&lab, "password", &["wrong", PASSWORD]);
        askpass.for_tool(get_in(&lab, client, "remote")).run().expect_status(0).expect_out("in\n");
        assert_eq!(askpass.count(), 2, "{}", askpass.asked());
        assert!(askpass.asked().contains(&lab.account().name), "{}", askpass.asked());
        assert_eq!(lab.logins(), 1);
    }

    fn keyboard_interactive_opens_the_door(client) {
        if !root_for("an account with a password, checked by PAM") {
            return;
        }
        let lab = Lab::builder()
            .password()
            .pam()
            .sshd("PasswordAuthentication no")
            .sshd("KbdInteractiveAuthentication yes")
            .start();
        let askpass = Askpass::new(&lab, "interactive", &[PASSWORD]);
        askpass.for_tool(get_in(&lab, client, "remote")).run().expect_status(0).expect_out("in\n");
        assert_eq!(askpass.count(), 1, "{}", askpass.asked());
    }

    fn a_server_that_asks_nothing_interactively_has_its_tries_left_for_passwords(client) {
        if !root_for("an account with a password") {
            return;
        }
        // Without PAM it offers keyboard-interactive, and fails it at once.
        let lab = Lab::builder()
            .password()
            .sshd("KbdInteractiveAuthentication yes")
            .sshd("MaxAuthTries 3")
            .start();
        let askpass = Askpass::new(&lab, "password", &[PASSWORD]);
        askpass.for_tool(get_in(&lab, client, "remote")).run().expect_status(0).expect_out("in\n");
        assert_eq!(askpass.count(), 1, "{}", askpass.asked());
    }

    fn a_password_that_is_wrong_three_times_is_not_asked_for_again(client) {
        if !root_for("an account with a password") {
            return;
        }
        let lab = Lab::builder().password().start();
        let askpass = Askpass::new(&lab, "password", &["wrong"]);
        let done = askpass.for_tool(get_in(&lab, client, "remote")).run().expect_status(255);
        // Before the last line, each wrong answer but the last had one, as with ssh.
        let said = done.err();
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains(&lab.account().name) && last.contains("password"), "{said}");
        if client == Client::Fakessh {
            assert!(last.starts_with("fakessh: "), "{said}");
            assert!(said.lines().all(|line| line.starts_with("fakessh: ")), "{said}");
        }
        assert_eq!(askpass.count(), 3, "{}", askpass.asked());
        assert_eq!(lab.logins(), 0);
        if client == Client::Fakessh {
            lab.expect_nothing_left();
        }
    }
}
