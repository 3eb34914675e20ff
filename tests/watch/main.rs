//! The watch of the table of subscriptions, in each of its ways, on every real database.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../dialog_store/bed.rs"]
#[allow(dead_code, reason = "the store's own tests use all of it")]
mod bed;
mod command;
mod outage;
mod pooler;
mod rights;
mod rubbish;
mod seen;
mod ways;

/// Each behaviour, on one kind of database, with each presence server's table.
macro_rules! behaviours {
    ($($module:ident: $backend:ident, $flavour:ident;)*) => { $(
        mod $module {
            use crate::bed::{Bed, Kind};
            use mwid_core::dialog::Flavour;

            fn bed() -> Bed {
                Bed::new(Kind::$backend, Flavour::$flavour)
            }

            behaviours!(@tests
                ways::with_triggers_what_a_subscribe_changes_is_seen_and_nothing_else
                ways::without_triggers_new_rows_are_paged_and_refreshed_ones_resynced
                ways::the_whole_table_is_read_page_by_page
                ways::find_by_decides_whose_account_it_is
                ways::triggers_may_come_and_go
                ways::two_watches_share_one_database
                ways::a_storm_of_changes_is_seen_whole
                rubbish::a_full_and_an_emptied_change_table_do_no_harm
            );
        }
    )* };
    (@tests $($module:ident::$test:ident)*) => { $(
        #[tokio::test]
        async fn $test() {
            crate::$module::$test(bed()).await;
        }
    )* };
}

behaviours! {
    mariadb_opensips: MariaDb, OpenSips;
    mariadb_kamailio: MariaDb, Kamailio;
    postgres_opensips: Postgres, OpenSips;
    postgres_kamailio: Postgres, Kamailio;
    sqlite_opensips: Sqlite, OpenSips;
    sqlite_kamailio: Sqlite, Kamailio;
}
