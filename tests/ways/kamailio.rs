//! `pua.publish` of the real Kamailio, by JSON-RPC and by XML-RPC, with real phones.

use std::process::Command;
use std::time::Duration;

use mwid::delivery::Published;
use mwid::delivery::kamailio_rpc::KamailioRpc;
use mwid_core::publication::{ETag, Order, Outcome, Way, Wish};
use mwid_core::summary::Summary;
use serde_json::{Value as Json, json};

use crate::support::http::{HttpDouble, Say};
use crate::support::kamailio::{self, Kamailio};
use crate::support::phone::Phone;
use crate::support::process::program;
use crate::support::tables::Tables;
use crate::support::{SOON, wait_for};
use crate::{Runtime, accepted, config, new, order};

struct Agent {
    runtime: Runtime,
    client: KamailioRpc,
}

impl Agent {
    fn of(kamailio: &Kamailio, format: &str) -> Self {
        let path = if format == "xml" { "RPC2" } else { "RPC" };
        let config = config(&format!(
            "[kamailio-rpc]\nurl = {}/{path}\nformat = {format}\noutbound_proxy = sip:{}\n\
             extra_headers = P-Flags: 0 & <1>\n",
            kamailio.rpc(),
            kamailio.address()
        ));
        let runtime = Runtime::new();
        let client = runtime.wait(async { KamailioRpc::new(&config.kamailio_rpc, None) });
        Self { runtime, client: client.unwrap().unwrap() }
    }

    fn deliver(&self, order: &Order) -> Published {
        self.runtime.wait(self.client.deliver(order))
    }

    fn publish(&self, wish: Wish, etag: Option<ETag>) -> Option<ETag> {
        accepted(&self.deliver(&order(Way::KamailioRpc, wish, etag))).0
    }
}

/// Waits until these accounts have a published state, each in one row: Kamailio answers a little
/// before it commits.
fn wait_for_rows(tables: &Tables, accounts: &[&str]) {
    wait_for(&format!("rows of {accounts:?}"), SOON, || {
        let rows = tables.sql(
            "SELECT CONCAT(username, '@', domain) AS account FROM presentity ORDER BY account;",
        );
        rows.lines().eq(accounts.iter().copied()).then_some(())
    });
}

fn on_mariadb() -> (Tables, Kamailio) {
    let tables = Tables::on_mariadb();
    let kamailio = kamailio::Setup::on(&tables).with_rpc().start();
    (tables, kamailio)
}

#[test]
fn a_state_is_published_changed_renewed_and_removed_by_json() {
    a_state_is_published_changed_renewed_and_removed("json");
}

#[test]
fn a_state_is_published_changed_renewed_and_removed_by_xml() {
    a_state_is_published_changed_renewed_and_removed("xml");
}

fn a_state_is_published_changed_renewed_and_removed(format: &str) {
    let (tables, kamailio) = on_mariadb();
    let agent = Agent::of(&kamailio, format);
    let early = Phone::subscribe(&kamailio, "202", "example.com");

    let etag = agent.publish(new(1), None);
    let lit = early.wait_for_lamp("1/0 (0/0)", SOON);
    assert_eq!(
        lit.body,
        "Messages-Waiting: yes\r\nMessage-Account: sip:202@example.com\r\nVoice-Message: 1/0 (0/0)\r\n"
    );
    wait_for_rows(&tables, &["202@example.com"]);
    let late = Phone::subscribe(&kamailio, "202", "example.com");
    assert_eq!(late.notifies()[0].summary_line("Voice-Message"), Some("1/0 (0/0)"));

    let etag = agent.publish(new(2), etag);
    early.wait_for_lamp("2/0 (0/0)", SOON);
    let renewed = Wish::Refresh(Summary { new: 2, ..Summary::default() });
    let published = agent.deliver(&order(Way::KamailioRpc, renewed, etag));
    let (etag, expires) = accepted(&published);
    assert_eq!(expires, Some(Duration::from_secs(3601)), "Kamailio's pua adds a second");
    wait_for_rows(&tables, &["202@example.com"]);

    assert_eq!(agent.publish(Wish::Remove, etag), None);
    wait_for_rows(&tables, &[]);
    let dark = Phone::subscribe(&kamailio, "202", "example.com");
    assert_eq!(dark.notifies()[0].body, "");
}

#[test]
fn one_row_after_100_changes_restarts_and_lost_memories() {
    let (tables, mut kamailio) = on_mariadb();
    let mut etag = None;
    for change in 1..=100 {
        // What format, and whether mwid has just been started, makes no difference.
        let agent = Agent::of(&kamailio, if change % 2 == 0 { "json" } else { "xml" });
        match change {
            20 | 70 => {
                kamailio.stop();
                kamailio.start();
            }
            // As with db_mode 0, or another Kamailio: pua knows nothing any more.
            40 => assert_eq!(tables.sql("DELETE FROM pua;"), ""),
            // Another mwid of the platform, which has no tag.
            60 => etag = None,
            // A tag of before: Kamailio's pua renewed it by itself.
            80 => etag = Some(ETag::new("a.1.1.1.1").unwrap()),
            _ => {}
        }
        etag = agent.publish(new(change), etag);
        wait_for_rows(&tables, &["202@example.com"]);
    }
    wait_for("the last change", SOON, || {
        tables.sql("SELECT body FROM presentity;").contains("Voice-Message: 100/0 ").then_some(())
    });
    let phone = Phone::subscribe(&kamailio, "202", "example.com");
    assert_eq!(phone.notifies()[0].summary_line("Voice-Message"), Some("100/0 (0/0)"));
    assert_eq!(tables.sql("DELETE FROM pua;"), "");
    assert_eq!(Agent::of(&kamailio, "json").publish(Wish::Remove, etag), None);
    // Though pua had forgotten it.
    wait_for_rows(&tables, &[]);
}

/// All that its document lists, in its order; `.` stands for what is left out.
#[test]
fn every_parameter_of_the_document_is_given_in_its_place() {
    let double = HttpDouble::start(|asked| {
        let call: Json = serde_json::from_str(&asked.body).unwrap();
        let result = json!({ "SIP-ETag": "a.1.2.3", "Expires": 3600 });
        let answer = json!({ "jsonrpc": "2.0", "result": result, "id": call["id"] });
        Say::Answer(200, "application/json", answer.to_string())
    });
    let params = |more: &str, etag| {
        let config = config(&format!("[kamailio-rpc]\nurl = {}/RPC\n{more}", double.url()));
        accepted(&Runtime::new().wait(async {
            let client = KamailioRpc::new(&config.kamailio_rpc, None).unwrap().unwrap();
            client.deliver(&order(Way::KamailioRpc, new(1), etag)).await
        }));
        let call: Json = serde_json::from_str(&double.asked().last().unwrap().body).unwrap();
        assert_eq!(call["method"], "pua.publish");
        call["params"].clone()
    };
    let (event, kind) = ("message-summary", "application/simple-message-summary");
    let body = "Messages-Waiting: yes\r\nMessage-Account: sip:202@example.com\r\nVoice-Message: 1/0 (0/0)\r\n";
    assert_eq!(
        params("", None),
        json!([
            "sip:202@example.com",
            "3600",
            event,
            kind,
            "mwid-202@example.com",
            ".",
            ".",
            ".",
            body
        ])
    );
    let more = "expires = 7200\nid = vm1\noutbound_proxy = sip:127.0.0.1:5080;transport=tcp\n\
                extra_headers = P-Flags: 0 | X-Site: 7";
    let (proxy, headers) = ("sip:127.0.0.1:5080;transport=tcp", "P-Flags: 0\r\nX-Site: 7\r\n");
    assert_eq!(
        params(more, ETag::new("a.1").ok()),
        json!([
            "sip:202@example.com",
            "7200",
            event,
            kind,
            "vm1-202@example.com",
            "a.1",
            proxy,
            headers,
            body
        ])
    );
}

#[test]
fn accounts_do_not_touch_each_other() {
    let (tables, kamailio) = on_mariadb();
    let agent = Agent::of(&kamailio, "json");
    let other = |wish| {
        let account = "203@example.com".parse().unwrap();
        Order { account, ..order(Way::KamailioRpc, wish, None) }
    };
    let etag = agent.publish(new(1), None);
    // Nothing of it is there to be removed, nor is anything of another account.
    accepted(&agent.deliver(&other(Wish::Remove)));
    // Kamailio's pua answers before it has forgotten, and would change what is gone.
    wait_for("only 202 in pua", SOON, || {
        (tables.sql("SELECT pres_uri FROM pua;").trim() == "sip:202@example.com").then_some(())
    });
    accepted(&agent.deliver(&other(new(7))));
    agent.publish(new(2), etag);
    wait_for_rows(&tables, &["202@example.com", "203@example.com"]);
}

#[test]
fn a_tag_that_the_presence_server_forgot_is_stale() {
    let (tables, kamailio) = on_mariadb();
    let agents = ["json", "xml"].map(|format| Agent::of(&kamailio, format));
    for agent in &agents {
        let etag = agent.publish(new(1), None);
        assert_eq!(tables.sql("DELETE FROM presentity;"), "");
        let stale = agent.deliver(&order(Way::KamailioRpc, new(2), etag.clone()));
        assert_eq!(stale.outcome, Outcome::Stale, "{stale:?}");
        let removed = agent.deliver(&order(Way::KamailioRpc, Wish::Remove, etag));
        assert_eq!(removed.outcome, Outcome::Stale, "{removed:?}");
        agent.publish(new(2), None);
        wait_for_rows(&tables, &["202@example.com"]);
        assert_eq!(tables.sql("DELETE FROM presentity; DELETE FROM pua;"), "");
    }
}

#[test]
fn a_method_that_is_not_there_is_said() {
    let (_tables, kamailio) = on_mariadb();
    for (path, format) in [("RPC2", "json"), ("RPC", "xml"), ("other", "json")] {
        let text = format!(
            "[kamailio-rpc]\nurl = {}/{path}\nformat = {format}\ntimeout = 2",
            kamailio.rpc()
        );
        let config = config(&text);
        let published = Runtime::new().wait(async {
            let client = KamailioRpc::new(&config.kamailio_rpc, None).unwrap().unwrap();
            client.deliver(&order(Way::KamailioRpc, new(1), None)).await
        });
        assert_eq!(published.outcome, Outcome::Later(None), "{published:?}");
        assert!(!published.answer.is_empty());
    }
}

#[test]
fn nobody_but_the_media_servers_may_ask() {
    let (_tables, kamailio) = on_mariadb();
    let json = r#"{"jsonrpc":"2.0","id":1,"method":"core.version"}"#;
    let xml = "<?xml version=\"1.0\"?><methodCall><methodName>core.version</methodName>\
               <params></params></methodCall>";
    for (path, body, kind) in [("RPC", json, "application/json"), ("RPC2", xml, "text/xml")] {
        // 127.0.0.2 is this machine too, but none of MWID_SERVERS.
        let ask = |from: &str| {
            let mut curl = Command::new(program(&["curl"], "curl"));
            curl.args(["-s", "-w", " %{http_code}", "--noproxy", "*", "--interface", from]);
            curl.args(["-H", &format!("Content-Type: {kind}"), "-d", body]);
            let output = curl.arg(format!("{}/{path}", kamailio.rpc())).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let (served, refused) = (ask("127.0.0.1"), ask("127.0.0.2"));
        assert!(served.contains("kamailio") && served.ends_with(" 200"), "{path}: {served}");
        assert!(!refused.contains("kamailio"), "{path}: {refused}");
        // xmlrpc_reply() of Kamailio 5.6 answers a bare 1, whatever code it is given.
        let words = if path == "RPC" { "Not a media server" } else { "<int>1</int>" };
        assert!(refused.contains(words), "{path}: {refused}");
    }
}
