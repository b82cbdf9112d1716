use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fakessh_protocol::message::Secret;

use crate::caller::Ask;
use crate::ssh_config::{Target, resolve};

use super::*;

const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJD+HVKt7i+DzFKUiBdrL9frK1qWs8uoMpWVaUnZ4gCn";
const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJOtUA6XwBCdjC/+BnjJAX3uibvD1E8uoTy23Mn4j8Z/";

/// Answers from a list, and keeps what it was asked and told.
#[derive(Default)]
struct Person {
    answers: Mutex<Vec<&'static str>>,
    seen: Mutex<Vec<String>>,
}

#[async_trait]
impl Ask for Person {
    async fn ask(&self, question: Question) -> Option<Secret> {
        assert_eq!(question.kind, QuestionKind::Confirm);
        self.seen.lock().unwrap().push(question.text);
        let mut answers = self.answers.lock().unwrap();
        if answers.is_empty() { None } else { Some(Secret(answers.remove(0).to_owned())) }
    }

    async fn notice(&self, notice: Notice) {
        self.seen.lock().unwrap().push(notice.to_string());
    }
}

struct Case {
    directory: tempfile::TempDir,
    person: Arc<Person>,
    option: &'static str,
}

impl Case {
    fn new(option: &'static str, answers: &[&'static str]) -> Case {
        let person = Person { answers: Mutex::new(answers.to_vec()), ..Person::default() };
        Case { directory: tempfile::tempdir().unwrap(), person: Arc::new(person), option }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ssh/known")
    }

    async fn decide(&self, key: &str) -> Result<(), HostKeyError> {
        let caller = Caller {
            environment: Vec::new(),
            directory: self.directory.path().into(),
            ask: self.person.clone(),
        };
        let files = format!("-oUserKnownHostsFile={}", self.file().display());
        let options = ["-Fnone", &files, "-oGlobalKnownHostsFile=/dev/null", self.option];
        let connection = options.map(Into::into).to_vec();
        let target = Target { host: "web1".into(), user: None, port: Some(2222), connection };
        let resolved = resolve(&target, &caller).await.unwrap();
        let records = KnownHosts::read(&resolved).await.unwrap();
        let key = PublicKey::from_openssh(key).unwrap();
        let shown = PublicKeyOrCertificate::PublicKey { key, hash_alg: None };
        decide(&records, &resolved, &shown, Some("10.0.0.1".into()), &caller).await
    }
}

#[tokio::test]
async fn a_yes_records_the_key_in_a_private_file() {
    let case = Case::new("-oHashKnownHosts=no", &["perhaps", "yes"]);
    case.decide(A).await.unwrap();
    let seen = case.person.seen.lock().unwrap().clone();
    assert!(seen[0].starts_with("The authenticity of host '[web1]:2222 (10.0.0.1)'"), "{seen:?}");
    assert!(seen[0].contains("ED25519 key fingerprint is SHA256:"));
    assert!(seen[2].contains("Permanently added '[web1]:2222'"));
    let line = std::fs::read_to_string(case.file()).unwrap();
    assert_eq!(line, format!("[web1]:2222 {A}\n"));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&case.file()), mode(case.file().parent().unwrap())), (0o600, 0o700));
    case.decide(A).await.unwrap();
    assert_eq!(case.person.seen.lock().unwrap().len(), 3, "a recorded key is not asked about");
}

#[tokio::test]
async fn the_fingerprint_is_an_answer_and_a_wrong_one_is_not() {
    let fingerprint = PublicKey::from_openssh(A).unwrap().fingerprint(HashAlg::Sha256).to_string();
    let case = Case::new("-oHashKnownHosts=yes", &[fingerprint.leak()]);
    case.decide(A).await.unwrap();
    let line = std::fs::read_to_string(case.file()).unwrap();
    assert!(line.starts_with("|1|"), "{line}");
    case.decide(A).await.unwrap();

    let case = Case::new("-oHashKnownHosts=yes", &["SHA256:wrong", "no"]);
    assert!(matches!(case.decide(A).await, Err(HostKeyError::Declined { .. })));
    assert!(!case.file().exists());
}

#[tokio::test]
async fn nobody_to_ask_is_a_refusal_that_says_what_to_do() {
    for option in ["-oStrictHostKeyChecking=ask", "-oStrictHostKeyChecking=yes", "-oBatchMode=yes"]
    {
        let case = Case::new(option, &[]);
        let error = case.decide(A).await.unwrap_err().to_string();
        assert!(error.contains("SHA256:") && error.contains("ssh-keyscan -p 2222 web1"), "{error}");
        assert!(!error.contains('\n') && !case.file().exists());
    }
}

#[tokio::test]
async fn new_hosts_are_accepted_unasked_and_changed_ones_never() {
    for option in ["-oStrictHostKeyChecking=accept-new", "-oStrictHostKeyChecking=no"] {
        let case = Case::new(option, &[]);
        std::fs::create_dir(case.file().parent().unwrap()).unwrap();
        std::fs::write(case.file(), format!("other {B}")).unwrap();
        case.decide(A).await.unwrap();
        let lines = std::fs::read_to_string(case.file()).unwrap();
        assert_eq!(lines, format!("other {B}\n[web1]:2222 {A}\n"));
        let error = case.decide(B).await.unwrap_err().to_string();
        assert!(error.contains("known:2 ") && error.contains("-R '[web1]:2222'"), "{error}");
    }
}
