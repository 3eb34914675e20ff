//! Several mwid with an agent each on one table.

use crate::bed::Bed;
use crate::phone::{counts, left, state};

/// Two on one table without triggers, so that nobody says what happened in it.
fn beds() -> [Bed; 2] {
    let mut beds = [Bed::new(), Bed::new()];
    let paths = ["spool", "dialogs.db"].map(|name| beds[0].house.path(name).display().to_string());
    for (bed, node) in beds.iter_mut().zip(["vm0", "vm1"]) {
        bed.house.set("spool", "path", &paths[0]);
        bed.house.set("spool", "scope", "shared");
        bed.house.set("database", "url", &format!("sqlite:{}", paths[1]));
        bed.house.set("cluster", "node", node);
        bed.house.set("cluster", "poll", "20");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/sqlite/cluster.sql");
    let script = std::fs::read_to_string(script).unwrap();
    beds[0].house.database().execute_batch(&script).unwrap();
    beds
}

/// A phone asks one mwid, and what ends is told by the one that owns the account.
#[test]
fn rfc6665_4_2_2_what_ends_at_one_mwid_is_told_by_the_one_that_owns_the_account() {
    let beds = beds();
    for number in 300..310 {
        beds[0].house.messages(&format!("example.com/{number}"), 1, 0);
    }
    let mwids = [beds[0].house.start(), beds[1].house.start()];
    for mwid in &mwids {
        mwid.until("they agree, and each has its own", |status| {
            let cluster = &status["cluster"];
            cluster["live"].as_array().is_some_and(|live| live.len() == 2)
                && cluster["agreed"] == true
                && cluster["owned"].as_u64() > Some(0)
        });
    }
    // Ten accounts: both own some of them.
    let phones = || (300..310).map(|it| beds[0].phone(&it.to_string())).collect::<Vec<_>>();
    let mut fetching = phones();
    for phone in &mut fetching {
        assert_eq!(phone.ask("0", "").status(), Some(200));
    }
    for phone in &mut fetching {
        let only = phone.notify();
        assert_eq!(state(&only), "terminated;reason=timeout", "{}", phone.user);
        assert_eq!(counts(&only), Some("1/0 (0/0)"), "{}", phone.user);
    }
    let mut phones = phones();
    for phone in &mut phones {
        assert_eq!(phone.ask("600", "").status(), Some(200));
    }
    for phone in &mut phones {
        assert!((590..=600).contains(&left(&phone.notify())));
    }
    assert_eq!(beds[0].house.mwid(&["drain"]).code, 0);
    for phone in &mut phones {
        assert_eq!(state(&phone.notify()), "terminated;reason=deactivated");
    }
    mwids[1].until("their rows are gone", |_| beds[0].house.rows() == 0);
}
