//! `pua_publish`, over each transport of OpenSIPS's management interface, against a fake of it.

use std::time::Duration;

use mwid::delivery::Published;
use mwid::delivery::opensips_mi::OpensipsMi;
use mwid_core::publication::{ETag, Outcome, Way, Wish};
use mwid_core::summary::Summary;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::support::http::{HttpDouble, Say};
use crate::support::opensips_mi::OpenSips;
use crate::{Runtime, accepted, config, new, order};

struct Agent {
    runtime: Runtime,
    client: OpensipsMi,
}

impl Agent {
    fn at(url: &str, more: &str) -> Self {
        let config = config(&format!("[opensips-mi]\nurl = {url}\n{more}\n"));
        let runtime = Runtime::new();
        let client = runtime.wait(async { OpensipsMi::new(&config.opensips_mi, None) });
        Self { runtime, client: client.unwrap().unwrap() }
    }

    fn deliver(&self, wish: Wish, etag: Option<ETag>) -> Published {
        self.runtime.wait(self.client.deliver(&order(Way::OpensipsMi, wish, etag)))
    }
}

/// All that one publication goes through, whatever carries it.
fn a_publication_is_made_changed_renewed_and_removed(opensips: &OpenSips, agent: &Agent) {
    let (first, expires) = accepted(&agent.deliver(new(1), None));
    assert_eq!(expires, Some(Duration::from_secs(61)), "a new state is on trial");
    let body = "Messages-Waiting: yes\r\nMessage-Account: sip:202@example.com\r\nVoice-Message: 1/0 (0/0)\r\n";
    let [document] = &opensips.documents()[..] else { panic!("one document") };
    assert_eq!((document.account.as_str(), document.body.as_str()), ("sip:202@example.com", body));

    let (second, _) = accepted(&agent.deliver(new(2), first.clone()));
    assert_ne!(first, second);
    let renewed = Wish::Refresh(Summary { new: 2, ..Summary::default() });
    let (third, expires) = accepted(&agent.deliver(renewed, second));
    assert_eq!(expires, Some(Duration::from_secs(3601)));
    let [document] = &opensips.documents()[..] else { panic!("one document") };
    assert!(document.body.ends_with("Voice-Message: 2/0 (0/0)\r\n"));

    let gone = agent.deliver(Wish::Remove, third);
    assert_eq!(accepted(&gone), (None, None));
    assert_eq!(opensips.documents(), []);
}

#[test]
fn over_http() {
    let opensips = OpenSips::new();
    let http = opensips.over_http();
    let agent = Agent::at(&format!("{}/mi", http.url()), "");
    a_publication_is_made_changed_renewed_and_removed(&opensips, &agent);
    let asked = http.asked();
    assert!(!asked[0].body.contains("etag"), "absent, and not \".\": {}", asked[0].body);
    assert!(asked.iter().all(|asked| asked.connection == 1), "one connection serves all");
}

#[test]
fn over_a_fifo() {
    let folder = TempDir::with_prefix("mwid-mi-").unwrap();
    let replies = TempDir::with_prefix("mwid-replies-").unwrap();
    let opensips = OpenSips::new();
    opensips.over_fifo(&folder.path().join("fifo"), replies.path());
    let url = format!("fifo:{}/fifo", folder.path().display());
    let agent = Agent::at(&url, &format!("reply_folder = {}", replies.path().display()));
    a_publication_is_made_changed_renewed_and_removed(&opensips, &agent);
    assert_eq!(replies.path().read_dir().unwrap().count(), 0, "reply FIFOs go again");
}

#[test]
fn over_udp() {
    let opensips = OpenSips::new();
    let agent = Agent::at(&format!("udp:{}", opensips.over_udp()), "");
    a_publication_is_made_changed_renewed_and_removed(&opensips, &agent);
}

#[test]
fn over_a_unix_socket() {
    let folder = TempDir::with_prefix("mwid-mi-").unwrap();
    let opensips = OpenSips::new();
    opensips.over_unix(&folder.path().join("mi.sock"));
    let url = format!("unixgram:{}/mi.sock", folder.path().display());
    let agent = Agent::at(&url, &format!("reply_folder = {}", folder.path().display()));
    a_publication_is_made_changed_renewed_and_removed(&opensips, &agent);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "its own socket alone");
}

/// All that its document lists, by name; what is left out is absent.
#[test]
fn every_parameter_of_the_document_is_given_by_its_name() {
    let opensips = OpenSips::new();
    let http = opensips.over_http();
    let url = format!("{}/mi", http.url());
    let agent = Agent::at(&url, "expires = 7200\nextra_headers = P-Flags: 0 | X-Site: 7");
    let (etag, _) = accepted(&agent.deliver(new(1), None));
    let renewed = Wish::Refresh(Summary { new: 1, ..Summary::default() });
    accepted(&agent.deliver(renewed, etag.clone()));
    let calls: Vec<Json> =
        http.asked().iter().map(|it| serde_json::from_str(&it.body).unwrap()).collect();
    let mut params = json!({
        "presentity_uri": "sip:202@example.com",
        "expires": 60,
        "event_package": "message-summary",
        "content_type": "application/simple-message-summary",
        "extra_headers": "P-Flags: 0\r\nX-Site: 7\r\n",
        "body": "Messages-Waiting: yes\r\nMessage-Account: sip:202@example.com\r\nVoice-Message: 1/0 (0/0)\r\n",
    });
    assert_eq!((&calls[0]["method"], &calls[0]["params"]), (&json!("pua_publish"), &params));
    params["expires"] = json!(7200);
    params["etag"] = json!(etag.unwrap().as_str());
    assert_eq!(calls[1]["params"], params);
}

#[test]
fn an_opensips_that_forgot_its_tags_gets_no_second_document() {
    for lines in [false, true] {
        let opensips = OpenSips::new();
        let http = opensips.over_http();
        let udp = opensips.over_udp();
        let url = if lines { format!("udp:{udp}") } else { format!("{}/mi", http.url()) };
        let agent = Agent::at(&url, "extra_headers = P-Flags: 0");
        let (etag, _) = accepted(&agent.deliver(new(1), None));
        opensips.forget_tags();
        let (etag, _) = accepted(&agent.deliver(new(2), etag));
        let [document] = &opensips.documents()[..] else { panic!("one document") };
        assert!(document.body.ends_with("Voice-Message: 2/0 (0/0)\r\n"));
        opensips.forget_tags();
        accepted(&agent.deliver(Wish::Remove, etag));
        assert_eq!(opensips.documents(), []);
    }
}

#[test]
fn what_nobody_knows_any_more_is_stale() {
    let opensips = OpenSips::new();
    let http = opensips.over_http();
    let agent = Agent::at(&format!("{}/mi", http.url()), "");
    let (etag, _) = accepted(&agent.deliver(new(1), None));
    opensips.forget_documents();
    assert_eq!(agent.deliver(new(2), etag.clone()).outcome, Outcome::Stale);
    opensips.forget_tags();
    assert_eq!(agent.deliver(new(2), etag.clone()).outcome, Outcome::Stale);
    assert_eq!(agent.deliver(Wish::Remove, etag).outcome, Outcome::Stale);
    assert_eq!(opensips.documents(), []);
    accepted(&agent.deliver(new(2), None));
    assert_eq!(opensips.documents().len(), 1);
}

#[test]
fn what_the_presence_server_refuses_is_tried_again_later_and_said() {
    let opensips = OpenSips::new();
    let (http, udp) = (opensips.over_http(), opensips.over_udp());
    opensips.presence_server_says("489 Bad Event");
    for url in [format!("{}/mi", http.url()), format!("udp:{udp}")] {
        let published = Agent::at(&url, "").deliver(new(1), None);
        assert_eq!(published.outcome, Outcome::Later(None));
        assert_eq!(published.answer, "the presence server says 489 Bad Event");
    }
}

#[test]
fn a_presence_server_that_wants_more_than_the_trial_is_asked_for_the_full_time() {
    let server = HttpDouble::start(|asked| {
        let call: Json = serde_json::from_str(&asked.body).unwrap();
        let result = match call["params"]["expires"].as_u64() {
            Some(expires) if expires >= 300 => {
                json!({ "reply": "200 OK", "ETag": "a.1", "Expires": expires })
            }
            _ => json!({ "reply": "423 Interval Too Brief" }),
        };
        let answer = json!({ "jsonrpc": "2.0", "id": call["id"], "result": result });
        Say::Answer(200, "application/json", answer.to_string())
    });
    let agent = Agent::at(&format!("{}/mi", server.url()), "expires = 600");
    let refused = agent.deliver(new(1), None);
    assert_eq!(refused.outcome, Outcome::Again, "{refused:?}");
    let (_, expires) = accepted(&agent.deliver(new(1), None));
    assert_eq!(expires, Some(Duration::from_secs(600)));
    let agent = Agent::at(&format!("{}/mi", server.url()), "expires = 200");
    assert_eq!(agent.deliver(new(1), None).outcome, Outcome::Again);
    let refused = agent.deliver(new(1), None);
    assert_eq!(refused.outcome, Outcome::Later(None), "{refused:?}");
}
