//! A user who may read and claim, and not alter the database.

use mwid::config::{Database, DatabaseUrl};
use mwid::dialogs::install::InstallError;
use mwid::dialogs::watch::Way;
use mwid::dialogs::{Script, install};
use mwid_core::dialog::Flavour;

use crate::bed::{Bed, Kind};
use crate::seen::{NEVER, Seen, subscribe};
use crate::support::PASSWORD;

/// The bed's settings for a user of little rights.
fn as_poor_user(bed: &Bed) -> Database {
    let mut settings = Database { resync: NEVER, ..bed.settings.clone() };
    let user = format!("poor_{}", bed.database());
    match &mut settings.url {
        DatabaseUrl::MySql(server) => {
            let who = format!("'{user}'@'127.0.0.1'");
            bed.sql(&format!(
                "CREATE USER {who} IDENTIFIED BY '{PASSWORD}'; \
                 GRANT SELECT, UPDATE ON {}.active_watchers TO {who};",
                bed.database()
            ));
            server.user = user;
        }
        DatabaseUrl::Postgres(server) => {
            bed.sql(&format!(
                "CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'; \
                 GRANT SELECT, UPDATE ON active_watchers TO {user};"
            ));
            server.user = user;
        }
        DatabaseUrl::Sqlite(_) => panic!("no users"),
    }
    settings
}

#[tokio::test]
async fn without_the_right_to_alter_the_database_the_table_is_paged_and_the_grant_is_named() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let bed = Bed::new(kind, Flavour::OpenSips);
        let settings = as_poor_user(&bed);
        let error = install::run(Script::Install, &settings).await.unwrap_err();
        let text = error.to_string();
        println!("{text}");
        let InstallError::Denied { grants, .. } = error else { panic!("{text}") };
        assert!(text.contains("GRANT TRIGGER ON") && !text.contains(PASSWORD), "{text}");

        let mut seen = Seen::with(settings.clone());
        seen.synced().await;
        let health = seen.watch.health();
        assert_eq!(health.way, Some(Way::Paging), "{health}");
        subscribe(&bed, "202");
        assert_eq!(seen.accounts().await, ["202"]);

        // What the error asks for is enough.
        let grants: Vec<&str> = grants.lines().filter(|line| line.contains("GRANT")).collect();
        bed.sql(&grants.join("\n"));
        install::run(Script::Install, &settings).await.unwrap();
        install::run(Script::Install, &settings).await.unwrap();
        seen.until_health("the better way", |health| {
            health.way.is_some_and(|way| way != Way::Paging)
        })
        .await;
        subscribe(&bed, "203");
        seen.until("203").await;
    }
}

#[tokio::test]
async fn a_table_that_is_not_there_is_an_error_that_names_it() {
    for kind in [Kind::MariaDb, Kind::Postgres, Kind::Sqlite] {
        let bed = Bed::new(kind, Flavour::Kamailio);
        let settings = Database { table: "nowhere".into(), ..bed.settings.clone() };
        let error = install::run(Script::Install, &settings).await.unwrap_err().to_string();
        assert!(error.contains("nowhere") && error.contains("[database]"), "{error}");
        let mut seen = Seen::with(settings);
        seen.until_health("the error", |health| {
            health.error.as_deref().is_some_and(|error| error.contains("nowhere"))
        })
        .await;
        bed.sql("ALTER TABLE active_watchers RENAME TO nowhere;");
        seen.synced().await;
        assert_eq!(seen.watch.health().error, None);
    }
}
