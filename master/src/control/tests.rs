use super::*;

#[test]
fn an_answer_may_be_empty_and_is_told_from_none() {
    for text in ["", "pass word", "\u{e4}\u{20ac}="] {
        let secret = Secret(text.to_owned());
        assert_eq!(answer(&encode_answer(Some(&secret))), Some(secret));
    }
    assert_eq!(answer(&encode_answer(None)), None);
    assert_eq!(answer(b"x"), None);
    assert_eq!(answer(b"=\xff"), None);
}

#[test]
fn a_question_is_filtered_and_bounded() {
    let asked = |text: &str| match Reply::ask(&Question::secret(text)) {
        Reply::Ask { text, .. } => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        asked("web1 says: a\x1b[2J\tb\nPassword: "),
        "web1 says: a\u{fffd}[2J b\nPassword: "
    );
    assert_eq!(asked(&"x".repeat(1 << 20)).len(), printable::MAX_QUESTION);
}

#[test]
fn what_is_neither_an_answer_nor_a_message_is_refused() {
    assert_eq!(heard(b"=yes".to_vec()).unwrap(), Heard::Answer(Some(Secret("yes".to_owned()))));
    assert_eq!(heard(Vec::new()).unwrap(), Heard::Answer(None));
    assert_eq!(heard(b"\"ended\"".to_vec()).unwrap(), Heard::Message(ClientMessage::Ended));
    for text in ["ended", "{}", "{\"signal\":256}", "{\"start\":{}}", "7"] {
        assert!(heard(text.into()).is_err(), "{text}");
    }
}

/// Holds that each example of the description is read, and said in the same way.
fn check_examples<T: serde::Serialize + serde::de::DeserializeOwned>(kind: &str) -> usize {
    let page = include_str!("../../../docs/control-protocol.md");
    let opening = format!("```json {kind}\n");
    let examples: Vec<&str> = page
        .split(&opening)
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap_or_default())
        .collect();
    for example in &examples {
        let written: serde_json::Value = serde_json::from_str(example).expect(example);
        let read: T = serde_json::from_str(example).expect(example);
        let said = serde_json::to_value(&read).unwrap();
        assert!(holds(&said, &written), "{example}\nis said as {said}");
    }
    examples.len()
}

/// Whether all that was written is there; what was left out has its default.
fn holds(said: &serde_json::Value, written: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object};
    match (said, written) {
        (Object(said), Object(written)) => written
            .iter()
            .all(|(name, value)| said.get(name).is_some_and(|said| holds(said, value))),
        (Array(said), Array(written)) => {
            said.len() == written.len() && said.iter().zip(written).all(|(s, w)| holds(s, w))
        }
        (said, written) => said == written,
    }
}

#[test]
fn the_examples_of_the_description_are_the_protocol() {
    assert_eq!(check_examples::<Envelope>("request"), 5);
    assert_eq!(check_examples::<Reply>("reply"), 11);
    assert_eq!(check_examples::<ClientMessage>("message"), 10);
    assert_eq!(check_examples::<Reached>("context"), 1);
}
