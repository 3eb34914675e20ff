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
mod subscriptions;
mod together;

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
                together::each_account_finds_its_own_rows
                together::each_account_is_found_by_its_watcher_too
                together::each_dialog_gets_a_cseq_of_its_own
                together::one_that_changed_meanwhile_is_no_work_for_the_others
                together::one_that_cannot_be_claimed_is_no_harm_to_the_others
                together::one_that_is_refused_is_no_harm_to_the_others
                together::one_that_is_locked_is_no_harm_to_the_others
                together::crowds_never_get_the_same_cseq
                together::a_database_that_is_silent_is_silent_for_all
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

/// What the presence agent needs, on its own table and on those of the presence servers.
macro_rules! agent_behaviours {
    ($($module:ident: $bed:expr;)*) => { $(
        mod $module {
            use crate::bed::{Bed, Kind};

            #[allow(unused_imports, reason = "the agent's own table is of no presence server")]
            use mwid_core::dialog::Flavour::{Kamailio, OpenSips};

            async fn bed() -> Bed {
                $bed.await
            }

            agent_behaviours!(@tests
                a_subscription_is_a_row_of_which_a_notify_can_be_made
                the_same_subscribe_twice_is_one_row
                a_phone_that_begins_again_with_the_same_names_has_a_new_row
                an_account_has_so_many_and_a_phone_that_started_again_takes_its_old_place
                a_refresh_changes_its_row_and_no_other
                only_the_same_dialog_of_the_same_user_is_refreshed
                an_unsubscribe_ends_its_row_which_is_still_found
                a_sweep_ends_what_is_over_and_deletes_what_has_said_farewell
                a_drain_ends_what_this_mwid_answered_a_part_at_a_time
                other_events_and_other_states_are_left_alone
                a_value_that_no_column_holds_is_refused_and_not_cut
                many_at_once_are_all_there
            );
        }
    )* };
    (@tests $($test:ident)*) => { $(
        #[tokio::test]
        async fn $test() {
            crate::subscriptions::$test(bed().await).await;
        }
    )* };
}

agent_behaviours! {
    agent_on_mariadb: Bed::of_the_agent(Kind::MariaDb);
    agent_on_postgres: Bed::of_the_agent(Kind::Postgres);
    agent_on_sqlite: Bed::of_the_agent(Kind::Sqlite);
    agent_on_mariadb_opensips: std::future::ready(Bed::new(Kind::MariaDb, OpenSips));
    agent_on_mariadb_kamailio: std::future::ready(Bed::new(Kind::MariaDb, Kamailio));
    agent_on_postgres_opensips: std::future::ready(Bed::new(Kind::Postgres, OpenSips));
    agent_on_postgres_kamailio: std::future::ready(Bed::new(Kind::Postgres, Kamailio));
    agent_on_sqlite_opensips: std::future::ready(Bed::new(Kind::Sqlite, OpenSips));
    agent_on_sqlite_kamailio: std::future::ready(Bed::new(Kind::Sqlite, Kamailio));
}
