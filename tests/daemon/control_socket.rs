//! Rubbish on the control socket harms nobody.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::house::House;
use crate::peer::{Peer, SOON};

fn connect(house: &House) -> UnixStream {
    let stream = UnixStream::connect(house.path("run/control.sock")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Says `bytes` and nothing more; gives what is answered.
fn answer(house: &House, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(house);
    // The daemon need not listen to the end.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn refusal(house: &House, line: &str) -> String {
    let answer: Value = serde_json::from_slice(&answer(house, line.as_bytes())).unwrap();
    assert_eq!(answer["code"], 1, "{answer}");
    answer["text"].as_str().unwrap().to_owned()
}

#[test]
fn an_unknown_command_is_refused_in_words() {
    let house = House::new(&Peer::silent());
    let _mwid = house.start();
    let text = refusal(&house, "{\"command\":\"self-destruct\"}\n");
    assert!(text.starts_with("this mwid does not know that command: unknown variant"), "{text}");
    for line in [
        "\n",
        "{}\n",
        "[]\n",
        "status\n",
        "{\"command\":\"debug\"}\n",
        "{\"command\":\"debug\",\"on\":\"yes\"}\n",
        "{\"command\":\"notify\",\"user\":\"202\",\"domain\":\"x\",\"new\":-1,\"old\":0}\n",
        "{\"command\":\"debug\",\"on\":true,\"more\":1}\n",
    ] {
        refusal(&house, line);
    }
}

#[test]
fn names_that_are_none_are_refused() {
    let house = House::new(&Peer::silent());
    let mwid = house.start();
    for user in ["", "a b", "a\\r\\nVia: evil", "\\u0000"] {
        let line = format!(
            "{{\"command\":\"notify\",\"user\":\"{user}\",\"domain\":\"x\",\"new\":1,\"old\":0}}\n"
        );
        refusal(&house, &line);
    }
    assert_eq!(mwid.status()["lamps"]["accounts"], 0);
}

#[test]
fn random_bytes_and_a_mebibyte_without_a_newline_stop_nobody() {
    let house = House::new(&Peer::silent());
    let _mwid = house.start();
    let noise: Vec<u8> =
        (0_u32..5000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    answer(&house, &noise);
    answer(&house, &vec![b'a'; 1 << 20]);
    answer(&house, &[b'['; 4096]);
    answer(&house, b"");
    answer(&house, b"{\"command\":\"status\"");
    assert_eq!(house.mwid(&["status"]).code, 0);
}

#[test]
fn clients_that_connect_and_say_nothing_do_not_keep_others_waiting() {
    let house = House::new(&Peer::silent());
    let _mwid = house.start();
    let silent: Vec<UnixStream> = (0..40).map(|_| connect(&house)).collect();
    let start = std::time::Instant::now();
    assert_eq!(house.mwid(&["status"]).code, 0);
    assert!(start.elapsed().as_secs() < 5, "{:?}: waited for the silent ones", start.elapsed());
    drop(silent);
}

#[test]
fn a_client_that_goes_away_before_its_answer_harms_nobody() {
    let house = House::new(&Peer::silent());
    let _mwid = house.start();
    for _ in 0..50 {
        connect(&house).write_all(b"{\"command\":\"status\"}\n").unwrap();
    }
    assert_eq!(house.mwid(&["status"]).code, 0);
}
