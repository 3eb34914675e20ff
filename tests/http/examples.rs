//! docs/http.md says what is so: its commands are run and answer what stands below them.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::client::{address, house};
use crate::peer::Peer;

const HERE: &str = "http://127.0.0.1:8080";

/// The fenced blocks of a page: language and text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let fenced = page.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.split_once('\n')).collect()
}

/// Only what stays the same from one run to the next.
fn without_chances(mut json: Value) -> Value {
    for dialog in json["dialogs"].as_array_mut().into_iter().flatten() {
        for key in ["id", "call_id", "contact", "expires", "remaining_seconds", "last_seconds"] {
            assert!(!dialog[key].is_null(), "{key}");
            dialog[key] = Value::Null;
        }
    }
    json
}

#[test]
fn every_command_of_the_page_works_and_answers_what_stands_below_it() {
    let proxy = Peer::phones();
    let house = house(&proxy);
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    let door = format!("http://{}", address(&mwid));
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks = blocks(&page);
    let (mut run, mut compared) = (0, 0);
    for (index, (language, text)) in blocks.iter().enumerate() {
        if *language != "sh" {
            continue;
        }
        assert!(text.contains(HERE), "{text}");
        let mut shell = Command::new("sh");
        let done = shell.arg("-ec").arg(text.replace(HERE, &door)).output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success(), "{text}: {said}{}", String::from_utf8_lossy(&done.stderr));
        run += 1;
        // What the next command says depends on what the phone was told until then.
        mwid.settled();
        let Some((language, wanted)) = blocks.get(index + 1) else { continue };
        match *language {
            "json" => {
                let [said, wanted] = [&said, *wanted]
                    .map(|text| without_chances(serde_json::from_str(text).unwrap()));
                assert_eq!(said, wanted, "{text}");
            }
            "text" => assert_eq!(said.replace("\r\n", "\n"), *wanted, "{text}"),
            _ => continue,
        }
        compared += 1;
    }
    assert_eq!((run, compared), (6, 3), "they were found");
    proxy.shows("call", "2/5 (1/0)");
}
