//! The behaviour of the dialog store, the same on every real database and for both presence
//! servers' tables.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reached from elsewhere")]

#[path = "../support/mod.rs"]
mod support;

mod bed;
mod claiming;
mod errors;
mod finding;
mod outage;

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
                finding::only_live_rows_are_found
                finding::a_subscription_is_live_until_the_second_it_ends
                finding::all_rows_come_newest_first_and_the_cap_is_told
                finding::every_column_is_read
                finding::null_in_any_column_is_no_panic
                finding::find_by_presentity_watcher_or_either
                finding::hostile_account_text_is_only_data
                finding::wide_columns_are_read_too
                claiming::a_claim_counts_as_the_presence_server_does
                claiming::a_claim_is_above_what_mwid_sent
                claiming::a_rolled_back_row_is_lifted_to_the_floor
                claiming::a_row_that_is_gone_or_another_dialog_is_not_claimed
                claiming::a_null_cseq_counts_as_none
                claiming::an_exhausted_dialog_is_an_error_and_does_not_wrap
                claiming::fifty_claimers_never_get_the_same_cseq
                claiming::hostile_dialog_text_is_only_data
                claiming::delete_removes_that_dialog_only
                errors::a_probe_tells_server_flavour_and_table
                errors::a_missing_table_is_named
                errors::a_missing_column_is_named
                errors::a_refused_write_tells_the_servers_own_words
                errors::a_table_that_changes_under_the_store_is_seen
                outage::a_silent_database_is_given_up_in_time_and_asked_again_cleanly
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
