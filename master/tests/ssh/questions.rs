//! Passwords, the server's own questions, and logins that need more than one proof. The server
//! has an account of its own making: real accounts need root and a password file.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fakessh::hop::ssh::{ConnectError, SshConnection, Via};
use fakessh_lab::GUARD;
use fakessh_protocol::message::Question;
use fakessh_protocol::printable;
use russh::keys::{Algorithm, PrivateKey};
use russh::server::{Auth, Config, Handler, Response, VerifiedPublicKey, run_stream};
use russh::{MethodKind, MethodSet};
use tokio::sync::Notify;

use crate::lab::Lab;

/// What a server wants, and what it has seen.
#[derive(Clone)]
struct Account {
    methods: MethodSet,
    /// Methods that must all succeed.
    needed: Vec<MethodKind>,
    tried: Arc<Mutex<Vec<String>>>,
    done: Vec<MethodKind>,
    /// Asks so many hostile questions in each round, and never stops.
    endless: Option<usize>,
}

impl Account {
    fn with(methods: &[MethodKind], needed: &[MethodKind]) -> Account {
        let (methods, needed) = (MethodSet::from(methods), needed.to_vec());
        Account { methods, needed, tried: Arc::default(), done: Vec::new(), endless: None }
    }

    fn tried(&self) -> Vec<String> {
        self.tried.lock().unwrap().clone()
    }

    fn refused(&self) -> Auth {
        let proceed_with_methods = Some(self.methods.clone());
        Auth::Reject { proceed_with_methods, partial_success: false }
    }

    fn accepted(&mut self, method: MethodKind) -> Auth {
        self.done.push(method);
        let left: Vec<MethodKind> =
            self.needed.iter().copied().filter(|method| !self.done.contains(method)).collect();
        if left.is_empty() {
            return Auth::Accept;
        }
        Auth::Reject {
            proceed_with_methods: Some(MethodSet::from(left.as_slice())),
            partial_success: true,
        }
    }
}

impl Handler for Account {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        Ok(Some("Welcome\x1b[2J to the test\n".to_owned()))
    }

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        self.tried.lock().unwrap().push(format!("password {password}"));
        Ok(if password == "secret" { self.accepted(MethodKind::Password) } else { self.refused() })
    }

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        self.tried.lock().unwrap().push("publickey".to_owned());
        Ok(self.accepted(MethodKind::PublicKey))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        if let Some(count) = self.endless {
            let forged = "\x1b[2J\u{202e}x\r\nfakessh: forged";
            let prompts = vec![(Cow::from(format!("{forged} password: ")), false); count];
            let (name, instructions) = (Cow::from(forged), Cow::from(forged));
            return Ok(Auth::Partial { name, instructions, prompts: Cow::Owned(prompts) });
        }
        let Some(response) = response else {
            let prompts = [(Cow::from("Code: "), false), (Cow::from("Name: "), true)];
            return Ok(Auth::Partial {
                name: "Second factor".into(),
                instructions: "Look at your token".into(),
                prompts: Cow::Owned(prompts.to_vec()),
            });
        };
        let answers: Vec<String> =
            response.map(|answer| String::from_utf8_lossy(&answer).into_owned()).collect();
        self.tried.lock().unwrap().push(format!("answers {}", answers.join(" ")));
        let right = answers == ["123456", "bob"];
        Ok(if right { self.accepted(MethodKind::KeyboardInteractive) } else { self.refused() })
    }
}

async fn serve(account: Account) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut random = russh::keys::key::safe_rng();
    let config = Arc::new(Config {
        keys: vec![PrivateKey::random(&mut random, Algorithm::Ed25519).unwrap()],
        methods: account.methods.clone(),
        auth_rejection_time: std::time::Duration::ZERO,
        ..Config::default()
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let session = run_stream(config.clone(), stream, account.clone()).await;
            tokio::spawn(async move { session.unwrap().await });
        }
    });
    address
}

async fn connect(
    lab: &Lab,
    account: &Account,
    options: &[&str],
) -> Result<SshConnection, ConnectError> {
    let address = serve(account.clone()).await;
    let options = [&["StrictHostKeyChecking=no"], options].concat();
    let mut resolved = lab.resolved(&options).await;
    resolved.port = address.port();
    let caller = lab.caller();
    let connect = SshConnection::connect(&resolved, Via::Tcp, &caller);
    tokio::time::timeout(GUARD, connect).await.expect("hangs")
}

const PASSWORD: MethodKind = MethodKind::Password;
const QUESTIONS: MethodKind = MethodKind::KeyboardInteractive;
const KEY: MethodKind = MethodKind::PublicKey;

#[tokio::test]
async fn a_password_is_asked_for_until_it_is_right() {
    let lab = Lab::without_server();
    let account = Account::with(&[PASSWORD], &[PASSWORD]);
    lab.answer("'s password: ", "wrong");
    lab.answer("'s password: ", "secret");
    connect(&lab, &account, &[]).await.unwrap();
    assert_eq!(account.tried(), ["password wrong", "password secret"]);
    let seen = lab.person.seen();
    assert!(seen.contains(&"fakessh: Permission denied, please try again.".to_owned()), "{seen:?}");
    assert!(
        seen.contains(&"127.0.0.1 says: Welcome\u{fffd}[2J to the test".to_owned()),
        "{seen:?}"
    );
}

#[tokio::test]
async fn three_wrong_passwords_are_the_end() {
    let lab = Lab::without_server();
    let account = Account::with(&[PASSWORD], &[PASSWORD]);
    for _ in 0..4 {
        lab.answer("password: ", "wrong");
    }
    let error = connect(&lab, &account, &[]).await.unwrap_err();
    assert!(!error.is_unanswered());
    let error = error.to_string();
    assert!(error.contains("tried: password (refused 3 times)"), "{error}");
    assert_eq!(account.tried().len(), 3);
    lab.answer("password: ", "wrong");
    let error = connect(&lab, &account, &["NumberOfPasswordPrompts=1"]).await.unwrap_err();
    assert!(error.to_string().contains("refused once"), "{error}");
}

#[tokio::test]
async fn nobody_to_ask_and_batch_mode_send_no_password() {
    let lab = Lab::without_server();
    let account = Account::with(&[PASSWORD], &[PASSWORD]);
    let error = connect(&lab, &account, &[]).await.unwrap_err();
    assert!(error.is_unanswered());
    let error = error.to_string();
    assert!(
        error.contains("Permission denied (password).") && error.contains("nobody to ask"),
        "{error}"
    );
    lab.answer("password: ", "secret");
    let error = connect(&lab, &account, &["BatchMode=yes"]).await.unwrap_err();
    assert!(error.is_unanswered());
    let error = error.to_string();
    assert!(error.contains("BatchMode"), "{error}");
    assert!(account.tried().is_empty());
}

#[tokio::test]
async fn the_servers_questions_reach_the_person_in_order() {
    let lab = Lab::without_server();
    let account = Account::with(&[QUESTIONS], &[QUESTIONS]);
    lab.answer("Code: ", "123456");
    lab.answer("Name: ", "bob");
    connect(&lab, &account, &[]).await.unwrap();
    let seen = lab.person.seen();
    let says = "127.0.0.1 says: ";
    let heading = format!("{says}Second factor\n{says}Look at your token");
    let at = seen.iter().position(|text| *text == heading).expect("the server's heading");
    assert!(
        seen[at + 1].starts_with('(') && seen[at + 1].ends_with("@127.0.0.1) Code: "),
        "{seen:?}"
    );
    assert_eq!(account.tried(), ["answers 123456 bob"]);
}

#[tokio::test]
async fn a_server_that_asks_without_end_is_not_answered_without_end() {
    let lab = Lab::without_server();
    for prompts in [0, 1, 2, 1000] {
        let account =
            Account { endless: Some(prompts), ..Account::with(&[QUESTIONS], &[QUESTIONS]) };
        for _ in 0..2000 {
            lab.answer("forged", "secret");
        }
        let error = connect(&lab, &account, &[]).await.unwrap_err().to_string();
        assert!(error.contains("asked too often"), "{error}");
        let seen = std::mem::take(&mut *lab.person.seen.lock().unwrap());
        let asked = seen.iter().filter(|text| text.starts_with('('));
        assert!(asked.count() <= 24, "{seen:?}");
        assert!(seen.len() <= 50, "{seen:?}");
        let is_heard = seen.iter().any(|text| text.contains("forged"));
        assert!(is_heard || prompts == 1000, "{seen:?}");
        for line in seen.iter().flat_map(|text| text.lines()) {
            assert!(line.chars().all(printable::is_shown), "{line:?}");
            assert!(!line.starts_with("fakessh: forged"), "{line}");
            let has_sender = ["127.0.0.1 says: ", "(", "fakessh: "];
            assert!(has_sender.iter().any(|sender| line.starts_with(sender)), "{line}");
        }
        lab.person.answers.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn a_key_and_a_second_factor_are_both_given() {
    let lab = Lab::without_server();
    lab.keygen("id", &["-t", "ed25519", "-N", ""]);
    let account = Account::with(&[KEY, QUESTIONS], &[KEY, QUESTIONS]);
    lab.answer("Code: ", "123456");
    lab.answer("Name: ", "bob");
    connect(&lab, &account, &[]).await.unwrap();
    assert_eq!(account.tried(), ["publickey", "answers 123456 bob"]);
}

#[tokio::test]
async fn the_preferred_order_and_what_is_switched_off_count() {
    let lab = Lab::without_server();
    lab.keygen("id", &["-t", "ed25519", "-N", ""]);
    let account = Account::with(&[KEY, PASSWORD, QUESTIONS], &[PASSWORD]);
    lab.answer("password: ", "secret");
    let options = ["PreferredAuthentications=password,publickey"];
    connect(&lab, &account, &options).await.unwrap();
    assert_eq!(account.tried(), ["password secret"]);
    let options = ["PubkeyAuthentication=no", "KbdInteractiveAuthentication=no"];
    lab.answer("password: ", "secret");
    connect(&lab, &account, &options).await.unwrap();
    assert_eq!(account.tried().len(), 2);
}

#[tokio::test]
async fn a_question_that_is_given_up_ends_the_login() {
    /// Says that it is asked, and nothing else.
    struct Never(Arc<Notify>);
    #[async_trait::async_trait]
    impl fakessh::caller::Ask for Never {
        async fn ask(&self, _: Question) -> Option<fakessh_protocol::message::Secret> {
            self.0.notify_one();
            std::future::pending().await
        }
    }
    let lab = Lab::without_server();
    let account = Account::with(&[PASSWORD], &[PASSWORD]);
    let address = serve(account.clone()).await;
    let unconnected = Arc::strong_count(&account.tried);
    let mut resolved = lab.resolved(&["StrictHostKeyChecking=no"]).await;
    resolved.port = address.port();
    let asked = Arc::new(Notify::new());
    let caller = fakessh::caller::Caller { ask: Arc::new(Never(asked.clone())), ..lab.caller() };
    let given_up = async {
        tokio::select! {
            connected = SshConnection::connect(&resolved, Via::Tcp, &caller) => {
                panic!("nobody has answered: {connected:?}")
            }
            () = asked.notified() => {}
        }
    };
    tokio::time::timeout(GUARD, given_up).await.expect("it is not asked");
    // The server's end of the connection has what was tried, too.
    let ended = async {
        while Arc::strong_count(&account.tried) > unconnected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, ended).await.expect("the login goes on");
    assert!(account.tried().is_empty());
}
