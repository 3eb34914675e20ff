//! Several mwid on one database: each may be told and asked, one tells the phones.

use crate::client::{Response, address, ask, house};
use crate::house::{House, Mwid};
use crate::peer::Peer;

fn node(proxy: &Peer, name: &str, database: &str) -> House {
    let mut house = house(proxy);
    house.set("spool", "enabled", "yes");
    house.set("spool", "scope", "own");
    house.set("cluster", "node", name);
    house.set("cluster", "poll", "20");
    house.set("database", "url", database);
    house
}

fn resend(mwid: &Mwid, user: u32) -> Response {
    ask(address(mwid), "POST", &format!("/v1/accounts/{user}@example.com/resend"), "")
}

#[test]
fn counts_given_to_one_are_told_by_the_owner_who_alone_can_be_asked_to_resend() {
    let proxy = Peer::phones();
    let base = house(&proxy);
    let database = format!("sqlite:{}", base.path("dialogs.db").display());
    let houses = [node(&proxy, "vm1", &database), node(&proxy, "vm2", &database)];
    assert_eq!(houses[0].mwid(&["sql", "--apply"]).code, 0);
    for user in 200..208 {
        base.subscribe(&proxy, &user.to_string(), &format!("call-{user}"));
    }
    let nodes = houses.each_ref().map(House::start);
    for node in &nodes {
        node.until("both", |status| status["cluster"]["live"].as_array().map(Vec::len) == Some(2));
    }
    for user in 200..208 {
        let target = format!("/v1/accounts/{user}@example.com/summary");
        let body = format!(r#"{{"new": {user}, "old": 0}}"#);
        assert_eq!(ask(address(&nodes[0]), "PUT", &target, body).status, 204);
    }
    for user in 200..208 {
        proxy.shows(&format!("call-{user}"), &format!("{user}/0 (0/0)"));
        let target = format!("/cgi/voicemail.cgi?identity={user}@example.com&format=2.4");
        nodes[1].until("known", |_| {
            let body = ask(address(&nodes[1]), "GET", &target, "").body;
            body.contains(&format!("Voice-Message: {user}/0"))
        });
        let mut answers = nodes.each_ref().map(|node| resend(node, user));
        answers.sort_by_key(|answer| answer.status);
        assert_eq!(answers[0].status, 202, "{answers:?}");
        answers[1].refused(409, "@example.com is told by vm");
    }
}
