//! Forwards on a command line.

use fakessh_protocol::forward::Forward;
use fakessh_protocol::invocation::Request;
use fakessh_protocol::message::Peer;

use super::invocation;

/// The forwards of a command line, as options.
fn forwards(words: &str) -> Vec<String> {
    invocation(words).forwards.iter().map(Forward::to_string).collect()
}

#[test]
fn forwards_add_up_in_their_order() {
    let words = "-L 80:a:81 -R82 -oDynamicForward=1080 -D /s h x";
    let expected = ["-L localhost:80:a:81", "-R localhost:82", "-D localhost:1080", "-D /s"];
    assert_eq!(forwards(words), expected);
    let remote = parsed_option("RemoteForward=80 a:81");
    assert_eq!(remote, ["-R localhost:80:a:81"]);
    assert_eq!(parsed_option("RemoteForward 80"), ["-R localhost:80"]);
}

/// The forwards of this value of `-o`.
fn parsed_option(option: &str) -> Vec<String> {
    let invocation = super::parsed("h", &["-o", option]).invocation;
    invocation.forwards.iter().map(Forward::to_string).collect()
}

#[test]
fn the_first_word_on_all_forwards_counts() {
    let options = invocation(
        "-g -oGatewayPorts=no -oExitOnForwardFailure=yes -oStreamLocalBindMask=077 \
         -oStreamLocalBindUnlink=yes -oPermitRemoteOpen=a:1 h",
    )
    .forward_options;
    assert_eq!((options.gateway_ports, options.exit_on_failure), (Some(true), Some(true)));
    assert_eq!((options.bind_mask, options.bind_unlink), (Some(0o77), Some(true)));
    assert_eq!(
        (options.clear_all, &options.permit_remote_open[..]),
        (None, &["a:1".to_owned()][..])
    );
}

#[test]
fn standard_input_and_output_lead_to_one_place_and_nothing_else_is_forwarded() {
    let one = invocation("-W a:1 -L 80:a:81 h");
    assert_eq!(one.request, Request::Stdio(Peer::Tcp { host: "a".into(), port: 1 }));
    let options = one.forward_options;
    assert_eq!((options.clear_all, options.exit_on_failure), (Some(true), Some(true)));
    assert_eq!(invocation("-W [::1]:1 h").request, {
        Request::Stdio(Peer::Tcp { host: "::1".into(), port: 1 })
    });
    assert_eq!(invocation("-W /s h").request, Request::Stdio(Peer::Unix(b"/s".to_vec())));
}

#[test]
fn the_last_letter_or_the_first_value_says_which_agent() {
    use fakessh_protocol::invocation::ForwardAgent::{At, No, Yes};
    for (words, expected) in [
        ("h", None),
        ("-A h", Some(Yes)),
        ("-A -a h", Some(No)),
        ("-a -A h", Some(Yes)),
        ("-oForwardAgent=no -oForwardAgent=yes h", Some(No)),
        ("-oForwardAgent=/run/agent h", Some(At("/run/agent".to_owned()))),
        ("-oForwardAgent=$OTHER h", Some(At("$OTHER".to_owned()))),
    ] {
        assert_eq!(invocation(words).agent, expected, "{words}");
    }
}
