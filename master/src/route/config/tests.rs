//! Configuration files, and routes with names in them.

use super::*;

fn names(text: &str) -> Result<Names, NamesError> {
    Names::read(Path::new("/c.toml"), text)
}

fn error(text: &str) -> String {
    names(text).expect_err(text).to_string()
}

/// What a route becomes with these names.
fn expanded(names: &Names, route: &str) -> Result<String, String> {
    let expanded = names.expand(Route::parse(route).unwrap());
    expanded.map(|route| route.to_string()).map_err(|error| error.to_string())
}

const FILE: &str = r#"
# Where things are.
[route.db]
via = "bastion+db1+sudo:postgres"

[route.web1]
via = "bastion+ssh:web1"

[route.bastion]
via = "alice@bastion.example.com:2222"

[route.app]
via = "web1+docker:app"

[route.root]
via = "sudo"

[route.here]
via = "local+docker:app"
"#;

#[test]
fn names_are_replaced_by_their_steps_and_those_of_the_names_in_them() {
    let names = names(FILE).unwrap();
    let ok = |route: &str, expected: &str| {
        assert_eq!(expanded(&names, route).as_deref(), Ok(expected), "{route}");
    };
    let bastion = "alice@bastion.example.com:2222";
    ok("db", &format!("{bastion}+db1+sudo:postgres"));
    ok("app+sudo", &format!("{bastion}+ssh:web1+docker:app+sudo"));
    ok("x+root", "x+sudo");
    ok("root", "sudo");
    ok("here+sudo", "docker:app+sudo");
    ok("db2+docker:db", "db2+docker:db");
    // Not a bare name, or not meant as one.
    ok("bob@db", "bob@db");
    ok("db:22", "db:22");
    ok("ssh:db", "ssh:db");
    ok("ssh:web2", "web2");
}

#[test]
fn what_was_replaced_is_not_replaced_again() {
    let names = names(FILE).unwrap();
    let route = names.expand(Route::parse("app").unwrap()).unwrap();
    assert_eq!(names.expand(route.clone()).unwrap().to_string(), route.to_string());
    let again = Route::parse(&route.to_string()).unwrap();
    assert_eq!(names.expand(again).unwrap(), route);
    let routes = names.routes();
    assert_eq!((routes.len(), routes["app"].as_ref().unwrap()), (6, &route));
}

#[test]
fn a_name_that_leads_nowhere_is_no_matter_for_the_others() {
    let names = names("[route.a]\nvia = \"a+sudo\"\n[route.b]\nvia = \"web1\"\n").unwrap();
    let routes = names.routes();
    assert!(matches!(routes["a"], Err(NamesError::Circle { .. })));
    assert_eq!(routes["b"].as_ref().unwrap().to_string(), "web1");
}

#[test]
fn a_host_with_options_is_no_name() {
    let names = names(FILE).unwrap();
    let target = crate::ssh_config::Target {
        host: "db".into(),
        connection: vec!["-F".into(), "x".into()],
        ..Default::default()
    };
    let route = Route::from(target);
    assert_eq!(names.expand(route.clone()).unwrap(), route);
}

#[test]
fn a_circle_is_shown_with_the_way_out() {
    let names = names(
        "[route.a]\nvia = \"x+b\"\n[route.b]\nvia = \"c+sudo\"\n[route.c]\nvia = \"b\"\n\
         [route.web1]\nvia = \"bastion+web1\"\n",
    )
    .unwrap();
    let expected = "/c.toml, line 4: the route names lead in a circle: b > c > b; where the host \
                    itself is meant, write ssh:b";
    assert_eq!(expanded(&names, "a").unwrap_err(), expected);
    let error = expanded(&names, "web1").unwrap_err();
    assert!(error.contains("line 8:") && error.contains("web1 > web1;"), "{error}");
    // The same name twice, one behind the other, is no circle.
    let twice = self::names("[route.b]\nvia = \"h\"").unwrap();
    assert_eq!(expanded(&twice, "b+b").unwrap(), "h+h");
}

#[test]
fn a_route_that_starts_from_this_host_stands_first() {
    let names = names(FILE).unwrap();
    let error = expanded(&names, "x+here").unwrap_err();
    assert!(error.contains("line 19: the route 'here' starts from this host"), "{error}");
    let nested =
        self::names("[route.k]\nvia = \"openssh:h\"\n[route.l]\nvia = \"k+sudo\"").unwrap();
    assert_eq!(expanded(&nested, "l").unwrap(), "openssh:h+sudo");
    assert!(expanded(&nested, "x+l").unwrap_err().contains("the route 'k'"));
}

#[test]
fn names_do_not_grow_without_bound() {
    let mut text = "[route.n0]\nvia = \"h+h\"\n".to_owned();
    for at in 1..60 {
        let before = at - 1;
        text += &format!("[route.n{at}]\nvia = \"n{before}+n{before}\"\n");
        text += &format!("[route.m{at}]\nvia = \"m{before}\"\n");
    }
    let names = names(&text).unwrap();
    for route in ["n59", "n5", "m59"] {
        assert!(expanded(&names, route).unwrap_err().contains("more than"), "{route}");
    }
    assert!(expanded(&names, "n4").is_ok());
}

#[test]
fn what_is_unknown_or_missing_is_shown_with_its_line() {
    let text = error("[route.db]\nvia = \"db1\"\nuser = \"x\"\n");
    assert!(text.starts_with("/c.toml, line 3: unknown field `user`"), "{text}");
    assert!(text.ends_with("\n  user = \"x\"\n  ^^^^"), "{text}");
    assert!(error("[routes.db]\nvia = \"db1\"").starts_with("/c.toml, line 1: unknown field"));
    assert!(error("\n[route.db]\n").starts_with("/c.toml, line 2: missing field `via`"));
    assert!(error("[route.db]\nvia = 7").starts_with("/c.toml, line 2: invalid type"));
    let text = error("[route.db]\nvia = \"db1\n");
    assert!(text.starts_with("/c.toml, line 2: ") && text.contains("\n  via = \"db1\n"), "{text}");
    let twice = "[route.a]\nvia = \"x\"\n[route.a]\nvia = \"y\"";
    assert!(error(twice).starts_with("/c.toml, line 3: duplicate key"), "{}", error(twice));
}

#[test]
fn a_wrong_route_is_shown_with_its_line_and_place() {
    let text = error("[route.db]\n\n  via = \"web1+dokcer:app\"");
    let expected = "/c.toml, line 3: there is no hop 'dokcer'\n  web1+dokcer:app\n       ^^^^^^\n\
                    did you mean docker:app?\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(error("[route.db]\nvia = \"\"").starts_with("/c.toml, line 2: a step is missing"));
}

#[test]
fn names_that_a_route_can_not_hold_are_refused() {
    for name in
        ["a+b", "a:1", "a@b", "sudo", "ssh", "local", "-a", "", "a b", "w*", "[::1]", "a\\\\"]
    {
        let text = error(&format!("# x\n[route.\"{name}\"]\nvia = \"h\"\n"));
        assert!(text.starts_with("/c.toml, line 2: the name of a route is"), "{name}: {text}");
        assert!(text.ends_with('^'), "{text}");
    }
    for name in ["a.b", "db_1-x", "\u{e4}"] {
        let names = names(&format!("[route.\"{name}\"]\nvia = \"h\"\n")).unwrap();
        assert_eq!(expanded(&names, name).unwrap(), "h");
    }
}

#[test]
fn no_file_is_no_names_and_a_broken_one_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    assert_eq!(Names::load(&path).unwrap(), Names::default());
    assert_eq!(Names::load(&path.join("x")).unwrap(), Names::default());
    std::fs::write(&path, FILE).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, closed).unwrap();
    assert_eq!(Names::load(&path).unwrap().names.len(), 6);
    assert!(Names::load(&path.join("x")).is_ok());
    std::fs::write(&path, b"\xff").unwrap();
    assert!(Names::load(&path).unwrap_err().to_string().contains("config.toml: "));
    std::fs::write(&path, vec![b'#'; 1 + MAX_FILE as usize]).unwrap();
    assert!(Names::load(&path).unwrap_err().to_string().contains("longer than 1048576 bytes"));
    assert!(Names::load(directory.path()).is_err());
}

#[test]
fn a_file_that_others_can_write_is_not_obeyed() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("fakessh");
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("config.toml");
    std::fs::write(&path, FILE).unwrap();
    let shown = |path: &Path| path.display().to_string();
    for (exposed, bad, good) in
        [(&path, 0o620, 0o600), (&path, 0o602, 0o640), (&directory, 0o770, 0o755)]
    {
        set_permissions(exposed, Permissions::from_mode(bad)).unwrap();
        let error = Names::load(&path).unwrap_err().to_string();
        let mode = format!("has mode {bad:04o}");
        let remedy = format!("run: chmod go-w {}", shown(exposed));
        assert!(error.contains(&mode) && error.ends_with(&remedy), "{error}");
        set_permissions(exposed, Permissions::from_mode(good)).unwrap();
        assert_eq!(Names::load(&path).unwrap().names.len(), 6);
    }
    // A link is as good as what it leads to.
    let link = directory.join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(Names::load(&link).is_ok());
    set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert!(Names::load(&link).is_err());
    if rustix::process::getuid().is_root() {
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let error = Names::load(&path).unwrap_err().to_string();
        assert!(error.contains("belongs to uid 12345"), "{error}");
    }
}

#[test]
fn rules_are_of_all_of_a_kind_and_of_a_route_by_whatever_name() {
    let names = names(
        "persist = \"4h\"\n[hop.sudo]\npersist = 300\nconfirm = true\n[hop.ssh]\npersist = \"yes\"\n\
         [route.db]\nvia = \"b+sudo\"\npersist = false\n[route.b]\nvia = \"web1\"\nconfirm = true\n\
         [route.plain]\nvia = \"x\"\n[route.loop]\nvia = \"loop\"\npersist = \"1m\"\n",
    )
    .unwrap();
    let rules = names.rules();
    let shown = |rule: &Rule| (rule.persist.map(|it| it.to_string()), rule.confirm);
    assert_eq!((rules.asked, rules.persist.unwrap().to_string()), (None, "4h".into()));
    assert_eq!(shown(&rules.hops["sudo"]), (Some("5m".into()), true));
    assert_eq!(shown(&rules.hops["ssh"]), (Some("yes".into()), false));
    assert_eq!(shown(&rules.routes["web1+sudo"]), (Some("no".into()), false));
    assert_eq!(shown(&rules.routes["web1"]), (None, true));
    assert_eq!(rules.routes.len(), 2);
}

#[test]
fn a_wrong_rule_is_shown_with_its_line() {
    for (text, expected) in [
        ("\npersist = \"soon\"", "line 2: 'soon' is no time; write 10m"),
        ("[hop.sodu]\npersist = 1", "line 1: there is no hop of this name; there are ssh, sudo"),
        ("[audit]\nfile = \"a\"", "the file of the audit log is an absolute path"),
        ("[audit]\ncommands = \"plain\"", "line 2: unknown variant `plain`"),
        ("[hop.sudo]\nfor = 1", "line 2: unknown field `for`"),
        ("[route.a]\nvia = \"h\"\npersist = -1", "line 3: a time is not negative"),
        ("[route.a]\nvia = \"h\"\nconfirm = \"yes\"", "line 3: invalid type"),
    ] {
        assert!(error(text).contains(expected), "{}", error(text));
    }
}
