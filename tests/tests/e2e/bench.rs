//! The benchmarks work. What they measure fails no test.

use std::process::Command;

use serde_json::Value;

#[test]
fn the_short_form_takes_measures_and_prints_and_writes_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let measured = Command::new(env!("CARGO_BIN_EXE_bench"))
        .env("FAKESSH_BIN", fakessh_lab::binary::fakessh())
        .args(["--short", "L1", "C1", "M2", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&measured.stderr);
    assert!(measured.status.success(), "{said}");
    let table = String::from_utf8_lossy(&measured.stdout);
    for id in ["L1 ", "C1 ", "M2 "] {
        assert!(table.lines().any(|line| line.starts_with(id)), "no {id} in\n{table}");
    }
    let result: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let rows = result["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["ours"].as_f64().is_some_and(|ours| ours > 0.0)));
    // The one figure that does not depend on the machine.
    let at_once = rows.iter().filter(|row| row["id"] == "C1");
    assert!(at_once.clone().count() == 2 && at_once.clone().all(|row| row["met"] == true));
}

#[test]
fn a_measure_that_does_not_exist_is_a_mistake() {
    let measured = Command::new(env!("CARGO_BIN_EXE_bench")).arg("L9").output().unwrap();
    assert_eq!(measured.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&measured.stderr).contains("L9"));
}
