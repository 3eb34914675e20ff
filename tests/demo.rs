//! `mwid demo`, as somebody sees mwid for the first time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_mwid"));
    let demo = demo.arg("demo").env("TMPDIR", temporary.path()).stdout(Stdio::piped());
    let mut demo = demo.spawn().unwrap();
    let mut drawn = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("mwid starts") {
        line.clear();
        assert_ne!(drawn.read_line(&mut line).unwrap(), 0, "it ended before it began");
    }
    let folders = || fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(folders(), 1);
    kill(Pid::from_raw(demo.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    drawn.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1), "{rest}");
    assert!(rest.contains("it was interrupted"), "{rest}");
    assert_eq!(folders(), 0);
}
