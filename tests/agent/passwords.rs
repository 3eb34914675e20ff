//! Who may subscribe by password: of the ini, and of the proxy's table in each database.

use std::net::TcpListener;

use mwid_core::agent::Algorithm;

use crate::bed::Bed;
use crate::phone::{Phone, counts};
use crate::support::mariadb::MariaDb;
use crate::support::postgres::Postgres;
use crate::support::sip::Message;
use crate::support::{PASSWORD, USER};

const REALM: &str = "example.com";

fn bed() -> Bed {
    let mut bed = Bed::new();
    bed.set("trusted", "192.0.2.1");
    bed.set("realm", REALM);
    bed.set("rate", "10000");
    bed
}

/// What a challenge says, for one algorithm.
fn nonce(answer: &Message, algorithm: Algorithm) -> Option<String> {
    let name = match algorithm {
        Algorithm::Md5 => "algorithm=MD5",
        Algorithm::Sha256 => "algorithm=SHA-256",
    };
    let challenges = answer.headers.iter().filter(|(header, _)| header == "WWW-Authenticate");
    let challenge = challenges.map(|(_, value)| value).find(|value| value.contains(name))?;
    assert!(challenge.contains(&format!("realm=\"{REALM}\"")), "{challenge}");
    assert!(challenge.contains("qop=\"auth\""), "{challenge}");
    Some(challenge.split("nonce=\"").nth(1)?.split('"').next()?.to_owned())
}

/// RFC 7616 §3.4.
fn authorization(
    user: &str,
    password: &str,
    algorithm: Algorithm,
    nonce: &str,
    count: u32,
) -> String {
    let uri = "sip:example.com";
    let ha1 = algorithm.hash(&format!("{user}:{REALM}:{password}"));
    let ha2 = algorithm.hash(&format!("SUBSCRIBE:{uri}"));
    let response = algorithm.hash(&format!("{ha1}:{nonce}:{count:08x}:0a4f:auth:{ha2}"));
    let name = if algorithm == Algorithm::Md5 { "MD5" } else { "SHA-256" };
    format!(
        "Authorization: Digest username=\"{user}\", realm=\"{REALM}\", nonce=\"{nonce}\", \
         uri=\"{uri}\", response=\"{response}\", algorithm={name}, cnonce=\"0a4f\", qop=auth, \
         nc={count:08x}\r\n"
    )
}

/// Subscribes with a password; gives the last answer.
fn log_in(phone: &mut Phone, password: &str, algorithm: Algorithm) -> Message {
    let challenge = phone.ask("600", "");
    assert_eq!(challenge.status(), Some(401), "{challenge:?}");
    let Some(nonce) = nonce(&challenge, algorithm) else {
        panic!("not asked for {algorithm:?}: {challenge:?}")
    };
    let line = authorization(&phone.user, password, algorithm, &nonce, 1);
    phone.ask("600", &line)
}

fn everybody_is_let_in_by_password(bed: &Bed, algorithms: &[Algorithm]) {
    let mwid = bed.start();
    for &algorithm in algorithms {
        let mut phone = bed.phone("202");
        // The columns of a table are looked at beside the loop.
        mwid.until("it asks by all hashes", |_| {
            phone.reboot();
            nonce(&phone.ask("600", ""), algorithm).is_some()
        });
        phone.reboot();
        let answer = log_in(&mut phone, "s3cret;\"é", algorithm);
        assert_eq!(answer.status(), Some(200), "{algorithm:?}: {answer:?}");
        assert_eq!(counts(&phone.notify()), Some("2/1 (0/0)"));
        let mut thief = bed.phone("202");
        assert_eq!(log_in(&mut thief, "guess", algorithm).status(), Some(401));
        let mut nobody = bed.phone("999");
        assert_eq!(log_in(&mut nobody, "s3cret;\"é", algorithm).status(), Some(401));
    }
    let mut refresh = bed.phone("202");
    assert_eq!(log_in(&mut refresh, "s3cret;\"é", Algorithm::Md5).status(), Some(200));
    refresh.notify();
    let again = refresh.ask("600", "");
    assert_eq!(again.status(), Some(401), "a refresh is asked for, too");
    assert!(mwid.logged().contains("wrong password of \"202\""), "{}", mwid.logged());
    assert!(!mwid.logged().contains("s3cret"), "no password is logged");
}

#[test]
fn users_of_the_configuration() {
    let mut bed = bed();
    bed.house.set("users", "202@example.com", "s3cret\\;\"é");
    everybody_is_let_in_by_password(&bed, &Algorithm::ALL);
}

/// The table as OpenSIPS 3.6 (with `ha1_sha256`) or Kamailio 5.6 (without) has it, with one user.
fn subscriber_table(sha256: bool) -> String {
    let ha1 = |algorithm: Algorithm| algorithm.ha1("202", REALM, "s3cret;\"é");
    let (column, value) = if sha256 {
        (
            ", ha1_sha256 CHAR(64) DEFAULT '' NOT NULL",
            format!(", '{}'", ha1(Algorithm::Sha256).to_uppercase()),
        )
    } else {
        ("", String::new())
    };
    format!(
        "CREATE TABLE subscriber (id INTEGER NOT NULL PRIMARY KEY, \
         username CHAR(64) DEFAULT '' NOT NULL, domain CHAR(64) DEFAULT '' NOT NULL, \
         password CHAR(25) DEFAULT '' NOT NULL, ha1 CHAR(64) DEFAULT '' NOT NULL{column});\n\
         INSERT INTO subscriber VALUES (1, '202', 'example.com', '', '{}'{value});",
        ha1(Algorithm::Md5)
    )
}

#[test]
fn users_of_a_table_in_sqlite() {
    for (sha256, algorithms) in [(true, &Algorithm::ALL[..]), (false, &[Algorithm::Md5])] {
        let mut bed = bed();
        let path = bed.house.path("proxy.db");
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch(&subscriber_table(sha256))
            .unwrap();
        bed.set("subscribers", &format!("sqlite:{}", path.display()));
        everybody_is_let_in_by_password(&bed, algorithms);
    }
}

/// The password of the tests' databases, as a file has it.
fn with_password_file(bed: &mut Bed, url: &str) {
    let file = bed.house.path("password");
    std::fs::write(&file, PASSWORD).unwrap();
    bed.set("subscribers", url);
    bed.set("subscribers_password_file", &file.display().to_string());
}

#[test]
fn users_of_a_table_in_mariadb() {
    for (sha256, algorithms) in [(true, &Algorithm::ALL[..]), (false, &[Algorithm::Md5])] {
        let server = MariaDb::shared();
        let name = format!("subscribers_{}_{sha256}", std::process::id());
        server.create_database(&name);
        server.sql(&name, &subscriber_table(sha256));
        let mut bed = bed();
        with_password_file(&mut bed, &format!("mysql://{USER}@127.0.0.1:{}/{name}", server.port()));
        everybody_is_let_in_by_password(&bed, algorithms);
    }
}

#[test]
fn users_of_a_table_in_postgresql() {
    for (sha256, algorithms) in [(true, &Algorithm::ALL[..]), (false, &[Algorithm::Md5])] {
        let server = Postgres::shared();
        let name = format!("subscribers_{}_{sha256}", std::process::id());
        server.create_database(&name);
        server.sql(&name, &subscriber_table(sha256));
        let mut bed = bed();
        let url = format!("postgres://{USER}@127.0.0.1:{}/{name}", server.port());
        with_password_file(&mut bed, &url);
        everybody_is_let_in_by_password(&bed, algorithms);
    }
}

#[test]
fn replayed_stale_and_foreign_nonces_are_refused() {
    let mut bed = bed();
    bed.house.set("users", "202@example.com", "x");
    let _mwid = bed.start();
    let mut phone = bed.phone("202");
    let nonce = nonce(&phone.ask("600", ""), Algorithm::Md5).unwrap();
    let line = |nonce: &str, count| authorization("202", "x", Algorithm::Md5, nonce, count);
    assert_eq!(phone.ask("600", &line(&nonce, 1)).status(), Some(200));
    phone.notify();
    let replay = phone.ask("600", &line(&nonce, 1));
    assert_eq!(replay.status(), Some(401));
    assert!(replay.header("WWW-Authenticate").unwrap().contains("stale=true"));
    let foreign = phone.ask("600", &line(&"0".repeat(64), 1));
    assert_eq!(foreign.status(), Some(401));
    assert_eq!(
        phone.ask("600", &line(&nonce, 2)).status(),
        Some(200),
        "and the next count goes on"
    );
}

/// A password is that of one user of one domain.
#[test]
fn a_user_of_another_domain_is_another_user() {
    let mut bed = bed();
    bed.house.set("users", "202@example.com", "x");
    let _mwid = bed.start();
    let mut phone = bed.phone("202");
    let nonce = nonce(&phone.ask("600", ""), Algorithm::Md5).unwrap();
    let line = authorization("202", "x", Algorithm::Md5, &nonce, 1);
    let text = phone.subscribe_text("600", &line).replace("202@example.com", "202@example.org");
    phone.send(&text);
    assert_eq!(phone.response().status(), Some(401));
}

#[test]
fn a_database_of_users_that_is_away_is_503_and_no_let_in() {
    let mut bed = bed();
    bed.set("subscribers", "mysql://u@127.0.0.1:9/proxy");
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    for _ in 0..3 {
        phone.reboot();
        assert_eq!(log_in(&mut phone, "x", Algorithm::Md5).status(), Some(503));
    }
    assert_eq!(mwid.count("no password of a phone can be checked"), 1, "{}", mwid.logged());
    let troubles = mwid.status()["troubles"].to_string();
    assert!(troubles.contains("127.0.0.1:9"), "{troubles}");
    assert!(troubles.contains("check [agent] subscribers"), "{troubles}");
}

/// The users of the configuration need no table.
#[test]
fn a_database_of_users_that_hangs_is_named_and_others_are_let_in() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bed = bed();
    bed.house.set("users", "203@example.com", "x");
    bed.house.set("database", "timeout", "1");
    let address = silent.local_addr().unwrap();
    bed.set("subscribers", &format!("mysql://u@{address}/proxy"));
    let mwid = bed.start();
    let mut phone = bed.phone("203");
    assert_eq!(log_in(&mut phone, "x", Algorithm::Md5).status(), Some(200));
    let mut phone = bed.phone("202");
    assert_eq!(log_in(&mut phone, "x", Algorithm::Md5).status(), Some(503));
    let troubles = mwid.status()["troubles"].to_string();
    assert!(troubles.contains(&address.to_string()), "{troubles}");
    assert!(troubles.contains("[agent] subscribers is overloaded"), "{troubles}");
}

/// The columns of the table are looked at again after a reload, without anybody's login.
#[test]
fn rfc8760_2_4_a_reload_does_not_take_sha_256_away() {
    let mut bed = bed();
    let path = bed.house.path("proxy.db");
    let table = rusqlite::Connection::open(&path).unwrap();
    table.execute_batch(&subscriber_table(true)).unwrap();
    bed.set("subscribers", &format!("sqlite:{}", path.display()));
    let mwid = bed.start();
    let mut phone = bed.phone("202");
    let mut offered = |what: &str| {
        mwid.until(what, |_| {
            phone.reboot();
            nonce(&phone.ask("600", ""), Algorithm::Sha256).is_some()
        });
    };
    offered("SHA-256 is offered");
    bed.set("nonce_lifetime", "200");
    assert_eq!(bed.house.mwid(&["reload"]).code, 0);
    offered("SHA-256 is offered again");
}
