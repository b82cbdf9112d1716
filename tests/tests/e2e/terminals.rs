//! Sessions on a terminal: a shell there as here, its size and modes, the escapes, and every way
//! out of it.

use std::path::Path;

use fakessh_lab::etc::SUDO_WITHOUT_PASSWORD;
use fakessh_lab::privilege::root_for;
use fakessh_lab::{Client, Gate, Lab, Shell, Terminal, binary, both_clients, wait_until};
use rustix::process::Signal;

/// Has a shell that waits next say the size of its terminal, and end, as soon as that changes.
const ON_RESIZE: &str = "trap 'stty size; kill $!; exit' WINCH; sleep 1000 &";

/// `ssh` of this client with these words, as a person types it.
fn ssh(lab: &Lab, client: Client, words: &str) -> String {
    let config = lab.config_path().display();
    match client {
        Client::Ssh => format!("ssh -F {config} {words}"),
        Client::Fakessh => format!("{} ssh -F {config} {words}", binary::fakessh().display()),
    }
}

/// Holds that the person's terminal is as a shell leaves it: what is typed shows, and ^C is obeyed.
#[track_caller]
fn expect_restored(terminal: &mut Shell) {
    terminal.types("stty -a | tr '\\n' ' '; echo en''d\n");
    let modes = terminal.shows("end\r\n");
    for mode in [" echo ", " icanon ", " isig ", " icrnl ", " opost ", " ixon "] {
        assert!(modes.contains(mode), "no{mode}: {modes}");
    }
}

both_clients! {
    fn a_shell_is_there_as_here(client) {
        let lab = Lab::start();
        let mut terminal = Shell::start(&lab);
        terminal.resize(100, 30);
        terminal.types("stty intr ^X\n");
        terminal.shows("$ ");
        terminal.types(&format!("{}\n", ssh(&lab, client, "remote")));
        terminal.types("PS1='there> '\n");
        terminal.shows("there> ");
        terminal.types("tty; stty size; echo kind=$TERM tty=$SSH_TTY; stty -a | grep intr\n");
        terminal.shows("/dev/pts/");
        terminal.shows("30 100");
        terminal.shows("kind=xterm tty=/dev/pts/");
        terminal.shows("intr = ^X");
        terminal.shows("there> ");
        // Programs there hear of another size at once.
        terminal.types(&format!("({ON_RESIZE} echo rea''dy; wait)\n"));
        terminal.shows("ready\r\n");
        terminal.resize(77, 20);
        terminal.shows("20 77\r\n");
        terminal.shows("there> ");
        // What interrupts there does not interrupt here.
        let line = "sh -c \"trap 'echo inter''rupted; exit' INT; echo go''ing; read x\"\n";
        terminal.types(line);
        terminal.shows("going\r\n");
        terminal.types("\x18");
        terminal.shows("interrupted\r\n");
        terminal.shows("there> ");
        terminal.types("jobs; false; exit 7\n");
        terminal.shows("Connection to ");
        terminal.shows(" closed.\r");
        terminal.types("echo status=$?\n");
        terminal.shows("status=7");
        expect_restored(&mut terminal);
        terminal.exit();
    }

    /// `su -c` starts programs on a terminal that is not the terminal of their session.
    fn a_terminal_of_another_session_serves_as_well(client) {
        let lab = Lab::start();
        let terminal = Terminal::new();
        let tool = lab.tool(client, ["ssh", "-t", "remote", "stty size && exit 7"]);
        terminal.set_columns(90);
        let done = tool.stdin(terminal.side_of_programs()).run().expect_status(7);
        assert_eq!(done.out(), "24 90\r\n", "{}", done.shown());
    }

    fn a_command_has_a_terminal_if_it_is_asked_for(client) {
        let lab = Lab::start();
        let mut terminal = Shell::start(&lab);
        let look = "'test -t 0 && test -t 1 && test -t 2 && echo a terminal || echo pipes'";
        for (words, expected) in [
            (format!("remote {look}"), "pipes"),
            (format!("-t remote {look}"), "a terminal"),
            (format!("-T remote {look}"), "pipes"),
            (format!("-o RequestTTY=yes remote {look}"), "a terminal"),
            (format!("-n -t remote {look}"), "pipes"),
            (format!("-t remote {look} </dev/null"), "pipes"),
            (format!("-tt remote {look} </dev/null"), "a terminal"),
        ] {
            terminal.types(&format!("{}\n", ssh(&lab, client, &words)));
            terminal.shows("\r\n");
            let (_, shown) = terminal.shows_one_of(&["pipes\r", "a terminal\r"]);
            assert!(shown.ends_with(&format!("{expected}\r")), "{words}: {shown}");
            let shown = shown + &terminal.shows("$ ");
            let is_dropped = shown.contains("Pseudo-terminal will not be allocated");
            assert_eq!(is_dropped, words.contains("-t remote") && expected == "pipes", "{shown}");
        }
        expect_restored(&mut terminal);
        terminal.exit();
    }

    fn escapes_are_obeyed(client) {
        let lab = Lab::start();
        let mut terminal = Shell::start(&lab);
        terminal.types(&format!("{}\n", ssh(&lab, client, "remote")));
        terminal.types("PS1='there> '\n");
        terminal.shows("there> ");
        terminal.types("~?");
        terminal.shows("Supported escape sequences:\r\n");
        terminal.types("~~a\n");
        terminal.shows("~a: command not found");
        terminal.shows("there> ");
        terminal.types("~\x1a");
        terminal.shows("Stopped");
        terminal.shows("$ ");
        expect_restored(&mut terminal);
        terminal.types("fg\n");
        terminal.types("\necho back\n");
        terminal.shows("\rback\r\n");
        terminal.types("\n~.");
        terminal.shows(" closed.\r");
        terminal.types("echo status=$?\n");
        terminal.shows("status=255");
        expect_restored(&mut terminal);
        // Another character, and none.
        for (words, end) in [
            ("-e none remote", "\x04"),
            ("-t -e % remote", "\n%."),
            ("-t -o EscapeChar=none remote", "\x04"),
        ] {
            let command = ssh(&lab, client, words);
            terminal.types(&format!("{command} 'echo go''ing; exec cat'\n"));
            terminal.shows("going\r\n");
            terminal.job().wait_until_idle();
            terminal.types("~.\n");
            terminal.shows("~.\r\n~.\r\n");
            terminal.types(end);
            terminal.shows("$ ");
        }
        terminal.exit();
    }

    fn a_session_goes_to_the_background(client) {
        let lab = Lab::start();
        let mut terminal = Shell::start(&lab);
        let words = "-t remote 'echo go\\''ing; cat; echo the e\\''nd; exit 5'";
        terminal.types(&format!("{}\n", ssh(&lab, client, words)));
        terminal.shows("going\r\n");
        let job = terminal.job();
        job.wait_until_idle();
        terminal.types("~&");
        terminal.shows("the end\r");
        assert!(job.wait(fakessh_lab::GUARD), "{} waits on", job.command);
        terminal.types("echo status=$?\n");
        terminal.shows("status=0");
        expect_restored(&mut terminal);
        terminal.exit();
    }

    fn output_waits_while_the_session_is_stopped(client) {
        let lab = Lab::start();
        let gate = Gate::new(&lab);
        let mut terminal = Shell::start(&lab);
        let words = format!(
            "-t remote 'echo go\\''ing; cat {0}; echo the e\\''nd; : >{0}.done'",
            gate.path()
        );
        terminal.types(&format!("{}\n", ssh(&lab, client, &words)));
        terminal.shows("going\r\n");
        terminal.job().wait_until_idle();
        terminal.types("~\x1a");
        terminal.shows("Stopped");
        terminal.shows("$ ");
        gate.open("x\n");
        let done = format!("{}.done", gate.path());
        wait_until(|| Path::new(&done).exists(), "the program has not gone on");
        // What is shown over the same connection comes after it.
        lab.tool(client, ["ssh", "remote", "true"]).run().expect_status(0);
        terminal.types("echo mar''ker\n");
        let shown = terminal.shows("marker\r");
        assert!(!shown.contains("the end"), "{shown}");
        terminal.types("fg\n");
        let closed = terminal.shows(" closed.\r");
        assert!(closed.contains("the end\r"), "{closed}");
        terminal.exit();
    }

    fn all_of_a_long_output_is_shown(client) {
        let lab = Lab::start();
        let mut terminal = Shell::start(&lab);
        let words = "-t remote 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i.; done; exit 3'";
        terminal.types(&format!("{}\n", ssh(&lab, client, words)));
        for number in (1000..=20_000).step_by(1000) {
            terminal.shows(&format!("line {number}.\r\n"));
        }
        terminal.shows(" closed.\r");
        terminal.types("echo status=$?\n");
        terminal.shows("status=3");
        terminal.exit();
    }

    fn the_end_does_not_wait_for_what_was_left_there(client) {
        let lab = Lab::start();
        let mut terminal = Shell::start(&lab);
        let left = "-t remote 'trap \"\" HUP; sleep 1000 & echo left=$!; exit 4'";
        terminal.types(&format!("{}\n", ssh(&lab, client, left)));
        terminal.shows("\r\nleft=");
        let shown = terminal.shows("\r\n");
        terminal.shows(" closed.\r");
        terminal.types("echo status=$?\n");
        terminal.shows("status=4");
        terminal.types(&format!("kill -9 {}\n", shown.trim()));
        terminal.exit();
    }

    fn the_terminal_is_as_it_was_after_every_way_out(client) {
        let lab = Lab::start();
        let mut terminal = Shell::start(&lab);
        for signal in [Signal::TERM, Signal::HUP] {
            terminal.types(&format!("{}\n", ssh(&lab, client, "-t remote 'echo up; sleep 1000'")));
            terminal.shows("up\r\n");
            let job = terminal.job();
            job.wait_until_idle();
            job.signal(signal);
            terminal.shows("$ ");
            expect_restored(&mut terminal);
        }
        terminal.types(&format!("{}\n", ssh(&lab, client, "-t remote 'echo up; sleep 1000'")));
        terminal.shows("up\r\n");
        terminal.job().wait_until_idle();
        lab.kill_connections();
        terminal.shows("$ ");
        terminal.types("echo status=$?\n");
        terminal.shows("status=255");
        expect_restored(&mut terminal);
        terminal.exit();
    }

    fn a_terminal_without_one_here_reads_what_is_sent(client) {
        let lab = Lab::start();
        let words = ssh(&lab, client, "-tt remote 'read line; echo \"got $line\"; exit 6'");
        let done = lab.program(["sh", "-c", &words]).input("text\n").run();
        let out = done.expect_status(6).out();
        assert_eq!(out.replace('\r', ""), "text\ngot text\n");
    }

    fn keywords_of_the_configuration_count(client) {
        let lab = Lab::builder().client("RequestTTY force\n  EscapeChar ^A").start();
        let mut terminal = Shell::start(&lab);
        terminal.types(&format!("{}\n", ssh(&lab, client, "remote 'echo go\\''ing; exec cat'")));
        terminal.shows("going\r\n");
        terminal.job().wait_until_idle();
        terminal.types("~.\n");
        terminal.shows("~.\r\n~.\r\n");
        terminal.types("\x01.");
        terminal.shows(" closed.\r");
        terminal.exit();
        let words = ssh(&lab, client, "-T remote 'test -t 0 || echo pipe'");
        lab.program(["sh", "-c", &words]).run().expect_status(0).expect_out("pipe\n");
    }

    fn a_hangup_of_the_terminal_ends_what_runs_there(client) {
        let lab = Lab::start();
        let mut terminal = Shell::start(&lab);
        terminal.types(&format!("{}\n", ssh(&lab, client, "-t remote 'echo pid=$$; sleep 1000'")));
        terminal.shows("\r\npid=");
        let pid = terminal.shows("\r\n").trim().parse().unwrap();
        let program = fakessh_lab::process::Process::open(pid).unwrap();
        drop(terminal);
        assert!(program.wait(fakessh_lab::GUARD), "{} runs on", program.command);
    }
}

#[test]
fn each_way_of_starting_a_program_gives_it_a_terminal() {
    if !root_for("rules of sudo") {
        return;
    }
    let lab = Lab::builder().etc("sudoers.d/lab", SUDO_WITHOUT_PASSWORD).start();
    let mut terminal = Shell::start(&lab);
    terminal.resize(90, 25);
    let (program, config) = (binary::fakessh(), lab.config_path());
    let (program, config) = (program.display(), config.display());
    let look = "sh -c 'test -t 0 && test -t 2 && stty size && id -un'";
    for (command, user) in [
        (format!("{program} exec -F {config} remote+sudo -- {look}"), "root"),
        (format!("{program} run -F {config} --on remote+sudo -- {look}"), "root"),
        (format!("{program} ssh -F {config} -t remote+sudo \"{look}\""), "root"),
        (format!("{program} run -F {config} remote+sudo -- ssh -t remote \"{look}\""), "root"),
        (
            // A tool there, whose own ssh leads to a third place.
            format!(
                "{program} run -F {config} --on remote --route db=remote+sudo -- \
                 ssh -t db \"{look}\""
            ),
            "root",
        ),
    ] {
        terminal.types(&format!("{command}\n"));
        let (place, shown) = terminal.shows_one_of(&["\r\n25 90\r\n", "fakessh: "]);
        assert_eq!(place, 0, "{command}: {shown}");
        terminal.shows(&format!("{user}\r\n"));
        terminal.shows("$ ");
    }
    // Output that leads elsewhere is not changed.
    terminal.types(&format!(
        "{program} exec -F {config} remote -- printf 'a\\nb\\n' | od -c | tr -d ' '\n"
    ));
    terminal.shows("0000000a\\nb\\n");
    terminal.exit();
}

#[test]
fn without_a_slave_the_server_gives_the_terminal() {
    // It shows its size when it would notice another.
    let command = format!("{ON_RESIZE} test -t 0 && stty size; wait");
    let lab = Lab::builder().sshd(&format!("ForceCommand {command}")).start();
    let mut terminal = Shell::start(&lab);
    terminal.resize(80, 24);
    terminal.types(&format!("{}\n", ssh(&lab, Client::Fakessh, "-t remote x")));
    terminal.shows("24 80\r\n");
    terminal.job().wait_until_idle();
    terminal.resize(70, 21);
    terminal.shows("21 70\r\n");
    terminal.shows(" closed.\r");
    expect_restored(&mut terminal);
    terminal.exit();
}
