//! `mwid doctor`: something is broken for each of its checks, on real databases.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail, and tell why")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]

#[path = "../support/daemon.rs"]
#[allow(dead_code, reason = "made for all tests of the daemon")]
mod house;
#[path = "../support/peer.rs"]
#[allow(dead_code, reason = "made for all tests of the daemon")]
mod peer;
#[path = "../support/mod.rs"]
mod support;

mod database;
mod installation;
mod rows;
mod user;

use house::House;
use serde_json::Value;

/// What a run found.
#[derive(Debug)]
pub struct Seen {
    /// The exit code.
    pub code: i32,
    findings: Vec<Value>,
}

impl Seen {
    /// The findings of one check, each as level, text and remedy.
    pub fn of(&self, check: &str) -> Vec<(&str, &str, &str)> {
        let ours = self.findings.iter().filter(|it| it["check"] == check);
        let text = |it: &'_ Value, key: &str| it[key].as_str().map(str::len).is_some();
        ours.map(|it| {
            assert!(text(it, "level") && text(it, "text"), "{it}");
            (
                it["level"].as_str().unwrap(),
                it["text"].as_str().unwrap(),
                it["remedy"].as_str().unwrap_or_default(),
            )
        })
        .collect()
    }

    /// This check has a finding of this level with these words, and a remedy with those.
    #[track_caller]
    pub fn says(&self, check: &str, level: &str, words: &str, remedy: &str) {
        let found = self.of(check);
        let is_it = |(its_level, text, its_remedy): &(&str, &str, &str)| {
            *its_level == level && text.contains(words) && its_remedy.contains(remedy)
        };
        assert!(found.iter().any(is_it), "no {level} {check} {words:?} {remedy:?} in {found:#?}");
    }

    /// This check has nothing to say.
    #[track_caller]
    pub fn is_well(&self, check: &str) {
        let found = self.of(check);
        assert!(!found.is_empty() && found.iter().all(|it| it.0 == "ok"), "{check}: {found:#?}");
    }
}

/// Runs `mwid doctor`.
pub fn doctor(house: &House) -> Seen {
    doctor_with(house, &[])
}

/// With more arguments.
pub fn doctor_with(house: &House, arguments: &[&str]) -> Seen {
    let all: Vec<&str> =
        ["doctor", "--json"].into_iter().chain(arguments.iter().copied()).collect();
    let said = house.mwid(&all);
    assert_eq!(said.err, "", "{said:?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let worst = ["ok", "warning", "failed"].iter().position(|it| report["worst"] == **it).unwrap();
    assert_eq!(said.code, i32::try_from(worst).unwrap(), "{said:?}");
    Seen { code: said.code, findings: report["findings"].as_array().unwrap().clone() }
}
