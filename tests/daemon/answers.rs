//! What mwid does about each answer, over real UDP.

use std::time::Duration;

use serde_json::Value;

use crate::house::{House, Mwid};
use crate::peer::{Heard, Peer};

/// A phone of 202 with a message; the proxy answers as it likes.
fn house(proxy: &Peer) -> House {
    let house = House::new(proxy);
    house.subscribe(proxy, "202", "call");
    house.messages("example.com/202", 1, 0);
    house
}

/// The phone refreshes: the server raises the CSeq of the SUBSCRIBE and the end.
fn refresh(house: &House) {
    house.sql("UPDATE active_watchers SET remote_cseq = remote_cseq + 1, expires = expires + 60");
}

fn nothing_left_to_do(mwid: &Mwid) -> Value {
    let status = mwid.settled();
    assert_eq!(status["lamps"]["waiting"], 0, "{status:#}");
    status
}

#[test]
fn rfc6665_4_2_2_a_subscription_that_is_gone_is_left_alone_until_its_row_changes() {
    for code in [404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 502, 604] {
        let proxy = Peer::says(code);
        let house = house(&proxy);
        let mwid = house.start();
        mwid.log("the subscription is gone: ");
        let status = nothing_left_to_do(&mwid);
        assert_eq!((&status["lamps"]["dead"], &status["counters"]["gone"]), (&1.into(), &1.into()));
        house.messages("example.com/202", 2, 0);
        mwid.until("looked up", |status| status["counters"]["lookups"].as_u64() >= Some(2));
        assert_eq!(
            nothing_left_to_do(&mwid)["sip"]["notifies"],
            1,
            "{code} brought another NOTIFY"
        );
        proxy.script(|heard| vec![heard.answer(200, "")]);
        refresh(&house);
        house.messages("example.com/202", 3, 0);
        let heard = proxy.told("202", "3/0 (0/0)");
        assert_eq!(heard.cseq(), 3);
        assert_eq!(house.rows(), 1);
    }
}

#[test]
fn cleanup_delete_removes_the_row_of_a_subscription_that_is_gone_and_no_other() {
    let proxy = Peer::scripted(|heard| {
        let gone = heard.header("Call-ID") == "gone";
        vec![heard.answer(if gone { 481 } else { 200 }, "")]
    });
    let mut house = House::new(&proxy);
    house.set("general", "cleanup", "delete");
    house.subscribe(&proxy, "202", "gone");
    house.subscribe(&proxy, "202", "there");
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    mwid.log("the row was deleted");
    mwid.settled();
    assert_eq!(house.rows(), 1);
    let left: String = house
        .database()
        .query_row("SELECT callid FROM active_watchers", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, "there");
}

#[test]
fn a_500_is_answered_with_a_higher_cseq_by_jumps_that_grow() {
    let proxy = Peer::scripted(|heard| {
        let code = if heard.cseq() < 100 { 500 } else { 200 };
        vec![heard.answer(code, "")]
    });
    let house = house(&proxy);
    let mwid = house.start();
    mwid.log("delivered: 200");
    let cseqs: Vec<u32> = proxy.transactions(4).iter().map(Heard::cseq).collect();
    assert_eq!(cseqs, [2, 4, 14, 114]);
    let kept = "SELECT local_cseq FROM active_watchers";
    let kept: i64 = house.database().query_row(kept, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 114, "the server's next NOTIFY continues behind it");
}

#[test]
fn a_phone_that_always_says_500_is_asked_four_times_and_then_less_and_less() {
    let proxy = Peer::says(500);
    let house = house(&proxy);
    let _mwid = house.start();
    let heard = proxy.transactions(5);
    let pause = heard[4].at - heard[3].at;
    assert!(pause >= Duration::from_millis(740), "{pause:?}");
    assert!(heard[3].cseq() < heard[4].cseq());
}

#[test]
fn a_503_with_retry_after_is_waited_for_even_when_there_is_news() {
    let proxy = Peer::scripted(|heard| vec![heard.answer(503, "Retry-After: 2\r\n")]);
    let house = house(&proxy);
    let mwid = house.start();
    mwid.log("not delivered, will be tried again: 503");
    proxy.script(|heard| vec![heard.answer(200, "")]);
    house.messages("example.com/202", 2, 0);
    let heard = proxy.transactions(2);
    let pause = heard[1].at - heard[0].at;
    assert!(pause >= Duration::from_secs(2), "{pause:?}");
    assert_eq!(heard[1].counts(), "2/0 (0/0)");
    mwid.log("answers again");
}

#[test]
fn a_phone_that_says_480_with_retry_after_is_not_gone() {
    let proxy = Peer::scripted(|heard| {
        let code = if heard.cseq() == 2 { 480 } else { 200 };
        vec![heard.answer(code, "Retry-After: 1 (rebooting)\r\n")]
    });
    let house = house(&proxy);
    let mwid = house.start();
    let heard = proxy.transactions(2);
    assert!(heard[1].at - heard[0].at >= Duration::from_secs(1));
    mwid.log("delivered: 200");
}

#[test]
fn a_408_keeps_the_row_and_is_tried_again_after_a_pause() {
    let proxy = Peer::scripted(|heard| {
        let code = if heard.cseq() == 2 { 408 } else { 200 };
        vec![heard.answer(code, "")]
    });
    let mut house = house(&proxy);
    house.set("general", "cleanup", "delete");
    let mwid = house.start();
    let heard = proxy.transactions(2);
    assert!(heard[1].at - heard[0].at >= Duration::from_millis(740));
    mwid.log("delivered: 200");
    assert_eq!(house.rows(), 1);
}

#[test]
fn an_answer_that_no_rule_names_is_tried_again_after_a_pause() {
    let proxy = Peer::scripted(|heard| {
        let code = heard.header("Call-ID").parse().unwrap();
        vec![heard.answer(if heard.cseq() == 2 { code } else { 200 }, "")]
    });
    let house = House::new(&proxy);
    let codes = ["302", "400", "403", "486", "504", "600"];
    for code in codes {
        house.subscribe(&proxy, "202", code);
    }
    house.messages("example.com/202", 1, 0);
    let mwid = house.start();
    let heard = proxy.transactions(2 * codes.len());
    for code in codes {
        let own = heard.iter().filter(|heard| heard.header("Call-ID") == code);
        let at: Vec<_> = own.map(|heard| heard.at).collect();
        assert_eq!(at.len(), 2, "{code}");
        assert!(at[1] - at[0] >= Duration::from_millis(740), "{code}");
    }
    mwid.until("delivered", |status| status["counters"]["delivered"] == codes.len());
    assert_eq!(house.rows(), 6);
}

#[test]
fn rfc3261_17_1_2_2_nobody_answers_eleven_copies_and_then_a_pause() {
    let proxy = Peer::silent();
    let house = house(&proxy);
    let mwid = house.start();
    let line = mwid.log("not delivered, will be tried again: no answer");
    assert!(line.contains("copies=11"), "{line}");
    let first = proxy.transactions(1).remove(0);
    let copies = proxy.heard().into_iter().filter(|heard| heard.cseq() == first.cseq());
    let copies: Vec<Heard> = copies.collect();
    assert_eq!(copies.len(), 11);
    assert!(copies.iter().all(|copy| copy.message == first.message), "copies are the same bytes");
    let after: Vec<u128> = copies.iter().map(|copy| (copy.at - first.at).as_millis()).collect();
    for (after, at_least) in
        after.iter().zip([0, 100, 300, 700, 1500, 2300, 3100, 3900, 4700, 5500, 6300])
    {
        assert!(*after + 5 >= at_least, "{after} ms instead of {at_least}");
    }
    assert_eq!(mwid.status()["sip"]["timed_out"], 1);
}

#[test]
fn rfc3261_17_1_2_2_after_a_100_copies_go_on_slowly_until_the_final_answer() {
    let proxy = Peer::scripted(|heard| match heard.copy {
        1 => vec![heard.answer(100, "")],
        2 | 3 => Vec::new(),
        _ => vec![heard.answer(200, "")],
    });
    let house = house(&proxy);
    let mwid = house.start();
    let line = mwid.log("delivered: 200");
    assert!(line.contains("copies=4"), "{line}");
    let heard = proxy.heard();
    let pause = heard[2].at - heard[1].at;
    assert!(pause >= Duration::from_millis(700), "T2 is 800 ms; {pause:?}");
    assert_eq!(proxy.transactions(1).len(), 1);
}

#[test]
fn an_answer_twice_counts_once() {
    let proxy = Peer::scripted(|heard| {
        vec![heard.answer(200, ""), heard.answer(200, ""), heard.answer(481, "")]
    });
    let house = house(&proxy);
    let mwid = house.start();
    mwid.log("delivered: 200");
    let status = mwid.until("all heard", |status| status["sip"]["answers"] == 1);
    assert_eq!(status["counters"]["delivered"], 1);
    assert_eq!(status["lamps"]["dead"], 0);
}

#[test]
fn an_answer_that_is_garbage_is_no_answer() {
    let proxy = Peer::scripted(|heard| match heard.copy {
        1 => vec![b"\x00\xff\x00garbage".to_vec(), b"SIP/2.0 200 OK\r\n\r\n".to_vec()],
        _ => vec![heard.answer(200, "")],
    });
    let house = house(&proxy);
    let mwid = house.start();
    let line = mwid.log("delivered: 200");
    assert!(line.contains("copies=2"), "{line}");
    mwid.log("a datagram that is no SIP message was dropped");
}
