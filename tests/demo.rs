//! `mwid demo`, as somebody sees mwid for the first time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::process::{Command, Output};

use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_mwid")).arg("demo").args(arguments).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    output
}

#[test]
fn the_demo_ends_with_the_truth_and_draws_how() {
    let drawn = String::from_utf8(demo(&[]).stdout).unwrap();
    for part in ["lost on its way, on purpose", "(*) lamp ON", "Voice-Message: 0/1 (0/0)"] {
        assert!(drawn.contains(part), "{part} is not in {drawn}");
    }
    assert!(drawn.ends_with("The phone shows the truth.\n\n"), "{drawn}");
    assert!(!drawn.contains('\x1b'), "colours are for terminals");
}

#[test]
fn the_demo_in_json_has_a_step_for_each_thing_that_happened() {
    let data: Value = serde_json::from_slice(&demo(&["--json"]).stdout).unwrap();
    assert_eq!(data["ok"], true);
    let steps: Vec<_> = data["steps"].as_array().unwrap().iter().collect();
    let told = |step: &Value| {
        let text = |key: &str| step[key].as_str().unwrap().to_owned();
        assert!(step["milliseconds"].is_u64());
        let lost = step["copies_lost"].as_u64().unwrap();
        (text("step"), step["lamp"].as_bool().unwrap(), text("voice_message"), lost)
    };
    let expected = [
        ("start", false, "0/0 (0/0)", 0),
        ("message left", true, "1/0 (0/0)", 1),
        ("message heard", false, "0/1 (0/0)", 0),
    ];
    let expected =
        expected.map(|(step, lamp, shown, lost)| (step.into(), lamp, shown.into(), lost));
    assert_eq!(steps.into_iter().map(told).collect::<Vec<_>>(), expected);
}
