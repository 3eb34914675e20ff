//! `mwid watch`.

use std::io::{BufRead, BufReader, Lines, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::house::{House, MWID};
use crate::peer::Peer;
use crate::proxies::nobody;

/// A running `mwid watch`, with a pipe for its words.
struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(house: &House, arguments: &[&str]) -> Self {
        let mut command = Command::new(MWID);
        command.arg("--config").arg(house.config()).arg("watch").args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    /// The next line of this kind.
    fn next(&mut self, kind: &str) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.line()).unwrap();
            if line["type"] == kind {
                return line;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn counts(new: u32) -> Value {
    json!({ "newcount": new, "oldcount": 0, "newurgent": 0, "oldurgent": 0 })
}

#[test]
fn a_change_its_notify_and_the_answer_are_told_as_they_happen() {
    let proxy = Peer::phones();
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    let mwid = house.start();
    mwid.settled();
    let mut watch = Watch::start(&house, &["--json"]);
    let begins: Value = serde_json::from_str(&watch.line()).unwrap();
    assert_eq!(begins, json!({ "watching": null, "ways": ["notify"] }));
    let mut plain = Watch::start(&house, &[]);
    assert!(plain.line().starts_with("Watching everything: "));
    house.messages("example.com/202", 3, 0);

    let change = watch.next("change");
    assert_eq!(change["account"], "sip:202@example.com");
    assert_eq!(
        (&change["mailbox"], &change["source"]),
        (&json!("202@example.com"), &json!("spool"))
    );
    let answered = loop {
        let notify = watch.next("notify");
        let answer = watch.next("answer");
        assert_eq!((&notify["call_id"], &answer["call_id"]), (&json!("call"), &json!("call")));
        assert_eq!((&notify["cseq"], &notify["counts"]), (&answer["cseq"], &answer["counts"]));
        if answer["counts"] == counts(3) {
            break answer;
        }
    };
    assert_eq!(
        (&answered["verdict"], &answered["answer"]),
        (&json!("delivered"), &json!("200 OK"))
    );
    assert!(answered["milliseconds"].as_f64() > Some(0.0) && answered["time"].as_f64() > Some(1e9));

    let mut seen = String::new();
    while !seen.contains("200 OK from sip:202@127.0.0.1:") {
        seen.push_str(&plain.line());
        seen.push('\n');
    }
    for words in [
        "  202@example.com           spool         202@example.com holds ",
        "  NOTIFY 2      ",
        " ms\n",
    ] {
        assert!(seen.contains(words), "no {words:?} in {seen}");
    }
    assert!(!seen.contains('\r') && !seen.contains('\u{1b}'), "a pipe gets plain lines: {seen:?}");
}

#[test]
fn what_the_proxy_does_is_no_answer_from_the_phone() {
    let (phone, (_held, dead)) = (Peer::phones(), nobody());
    let mut house = House::new(&phone);
    house.set("general", "proxy", &dead);
    house.subscribe(&phone, "202", "call");
    let mwid = house.start();
    let mut watch = Watch::start(&house, &["202", "example.com"]);
    assert!(watch.line().starts_with("Watching 202@example.com"));
    house.messages("example.com/202", 1, 0);
    mwid.log("does not listen at");
    let line = loop {
        let line = watch.line();
        if line.contains(" answer ") {
            break line;
        }
    };
    assert!(line.contains(&format!("{dead} does not listen (ICMP) for sip:202@")), "{line}");
}

#[test]
fn one_account_is_watched_alone_and_a_daemon_that_stops_ends_it() {
    let proxy = Peer::says(486);
    let house = House::new(&proxy);
    house.subscribe(&proxy, "202", "call");
    house.subscribe(&proxy, "203", "other");
    let mwid = house.start();
    mwid.settled();
    let mut watch = Watch::start(&house, &["202", "example.com", "--json"]);
    let begins: Value = serde_json::from_str(&watch.line()).unwrap();
    assert_eq!(begins["watching"], "sip:202@example.com");
    house.messages("example.com/203", 1, 0);
    mwid.until("told", |status| status["counters"]["retried"].as_u64() >= Some(1));
    assert_eq!(house.externnotify(&["example.com", "202", "2", "0", "0"]).code, 0);
    let change = watch.next("change");
    assert_eq!(
        (&change["account"], &change["source"], &change["counts"]),
        (&json!("sip:202@example.com"), &json!("externnotify"), &counts(2))
    );
    let answer = watch.next("answer");
    assert_eq!(
        (&answer["account"], &answer["verdict"]),
        (&json!("sip:202@example.com"), &json!("again"))
    );
    assert!(mwid.stop().success());
    let mut rest = String::new();
    for line in watch.lines.by_ref() {
        rest.push_str(&line.unwrap());
    }
    assert!(!rest.contains("203@example.com"), "{rest}");
    assert_eq!(watch.child.wait().unwrap().code(), Some(3));
    let mut said = String::new();
    watch.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.starts_with("mwid: mwid has stopped, or was restarted: "), "{said}");
}

#[test]
fn a_start_says_how_far_it_is() {
    // Nobody answers: all of them stay on their way.
    let proxy = Peer::silent();
    let house = House::new(&proxy);
    let mwid = house.start();
    mwid.settled();
    let mut watch = Watch::start(&house, &["--json"]);
    for number in 0..40 {
        let user = number.to_string();
        house.subscribe(&proxy, &user, &user);
        assert_eq!(house.externnotify(&["example.com", &user, "1", "0", "0"]).code, 0);
    }
    let progress = loop {
        let progress = watch.next("progress");
        if progress["phones"] == 40 {
            break progress;
        }
    };
    assert_eq!((&progress["mailboxes"], &progress["accounts"]), (&json!(40), &json!(40)));
    assert!(progress["waiting"].as_u64() > Some(10), "{progress}");
}

#[test]
fn who_may_not_watch_is_told_why_and_one_that_went_away_makes_room() {
    let proxy = Peer::silent();
    let house = House::new(&proxy);
    let _mwid = house.start();
    let said = house.mwid(&["watch", "a b", "example.com"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("\"a b\" contains ' '"), "{said:?}");
    assert_eq!(house.mwid(&["watch", "202"]).code, 2);
    let mut watches: Vec<Watch> = (0..16).map(|_| Watch::start(&house, &[])).collect();
    watches.iter_mut().for_each(|watch| assert!(watch.line().starts_with("Watching ")));
    let said = house.mwid(&["watch"]);
    assert_eq!((said.code, said.out.as_str()), (1, "too many watch already; end one of them\n"));
    watches.pop();
    // The daemon sees that it went away when it comes to it.
    let mut again = loop {
        let mut watch = Watch::start(&house, &[]);
        let line = watch.line();
        if line.starts_with("Watching ") {
            break watch;
        }
        assert!(line.starts_with("too many watch"), "{line}");
    };
    assert!(again.child.try_wait().unwrap().is_none());
}
