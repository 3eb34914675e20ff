//! The whole life of a subscription.

use crate::bed::Bed;
use crate::phone::{Phone, counts, left, state};

#[test]
fn rfc6665_4_2_1_a_phone_subscribes_is_told_refreshes_and_unsubscribes() {
    let bed = Bed::new();
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    let first = phone.subscribe(600);
    assert_eq!(counts(&first), Some("2/1 (0/0)"));
    assert!((590..=600).contains(&left(&first)), "{first:?}");
    let target = format!("<sip:{}>", bed.address());
    assert_eq!(first.header("Contact"), Some(target.as_str()), "the agent's own");
    assert_eq!(first.header("Route"), None, "the phone is next to us");

    bed.house.messages("example.com/202", 3, 1);
    assert_eq!(counts(&phone.notify()), Some("3/1 (0/0)"));

    let refreshed = phone.subscribe(300);
    assert!((290..=300).contains(&left(&refreshed)), "the seconds that are left now");
    assert_eq!(counts(&refreshed), Some("3/1 (0/0)"));
    assert_eq!(bed.column("remote_cseq"), ["2"]);

    let answer = phone.ask("0", "");
    assert_eq!((answer.status(), answer.header("Expires")), (Some(200), Some("0")));
    let last = phone.notify();
    assert_eq!(state(&last), "terminated;reason=timeout");
    assert_eq!(counts(&last), Some("3/1 (0/0)"), "the state once more");
    mwid.until("its row is gone", |_| bed.house.rows() == 0);
    let gone = phone.ask("300", "");
    assert_eq!(gone.status(), Some(481), "the dialog has ended");
    bed.house.messages("example.com/202", 4, 1);
    mwid.settled();
    phone.assert_quiet();
    let status = mwid.status();
    assert_eq!(status["agent"]["begun"], 1);
    assert_eq!(status["agent"]["refreshed"], 1);
    assert_eq!(status["agent"]["ended"], 1);
}

/// The agent says itself what it wrote; the watch of the table only finds what others did.
#[test]
fn status_says_that_phones_of_the_agent_are_told_at_once() {
    let bed = Bed::new();
    let mwid = bed.start();
    mwid.until("the table was read", |status| status["watch"]["way"].is_string());
    let status = bed.house.mwid(&["status"]);
    assert!(
        status.out.contains("a phone that subscribes or refreshes is told at once"),
        "{status:?}"
    );
    for word in ["about 1 s", "better way", "triggers"] {
        assert!(!status.out.contains(word), "{word} in {}", status.out);
    }
    assert!(!mwid.logged().contains("triggers"), "{}", mwid.logged());
}

#[test]
fn rfc6665_4_4_3_a_fetch_is_answered_by_one_notify() {
    let bed = Bed::new();
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    let answer = phone.ask("0", "");
    assert_eq!((answer.status(), answer.header("Expires")), (Some(200), Some("0")));
    let only = phone.notify();
    assert_eq!(state(&only), "terminated;reason=timeout");
    assert_eq!(counts(&only), Some("2/1 (0/0)"));
    mwid.until("its row is gone", |_| bed.house.rows() == 0);
    bed.house.messages("example.com/202", 3, 1);
    mwid.settled();
    phone.assert_quiet();
}

#[test]
fn rfc6665_4_2_2_a_subscription_whose_time_is_over_is_told_so() {
    let bed = Bed::new();
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.subscribe(1);
    let last = phone.notify();
    assert_eq!(state(&last), "terminated;reason=timeout");
    mwid.until("its row is gone", |_| bed.house.rows() == 0);
    assert_eq!(phone.ask("60", "").status(), Some(481));
}

#[test]
fn rfc6665_4_2_1_2_an_account_that_no_source_knows_gets_an_empty_notify_and_the_truth_later() {
    let bed = Bed::new();
    let mwid = bed.start();
    let mut phone = bed.phone("207");
    let first = phone.subscribe(600);
    assert_eq!((counts(&first), first.body.as_str()), (None, ""));
    assert_eq!(first.header("Content-Length"), Some("0"));
    bed.house.messages("example.com/207", 1, 0);
    assert_eq!(counts(&phone.notify()), Some("1/0 (0/0)"));
    let mut stranger = bed.phone("208");
    stranger.ask("0", "");
    assert_eq!(state(&stranger.notify()), "terminated;reason=timeout");
    mwid.until("only the first is left", |_| bed.house.rows() == 1);
}

#[test]
fn rfc6665_4_1_3_drained_phones_are_told_to_subscribe_elsewhere_and_new_ones_are_refused() {
    let bed = Bed::new();
    let mwid = bed.start();
    let mut phones: Vec<_> = (0..3).map(|_| bed.phone("202")).collect();
    for phone in &mut phones {
        phone.subscribe(600);
    }
    let said = bed.house.mwid(&["drain"]);
    assert_eq!(said.code, 0, "{said:?}");
    for phone in &mut phones {
        assert_eq!(state(&phone.notify()), "terminated;reason=deactivated");
    }
    mwid.until("their rows are gone", |_| bed.house.rows() == 0);
    phones[0].reboot();
    let refused = phones[0].ask("600", "");
    assert_eq!((refused.status(), refused.header("Retry-After")), (Some(503), Some("60")));
    mwid.log("drained: every subscription was ended");
    let status = bed.house.mwid(&["status"]);
    assert!(status.out.contains("0 subscriptions"), "{status:?}");
    assert!(status.out.contains("drained: 3 were ended"), "{status:?}");
    assert_eq!(bed.house.mwid(&["drain", "--off"]).code, 0);
    phones[0].subscribe(600);
}

#[test]
fn without_an_agent_there_is_nothing_to_drain() {
    let peer = crate::peer::Peer::phones();
    let house = crate::house::House::new(&peer);
    let _mwid = house.start();
    let said = house.mwid(&["drain"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("[agent] listen is not set"), "{said:?}");
}

#[test]
fn rfc6665_8_2_1_several_phones_of_one_account_and_several_subscriptions_of_one_phone() {
    let bed = Bed::new();
    let mwid = bed.start();
    let mut desk = bed.phone("202");
    let mut home = bed.phone("202");
    home.event_id = Some("7".to_owned());
    desk.subscribe(600);
    home.subscribe(600);
    bed.house.messages("example.com/202", 5, 1);
    for phone in [&mut desk, &mut home] {
        assert_eq!(counts(&phone.notify()), Some("5/1 (0/0)"));
    }
    // Another id is another subscription, and there is none.
    let text = home.subscribe_text("0", "").replace(";id=7", ";id=8");
    home.send(&text);
    assert_eq!(home.response().status(), Some(481));
    desk.ask("0", "");
    assert_eq!(state(&desk.notify()), "terminated;reason=timeout");
    bed.house.messages("example.com/202", 6, 1);
    assert_eq!(counts(&home.notify()), Some("6/1 (0/0)"));
    mwid.settled();
    desk.assert_quiet();
}

#[test]
fn a_phone_that_started_again_is_told_at_once_and_its_old_subscription_ends_by_its_481() {
    let bed = Bed::new();
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.subscribe(600);
    phone.reboot();
    assert_eq!(counts(&phone.subscribe(600)), Some("2/1 (0/0)"));
    bed.house.messages("example.com/202", 7, 1);
    phone.notify_until("7 messages", |notify| counts(notify) == Some("7/1 (0/0)"));
    phone.attend_until("the old one is gone", || mwid.status()["counters"]["gone"] == 1);
    mwid.until("its row, too", |status| {
        bed.house.rows() == 1 && status["agent"]["subscriptions"] == 1
    });
    assert_eq!(bed.column("callid"), [phone.call_id]);
}

#[test]
fn at_the_bound_of_an_account_a_phone_that_started_again_takes_its_old_place() {
    let mut bed = Bed::new();
    bed.set("max_per_account", "2");
    let _mwid = bed.start();
    let (mut desk, mut home, mut more) = (bed.phone("202"), bed.phone("202"), bed.phone("202"));
    desk.subscribe(600);
    home.subscribe(600);
    let full = more.ask("600", "");
    assert_eq!((full.status(), full.header("Retry-After")), (Some(500), Some("60")));
    desk.reboot();
    desk.subscribe(600);
    assert_eq!(bed.column("callid"), [home.call_id, desk.call_id.clone()]);
    let mut other = bed.phone("203");
    other.subscribe(600);
}

#[test]
fn the_bound_of_all_is_kept_and_room_is_used_again() {
    let mut bed = Bed::new();
    bed.set("max_subscriptions", "2");
    let mwid = bed.start();
    let mut phones: Vec<_> = ["202", "203", "204"].iter().map(|user| bed.phone(user)).collect();
    phones[0].subscribe(600);
    phones[1].subscribe(600);
    assert_eq!(phones[2].ask("600", "").status(), Some(503));
    phones[0].ask("0", "");
    phones[0].notify();
    mwid.until("there is room", |_| bed.house.rows() == 1);
    phones[2].reboot();
    mwid.until("it is counted", |status| status["agent"]["subscriptions"] == 1);
    phones[2].subscribe(600);
}

#[test]
fn rfc3261_12_2_1_1_the_route_set_of_the_subscribe_is_the_way_of_the_notify() {
    let bed = Bed::new();
    let _mwid = bed.start();
    let mut phone = bed.phone("202");
    let routes = format!("<sip:{};lr>, <sip:192.0.2.2;lr>", phone.address());
    let answer = phone.ask("600", &format!("Record-Route: {routes}\r\n"));
    assert_eq!(answer.header("Record-Route"), Some(routes.as_str()));
    let notify = phone.notify();
    let headers = notify.headers.iter().filter(|(name, _)| name == "Route");
    let values: Vec<&str> = headers.map(|(_, value)| value.as_str()).collect();
    assert_eq!(values.join(", "), routes);
}

/// The phone has got another address (another DHCP lease, another NAT): its refresh says so.
#[test]
fn rfc3261_12_2_2_a_refresh_moves_the_remote_target_and_nothing_else_of_the_dialog() {
    let bed = Bed::new();
    let _mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.subscribe(600);
    let route = bed.column("record_route");
    phone.move_away();
    // A Record-Route in a dialog changes no route set (RFC 3261 §12.2).
    let answer = phone.ask("300", "Record-Route: <sip:192.0.2.2;lr>\r\n");
    assert_eq!(answer.status(), Some(200));
    let notify = phone.notify();
    assert!((290..=300).contains(&left(&notify)), "{notify:?}");
    assert_eq!((bed.column("contact"), bed.column("record_route")), (vec![phone.contact()], route));
    bed.house.messages("example.com/202", 8, 1);
    assert_eq!(counts(&phone.notify()), Some("8/1 (0/0)"), "and so it stays");
}

/// A refresh without Contact leaves the target as it is (RFC 3261 §12.2.1.1).
#[test]
fn rfc3261_12_2_1_1_a_refresh_without_contact_keeps_the_remote_target() {
    let bed = Bed::new();
    let _mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.subscribe(600);
    let contact = format!("Contact: <{}>\r\n", phone.contact());
    let text = phone.subscribe_text("300", "").replace(&contact, "");
    phone.send(&text);
    assert_eq!(phone.response().status(), Some(200));
    assert!((290..=300).contains(&left(&phone.notify())));
    assert_eq!(bed.column("contact"), [phone.contact()]);
}

#[test]
fn rfc3261_17_2_2_a_copy_of_a_subscribe_gets_the_same_answer_and_makes_no_second_dialog() {
    let bed = Bed::new();
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    let text = phone.subscribe_text("600", "");
    phone.send(&text);
    let first = phone.response();
    phone.dialog = Some((first.parameter("To", "tag").unwrap().to_owned(), String::new()));
    phone.notify();
    mwid.settled();
    phone.send(&text);
    assert_eq!(phone.response(), first);
    assert_eq!(bed.house.rows(), 1);
    // By another way, or after our restart: another branch, the same request.
    let elsewhere = text.replace("z9hG4bKp", "z9hG4bKq");
    phone.send(&elsewhere);
    let second = phone.response();
    assert_eq!(second.parameter("To", "tag"), first.parameter("To", "tag"));
    assert_eq!(bed.house.rows(), 1);
}

/// A cheap adapter begins with the same Call-ID, tag and CSeq each time it gets power.
#[test]
fn a_phone_that_begins_again_with_the_same_names_is_told_again() {
    let bed = Bed::new();
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    let again = |phone: &mut Phone| {
        (phone.cseq, phone.dialog) = (0, None);
    };
    phone.subscribe(600);
    phone.ask("0", "");
    assert_eq!(state(&phone.notify()), "terminated;reason=timeout");
    again(&mut phone);
    let first = phone.subscribe(600);
    assert!((590..=600).contains(&left(&first)), "after an unsubscribe: {first:?}");
    phone.subscribe(300);
    again(&mut phone);
    let first = phone.subscribe(600);
    assert!((590..=600).contains(&left(&first)), "in the middle of one: {first:?}");
    phone.subscribe(60);
    assert_eq!(bed.column("remote_cseq"), ["2"], "and its refreshes are taken");
    again(&mut phone);
    phone.ask("0", "");
    assert_eq!(state(&phone.notify()), "terminated;reason=timeout", "only to fetch");
    mwid.until("its row is gone", |_| bed.house.rows() == 0);
}

#[test]
fn what_is_shared_and_ones_own_box_may_be_watched_and_nothing_else() {
    let mut bed = Bed::new();
    bed.house.set("watch", "sales@example.com", "202@example.com, 203@example.com");
    bed.house.messages("example.com/sales", 9, 0);
    let _mwid = bed.start();
    let mut phone = bed.phone("202");
    phone.account = "sip:sales@example.com".to_owned();
    assert_eq!(counts(&phone.subscribe(600)), Some("9/0 (0/0)"));
    let mut own = bed.phone("202");
    own.account = "sip:*97@example.com".to_owned();
    assert_eq!(counts(&own.subscribe(600)), Some("2/1 (0/0)"));
    let mut curious = bed.phone("204");
    for account in ["sip:sales@example.com", "sip:202@example.com", "sip:204@example.org"] {
        curious.account = account.to_owned();
        assert_eq!(curious.ask("600", "").status(), Some(403), "{account}");
    }
}
