//! What an operator is told.

use mwid::config::{DatabaseUrl, Secret};
use mwid::dialogs::{DialogStore, StoreError};
use mwid_core::dialog::{Dialog, Flavour};

use crate::bed::{Bed, Kind, NOW, account, ids};
use crate::support::PASSWORD;

pub async fn a_probe_tells_server_flavour_and_table(bed: Bed) {
    let probe = bed.store().probe().await.unwrap();
    let name = match bed.kind {
        Kind::MariaDb => "MariaDB 1",
        Kind::Postgres => "PostgreSQL 1",
        Kind::Sqlite => "SQLite 3.",
    };
    assert!(probe.server.starts_with(name), "{probe:?}");
    assert!(probe.server.len() < 40, "only name and version: {probe:?}");
    assert_eq!((probe.flavour, probe.table.as_str()), (bed.flavour, "active_watchers"));
}

pub async fn a_missing_table_is_named(bed: Bed) {
    let store = bed.store_with(|settings| settings.table = "no_such_watchers".into());
    for _ in 0..2 {
        let error = store.find(&account(), NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::MissingTable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("no_such_watchers") && text.contains("[database] table"), "{text}");
        assert!(!error.is_transient());
    }
    // The table goes away under a store that has used it, and comes back.
    let store = bed.store();
    bed.insert(&[&[("id", "1")]]);
    assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [1]);
    bed.sql("ALTER TABLE active_watchers RENAME TO away");
    let error = store.find(&account(), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::MissingTable { .. }), "{error}");
    bed.sql("ALTER TABLE away RENAME TO active_watchers");
    assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [1]);
}

pub async fn a_missing_column_is_named(bed: Bed) {
    bed.insert(&[&[("id", "1")]]);
    let used = bed.store();
    used.find(&account(), NOW).await.unwrap();
    bed.sql("ALTER TABLE active_watchers RENAME COLUMN local_contact TO my_contact");
    for store in [bed.store(), used.clone()] {
        let error = store.find(&account(), NOW).await.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, StoreError::MissingColumn { column: "local_contact", .. }),
            "{text}"
        );
        assert!(text.contains("active_watchers") && text.contains("local_contact"), "{text}");
    }
    bed.sql("ALTER TABLE active_watchers RENAME COLUMN my_contact TO local_contact");
    assert_eq!(ids(&used.find(&account(), NOW).await.unwrap()), [1]);
}

pub async fn a_refused_write_tells_the_servers_own_words(bed: Bed) {
    let dialog = bed.dialog("3").await;
    match bed.kind {
        Kind::MariaDb => bed.sql(
            "CREATE TRIGGER no_claims BEFORE UPDATE ON active_watchers FOR EACH ROW \
             SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no claims here'",
        ),
        Kind::Postgres => bed.sql(
            "CREATE FUNCTION no_claims() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE EXCEPTION ''no claims here''; END'; \
             CREATE TRIGGER no_claims BEFORE UPDATE ON active_watchers FOR EACH ROW \
             EXECUTE FUNCTION no_claims()",
        ),
        Kind::Sqlite => bed.sql(
            "CREATE TRIGGER no_claims BEFORE UPDATE ON active_watchers \
             BEGIN SELECT RAISE(ABORT, 'no claims here'); END",
        ),
    };
    let store = bed.store();
    let error = store.claim(&dialog, 0).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Refused { .. }), "{text}");
    assert!(text.contains("no claims here") && text.contains("active_watchers"), "{text}");
    assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [dialog.row.0]);
}

/// An operator moves from one presence server to the other, with mwid running.
pub async fn a_table_that_changes_under_the_store_is_seen(mut bed: Bed) {
    let store = bed.store();
    bed.insert(&[&[("id", "1")]]);
    assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [1]);
    let other = match bed.flavour {
        Flavour::OpenSips => Flavour::Kamailio,
        Flavour::Kamailio => Flavour::OpenSips,
    };
    bed.sql("DROP TABLE active_watchers");
    bed.create_table(other);
    bed.flavour = other;
    bed.insert(&[&[("id", "2"), ("local_cseq", "3")]]);
    if other == Flavour::Kamailio {
        // OpenSIPS's columns are all there: nothing fails, and the claim would be off by one.
        // `mwid status` looks anew, and so does the store by itself once a minute.
        store.probe().await.unwrap();
    }
    let found = store.find(&account(), NOW).await.unwrap();
    assert_eq!(ids(&found), [2]);
    let dialog = Dialog::from_row(&found.rows[0]).unwrap();
    let wire = store.claim(&dialog, 0).await.unwrap().unwrap();
    assert_eq!(i64::from(wire), other.wire(4));
    assert_eq!(store.probe().await.unwrap().flavour, other);
}

#[tokio::test]
async fn a_hostile_table_name_never_reaches_sql() {
    let bed = Bed::new(Kind::Sqlite, Flavour::OpenSips);
    let long = "a".repeat(64);
    for table in
        ["", "x; DROP TABLE y", "a`b", "a\"b", "a b", "a.b", "1a", "a\0b", "å", "x--", &long]
    {
        let mut settings = bed.settings.clone();
        settings.table = table.into();
        let Err(error) = DialogStore::new(&settings) else { panic!("{table:?} was accepted") };
        assert!(matches!(error, StoreError::BadTable { .. }), "{error}");
        assert!(error.to_string().contains("[database] table"));
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_without_printing_any() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let bed = Bed::new(kind, Flavour::OpenSips);
        let store = bed.store_with(|settings| {
            let (DatabaseUrl::MySql(server) | DatabaseUrl::Postgres(server)) = &mut settings.url
            else {
                panic!("not a server")
            };
            server.password = Some(Secret::new("wrong-and-secret"));
        });
        let error = store.find(&account(), NOW).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{text}");
        assert!(error.to_string().contains("mwid"), "the user is named: {text}");
        assert!(!text.contains("wrong-and-secret") && !text.contains(PASSWORD), "{text}");
    }
}

#[tokio::test]
async fn a_user_who_may_only_read_is_told_so() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let bed = Bed::new(kind, Flavour::OpenSips);
        let dialog = bed.dialog("1").await;
        bed.sql(if kind == Kind::MariaDb {
            "CREATE USER reader@'%' IDENTIFIED BY 'r'; GRANT SELECT ON active_watchers TO reader@'%'"
        } else {
            "CREATE ROLE reader LOGIN PASSWORD 'r'; GRANT SELECT ON active_watchers TO reader"
        });
        let store = bed.store_with(|settings| {
            let (DatabaseUrl::MySql(server) | DatabaseUrl::Postgres(server)) = &mut settings.url
            else {
                panic!("not a server")
            };
            (server.user, server.password) = ("reader".into(), Some(Secret::new("r")));
        });
        assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [dialog.row.0]);
        let error = store.claim(&dialog, 0).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("denied") && text.contains("active_watchers"), "{text}");
    }
}

/// A `SQL_ASCII` database of PostgreSQL takes any bytes.
#[tokio::test]
async fn bytes_that_are_no_utf8_are_read_with_a_mark() {
    let bed = Bed::new(Kind::Postgres, Flavour::OpenSips);
    bed.sql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'");
    let server = crate::support::postgres::Postgres::shared();
    let schema = format!(
        "{}/tests/fixtures/postgres/opensips-active_watchers.sql",
        env!("CARGO_MANIFEST_DIR")
    );
    server.sql_file("ascii", schema.as_ref());
    server.sql(
        "ascii",
        &format!(
            "INSERT INTO active_watchers VALUES (1, 'sip:202@example.com', 'a', 'b', 'c', 'd', \
             'message-summary', NULL, 't', 'f', 'c', 1, 1, E'sip:\\xff', NULL, {}, 1, NULL, 0, \
             's', 'l', NULL)",
            crate::bed::ENDS
        ),
    );
    let store = bed.store_with(|settings| {
        settings.url = DatabaseUrl::Postgres(crate::bed::on_server(server.port(), "ascii"));
    });
    let found = store.find(&account(), NOW).await.unwrap();
    assert_eq!(found.rows[0].contact.as_deref(), Some("sip:\u{fffd}"));
}
