//! The grammar: what is read, how it is written again, and what errors show.

use proptest::prelude::*;

use super::*;
use crate::hop::KINDS;

fn parse(text: &str) -> Route {
    Route::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// What a route is written as.
fn canonical_text(text: &str) -> String {
    parse(text).to_string()
}

/// The message for a text that is no route.
fn error(text: &str) -> String {
    Route::parse(text).expect_err(text).to_string()
}

/// The part of a text that its error is about.
fn wrong(text: &str) -> &str {
    &text[Route::parse(text).expect_err(text).at()]
}

fn ssh(step: &Step) -> (Option<&str>, &str, Option<u16>) {
    match step {
        Step::Ssh(target) => (target.user.as_deref(), &target.host, target.port),
        Step::Hop { .. } => panic!("{step} is no host"),
    }
}

fn hop(step: &Step) -> (&'static str, &str) {
    match step {
        Step::Hop { kind, argument } => (kind.name(), argument),
        Step::Ssh(_) => panic!("{step} is a host"),
    }
}

#[test]
fn a_route_is_steps_joined_by_plus() {
    let route = parse("bastion+alice@web1:2222+sudo:postgres+docker:bob@app");
    let [bastion, web1, sudo, docker] = route.steps() else { panic!("{route}") };
    assert_eq!(ssh(bastion), (None, "bastion", None));
    assert_eq!(ssh(web1), (Some("alice"), "web1", Some(2222)));
    assert_eq!(hop(sudo), ("sudo", "postgres"));
    assert_eq!(hop(docker), ("docker", "bob@app"));
    assert_eq!(route.ssh_prefix(), 2);
    assert!(!route.starts_here());
}

#[test]
fn every_kind_can_be_written() {
    for (text, argument) in [
        ("sudo", ""),
        ("su:bob", "bob"),
        ("doas:www", "www"),
        ("docker:app", "app"),
        ("podman:0:0@app", "0:0@app"),
        ("kubectl:shop/web/nginx", "shop/web/nginx"),
        ("lxc:box", "box"),
        ("incus:lab:box", "lab:box"),
        ("machine:box", "box"),
        ("nsenter:4711", "4711"),
        ("chroot:/srv/root", "/srv/root"),
        ("exec:ip netns exec blue", "ip netns exec blue"),
        ("local", ""),
        ("openssh:alice@web1:22", "alice@web1:22"),
    ] {
        let route = parse(text);
        let name = text.split(':').next().unwrap();
        assert_eq!(hop(&route.steps()[0]), (name, argument));
        assert_eq!(route.to_string(), text);
        assert!(route.starts_here());
    }
}

#[test]
fn the_text_of_a_route_is_the_same_for_the_same_route() {
    for (text, canonical) in [
        ("sudo:root", "sudo"),
        ("web1+su:root+doas:root", "web1+su+doas"),
        ("local+sudo", "sudo"),
        ("local+web1", "web1"),
        ("local", "local"),
        ("[::1]", "::1"),
        ("[::1]:22", "[::1]:22"),
        ("ssh://alice@web1:22/", "alice@web1:22"),
        ("ssh:alice@web1", "alice@web1"),
        ("ssh:web1+sudo", "ssh:web1+sudo"),
        ("ssh:sudo", "ssh:sudo"),
        ("ssh:docker:22", "ssh:docker:22"),
        ("ssh:ssh", "ssh:ssh"),
        ("ssh:local", "ssh:local"),
        ("ssh:a:b:c", "ssh:a:b:c"),
        ("sudo@web1", "sudo@web1"),
        (r"exec:a \+ b+sudo", r"exec:a \+ b+sudo"),
        (r"a\+b@web1", r"a\+b@web1"),
        (r"exec:a\\+b", r"exec:a\\+b"),
    ] {
        assert_eq!(canonical_text(text), canonical);
        assert_eq!(parse(canonical), parse(text), "{text}");
    }
    assert_eq!(hop(&parse(r"exec:a\\+b").steps()[0]), ("exec", r"a\+b"));
    assert_eq!(ssh(&parse("ssh:docker:22").steps()[0]), (None, "docker", Some(22)));
    // No configured name is meant by the one; both lead the same way.
    assert_eq!(parse("ssh:web1"), parse("web1"));
}

#[test]
fn the_place_of_a_mistake_is_exact() {
    for (text, part) in [
        ("web1+dokcer:app", "dokcer"),
        ("web1+Docker:bob@app", "Docker"),
        ("dokcer:a:b+web1", "dokcer"),
        ("web1+a:b:c", "a:b:c"),
        ("web1:http+sudo", "web1:http"),
        ("alice@web1:http+sudo", "http"),
        ("web1+-oProxyCommand=x", "-oProxyCommand=x"),
        ("web1+-l@host", "-l"),
        ("web1+sudo postgres", " postgres"),
        ("web1 + sudo", " "),
        ("web1+ sudo", " "),
        ("web1+sudo:-u", "-u"),
        ("web1+docker:bob@-x", "-x"),
        ("web1+nsenter:12x4", "x4"),
        (r"exec:a\+b+chroot:etc", "etc"),
        (r"exec:a\+b\+c+a\+b:c", r"a\+b:c"),
        (r"exec:a\+\+b+kubectl:a/b/c/d+x", "/d"),
        ("web1+local", "local"),
        ("local+openssh:web1", "openssh:web1"),
        ("web1+local:x", "x"),
        ("ssh:-x", "-x"),
        ("ssh:web1:x", "x"),
        ("web1+ssh", "ssh"),
        (r"web1+exec:x\", r"\"),
        ("ssh://web1/path", "ssh://web1/path"),
    ] {
        assert_eq!(wrong(text), part, "{text}");
    }
    for (text, at) in [
        ("", 0),
        ("+web1", 0),
        ("web1+", 5),
        ("a++b", 2),
        ("web1+sudo:", 10),
        ("web1+docker", 11),
        ("web1+docker:bob@", 16),
        ("ssh:", 4),
        ("alice@", 6),
        (":22", 0),
        ("web1:", 5),
    ] {
        let error = Route::parse(text).expect_err(text);
        assert_eq!(error.at().start, at, "{text}: {error}");
    }
}

#[test]
fn a_message_shows_the_route_and_what_is_expected() {
    let expected = "\
there is no hop 'dokcer'
  bastion+dokcer:app+sudo
          ^^^^^^
did you mean docker:app?
hops are sudo[:USER]";
    let text = error("bastion+dokcer:app+sudo");
    assert!(text.starts_with(expected), "{text}");
    assert!(KINDS.iter().all(|kind| text.contains(kind.syntax())), "{text}");
    let expected = "\
what belongs to 'sudo' stands behind a colon
  web1+sudo postgres
           ^^^^^^^^^
did you mean sudo:postgres?";
    assert_eq!(error("web1+sudo postgres"), expected);
    let expected = "\
the container's name is missing here
  web1+docker
             ^
expected docker:[USER@]CONTAINER";
    assert_eq!(error("web1+docker"), expected);
    let expected = "'web1' is no hop, and 'http' is no port\n  web1:http\n  ^^^^^^^^^\nhops are ";
    assert!(error("web1:http").starts_with(expected), "{}", error("web1:http"));
    let text = error("dokcer:bob@app");
    assert!(
        text.contains("did you mean docker:bob@app? (the host is ssh:dokcer:bob@app)"),
        "{text}"
    );
    // A terminal obeys nothing of it.
    let text = error("web1+sudo:\u{1b}[2J\n");
    assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
}

#[test]
fn users_with_colons_are_users_unless_they_look_like_a_hop() {
    let route = parse("root@db:SSH:alice@gate");
    assert_eq!(ssh(&route.steps()[0]), (Some("root@db:SSH:alice"), "gate", None));
    let route = parse("root:db:alice@gate");
    assert_eq!(ssh(&route.steps()[0]), (Some("root:db:alice"), "gate", None));
    let route = parse("ssh:dokcer:bob@app");
    assert_eq!(ssh(&route.steps()[0]), (Some("dokcer:bob"), "app", None));
}

#[test]
fn a_route_has_so_many_steps_at_most() {
    let steps = vec!["a"; MAX_STEPS];
    assert_eq!(parse(&steps.join("+")).steps().len(), MAX_STEPS);
    let text = error(&format!("{}+b", steps.join("+")));
    assert!(text.starts_with("a route has 32 steps at most\n"), "{text}");
}

#[test]
fn a_route_can_be_built_step_by_step() {
    let route = Route::ssh("sudo").unwrap().then("web1+docker:app").unwrap();
    assert_eq!(route.to_string(), "ssh:sudo+web1+docker:app");
    let route = parse("local").hop("sudo", "root").unwrap().hop("exec", "a+b \\+").unwrap();
    assert_eq!(route.to_string(), "sudo+exec:a\\+b \\\\+");
    assert_eq!(hop(&route.steps()[1]), ("exec", "a+b \\+"));
    let error = |result: Result<Route, RouteError>| result.unwrap_err().reason().to_owned();
    assert_eq!(error(parse("web1").hop("dokcer", "x")), "there is no such hop");
    assert!(error(parse("web1").hop("docker", "")).contains("container's name is missing"));
    assert!(error(parse("web1").hop("local", "")).contains("can only begin a route"));
    assert!(error(parse("web1").then("")).contains("a step is missing"));
    assert!(Route::ssh("web1+sudo").is_ok_and(|route| route.steps().len() == 1));
    assert!(error(Route::ssh("web1:x")).contains("'x' is not a port"));
}

#[test]
fn options_of_a_connection_stay_when_a_route_grows() {
    let target = Target { connection: vec!["-i".into(), "k".into()], ..web1() };
    let route = Route::from(&target);
    assert_ne!(route, parse("web1"));
    let longer = route.clone().then("sudo").unwrap();
    assert_eq!(longer.steps()[0], Step::Ssh(target.clone()));
    assert_eq!(longer.parent(), Some(route.clone()));
    assert_eq!(route.as_target(), Some(&target));
    assert_eq!((route.parent(), longer.as_target()), (None, None));
    assert_eq!(longer.prefix(2), Some(longer.clone()));
    assert_eq!(longer.prefix(3), None);
}

fn web1() -> Target {
    Target { host: "web1".into(), ..Target::default() }
}

#[test]
fn steps_that_would_be_read_as_something_else_are_refused() {
    assert!(Route::from_steps(Vec::new()).is_err());
    for host in ["", "a b", "-x", "a@b", "//a:b:c"] {
        let target = Target { host: host.into(), ..Target::default() };
        assert!(Route::from_steps(vec![Step::Ssh(target)]).is_err(), "{host:?}");
    }
    let target = Target { user: Some("a".into()), host: "sudo".into(), ..web1() };
    assert_eq!(Route::from(target).to_string(), "a@sudo");
    let target = Target { host: "a:22".into(), ..Target::default() };
    assert_eq!(Route::from(target).to_string(), "[a:22]");
    let kind = crate::hop::kind("sudo").unwrap();
    let step = |argument: &str| Step::Hop { kind, argument: argument.to_owned() };
    assert_eq!(Route::from_steps(vec![step("root")]), Ok(parse("sudo")));
    assert!(Route::from_steps(vec![step("-u")]).is_err());
    let local = Step::Hop { kind: crate::hop::kind("local").unwrap(), argument: String::new() };
    assert_eq!(Route::from_steps(vec![local.clone(), step("")]), Ok(parse("sudo")));
    assert!(Route::from_steps(vec![step(""), local]).is_err());
}

/// Characters that mean something somewhere, and some that don't.
fn text(most: usize) -> impl Strategy<Value = String> {
    let characters = "ab1+\\:@[]/%-. '\u{e4}\n".chars().collect::<Vec<_>>();
    prop::collection::vec(prop::sample::select(characters), 0..most)
        .prop_map(|characters| characters.into_iter().collect())
}

/// A step, most likely one that a route can hold.
fn any_step() -> impl Strategy<Value = Step> {
    let word = || prop_oneof![text(6), "[a-z]{1,8}", Just("sudo".to_owned()), "[a-f0-9:]{2,8}"];
    let ssh = (word(), prop::option::of(word()), prop::option::of(1u16..)).prop_map(
        |(host, user, port)| Step::Ssh(Target { host, user, port, connection: Vec::new() }),
    );
    let argument = prop_oneof![
        text(12),
        Just(String::new()),
        "[a-z]{1,8}",
        "/[a-z+\\\\]{1,8}",
        "[1-9]{1,5}",
        "root"
    ];
    let hop = (0..KINDS.len(), argument)
        .prop_map(|(kind, argument)| Step::Hop { kind: &KINDS[kind], argument });
    prop_oneof![ssh, hop]
}

/// Whether a step is a hop that a route can hold, wherever it stands.
fn is_fit(step: &Step) -> bool {
    let Step::Hop { kind, argument } = step else { return false };
    let blanks = argument.trim() != argument;
    kind.check(argument).is_ok() && !kind.is_first_only() && !blanks && !argument.ends_with('\\')
}

proptest! {
    #[test]
    fn a_route_that_is_written_and_read_is_the_same(
        steps in prop::collection::vec(any_step(), 1..4),
    ) {
        let must_be = steps.iter().all(is_fit);
        let route = Route::from_steps(steps);
        prop_assert!(route.is_ok() || !must_be, "{:?}", route);
        if let Ok(route) = route {
            let text = route.to_string();
            let read = Route::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&read, &route);
            prop_assert_eq!(read.to_string(), text);
            let json = serde_json::to_string(&route).unwrap();
            prop_assert_eq!(serde_json::from_str::<Route>(&json).unwrap(), route);
        }
    }

    #[test]
    fn any_text_is_a_route_or_an_error_that_can_be_shown(
        text in prop_oneof![
            text(24),
            any::<String>(),
            "(sudo|docker|dokcer|ssh|local|exec|web1)[:+@ ](a|\\\\|:|\\+|@| ){0,5}",
            "(exec:|)(a|\\\\\\+|b@|\\\\a){1,5}(\\+sudo)?",
        ],
    ) {
        match Route::parse(&text) {
            Ok(route) => {
                let written = route.to_string();
                let again = Route::parse(&written);
                prop_assert_eq!(again.as_ref().map(ToString::to_string), Ok(written));
                prop_assert_eq!(again, Ok(route));
            }
            Err(error) => {
                let at = error.at();
                prop_assert!(text.get(at.clone()).is_some(), "{:?} in {:?}", at, text);
                prop_assert!(error.to_string().lines().count() >= 3);
            }
        }
    }
}
