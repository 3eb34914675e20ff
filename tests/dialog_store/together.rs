//! What goes together: each question has the answer that it would have alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mwid::dialogs::{DialogStore, StoreError};
use mwid_core::dialog::{Dialog, MAX_CSEQ, RowId};
use mwid_core::mailbox::Account;
use tokio::task::JoinSet;
use tracing::subscriber::DefaultGuard;

use crate::bed::{Bed, Kind, NOW, ids};

/// More than go together in one statement, and no power of two.
const CROWD: i64 = 45;

fn named(user: &str) -> Account {
    format!("sip:{user}@example.com").parse().unwrap()
}

/// Row 1 of the first account has CSeq 1, row 2 of the second has CSeq 2, ...
fn crowd(bed: &Bed) -> Vec<Account> {
    for id in 1..=CROWD {
        let number = id.to_string();
        let uri = format!("'sip:{id}@example.com'");
        bed.insert(&[&[("id", &number), ("presentity_uri", &uri), ("local_cseq", &number)]]);
    }
    (1..=CROWD).map(|id| named(&id.to_string())).collect()
}

async fn read(store: &DialogStore, accounts: &[Account]) -> Vec<Arc<Dialog>> {
    let found = store.find_all(accounts, NOW, false).await;
    let rows = found.into_iter().flat_map(|found| found.unwrap().rows);
    rows.map(|row| Arc::new(Dialog::from_row(&row).unwrap())).collect()
}

/// What the store says while this test runs, in the thread of the test.
#[derive(Clone, Default)]
struct Words(Arc<Mutex<Vec<u8>>>);

impl Words {
    fn listen(&self) -> DefaultGuard {
        let words = self.clone();
        let to = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
        tracing::subscriber::set_default(to.with_writer(move || words.clone()).finish())
    }

    /// How many were asked one by one after all.
    fn apart(&self) -> usize {
        let words = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        let lines = words.lines().filter(|line| line.contains("one by one"));
        let number = |word: &str| word.parse::<usize>().ok();
        lines.map(|line| line.split_whitespace().find_map(number).unwrap()).sum()
    }
}

impl Write for Words {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub async fn each_account_finds_its_own_rows(bed: Bed) {
    let words = Words::default();
    let _listening = words.listen();
    let mut accounts = crowd(&bed);
    bed.insert(&[
        &[("id", "100"), ("presentity_uri", "'sip:7@example.com'")],
        &[("id", "101"), ("presentity_uri", "'sip:7@example.com'")],
        &[("id", "102"), ("presentity_uri", "'sip:8@example.com'"), ("status", "3")],
        &[("id", "103"), ("presentity_uri", "'sip:9@example.com'"), ("expires", &NOW.to_string())],
    ]);
    accounts.extend([named("nobody"), named("1'OR'1'='1"), named("7")]);
    let store = bed.store_with(|database| database.max_dialogs = 2);
    for ended_too in [false, true] {
        let found = store.find_all(&accounts, NOW, ended_too).await;
        assert_eq!(found.len(), accounts.len());
        for (place, found) in found.into_iter().enumerate() {
            let found = found.unwrap();
            let expected = match place as i64 + 1 {
                7 | 48 => vec![101, 100],
                8 if ended_too => vec![102, 8],
                46 | 47 => vec![],
                id => vec![id],
            };
            assert_eq!(ids(&found), expected, "of {}", accounts[place]);
            assert_eq!(found.capped, matches!(place, 6 | 47), "of {}", accounts[place]);
        }
    }
    assert_eq!(store.find_all(&[], NOW, true).await.len(), 0);
    assert_eq!(words.apart(), 0);
}

pub async fn each_account_is_found_by_its_watcher_too(bed: Bed) {
    let watched = [("watcher_username", "'8'"), ("watcher_domain", "'example.com'")];
    bed.insert(&[
        &[&[("id", "1"), ("presentity_uri", "'sip:7@example.com'")][..], &watched].concat(),
        &[("id", "2"), ("presentity_uri", "'sip:8@example.com'")],
    ]);
    let store = bed.store_with(|database| database.find_by = mwid::config::FindBy::Either);
    let found = store.find_all(&[named("7"), named("8")], NOW, false).await;
    let found: Vec<_> = found.iter().map(|found| ids(found.as_ref().unwrap())).collect();
    assert_eq!(found, [vec![1], vec![2, 1]]);
}

pub async fn each_dialog_gets_a_cseq_of_its_own(bed: Bed) {
    let words = Words::default();
    let _listening = words.listen();
    let accounts = crowd(&bed);
    let store = bed.store();
    let dialogs = read(&store, &accounts).await;
    // Some have sent more than their rows say.
    let above = |id: i64| if id % 3 == 0 { 1000 } else { 0 };
    let claims: Vec<_> = dialogs.iter().map(|it| (it.clone(), above(it.row.0))).collect();
    let first = |id: i64| match above(id) {
        0 => u32::try_from(bed.flavour.wire(id + 1)).unwrap(),
        above => above + 1,
    };
    let claimed = store.claim_all(&claims).await;
    for ((dialog, _), claimed) in claims.iter().zip(claimed) {
        assert_eq!(claimed.unwrap(), Some(first(dialog.row.0)), "row {}", dialog.row);
        assert_eq!(bed.flavour.wire(bed.local_cseq(dialog)), i64::from(first(dialog.row.0)));
    }
    assert_eq!(words.apart(), 0);
    // Now what was read of the rows is old.
    let claimed = store.claim_all(&claims).await;
    for ((dialog, _), claimed) in claims.iter().zip(claimed) {
        assert_eq!(claimed.unwrap(), Some(first(dialog.row.0) + 1), "row {}", dialog.row);
    }
    assert_eq!(words.apart(), 0);
}

/// A phone was told by its server after its row was read, another one is gone, a third can count no further.
pub async fn one_that_changed_meanwhile_is_no_work_for_the_others(bed: Bed) {
    let accounts = crowd(&bed);
    let store = bed.store();
    let dialogs = read(&store, &accounts).await;
    let last = bed.flavour.row(MAX_CSEQ.into());
    bed.sql(&format!(
        "UPDATE active_watchers SET local_cseq = 1000 WHERE id = 5; \
         DELETE FROM active_watchers WHERE id = 6; \
         UPDATE active_watchers SET local_cseq = {last} WHERE id = 7"
    ));
    let words = Words::default();
    let _listening = words.listen();
    let claims: Vec<_> = dialogs.iter().map(|dialog| (dialog.clone(), 0)).collect();
    for ((dialog, _), claimed) in claims.iter().zip(store.claim_all(&claims).await) {
        match dialog.row.0 {
            6 => assert_eq!(claimed.unwrap(), None),
            7 => assert!(matches!(claimed, Err(StoreError::Exhausted { .. })), "{claimed:?}"),
            id => {
                let wire = i64::from(claimed.unwrap().unwrap());
                assert_eq!(bed.flavour.wire(bed.local_cseq(dialog)), wire, "row {id}");
                assert!(wire > bed.flavour.wire(if id == 5 { 1000 } else { id }), "row {id}");
            }
        }
    }
    assert_eq!(words.apart(), if bed.kind == Kind::Sqlite { 0 } else { 2 });
}

pub async fn one_that_cannot_be_claimed_is_no_harm_to_the_others(bed: Bed) {
    let accounts = crowd(&bed);
    let store = bed.store();
    let mut dialogs = read(&store, &accounts).await;
    let change = |at: &mut Arc<Dialog>, other: Dialog| *at = Arc::new(other);
    let [gone, other] = [dialogs[3].clone(), dialogs[4].clone()];
    change(&mut dialogs[3], Dialog { row: RowId(999), ..Dialog::clone(&gone) });
    change(&mut dialogs[4], Dialog { remote_tag: "other".into(), ..Dialog::clone(&other) });
    let last = bed.flavour.row(MAX_CSEQ.into());
    bed.sql(&format!("UPDATE active_watchers SET local_cseq = {last} WHERE id = 6"));
    let mut claims: Vec<_> = dialogs.iter().map(|dialog| (dialog.clone(), 0)).collect();
    claims[6].1 = MAX_CSEQ;
    for (place, claimed) in store.claim_all(&claims).await.into_iter().enumerate() {
        match place {
            3 | 4 => assert_eq!(claimed.unwrap(), None),
            5 | 6 => {
                let error = claimed.unwrap_err();
                assert!(matches!(error, StoreError::Exhausted { .. }), "{error}");
            }
            _ => assert!(claimed.unwrap().is_some(), "{}", claims[place].0.row),
        }
    }
    assert_eq!(bed.local_cseq(&other), 5, "no claim has touched another dialog's row");
}

/// The server says no to one of them.
pub async fn one_that_is_refused_is_no_harm_to_the_others(bed: Bed) {
    let accounts = crowd(&bed);
    let store = bed.store();
    let dialogs = read(&store, &accounts).await;
    bed.sql(match bed.kind {
        Kind::MariaDb | Kind::Postgres => {
            "ALTER TABLE active_watchers ADD CONSTRAINT not_this_one \
             CHECK (presentity_uri <> 'sip:20@example.com' OR local_cseq = 20)"
        }
        Kind::Sqlite => {
            "CREATE TRIGGER no BEFORE UPDATE ON active_watchers WHEN NEW.id = 20 \
             BEGIN SELECT RAISE(ABORT, 'not_this_one'); END"
        }
    });
    let claims: Vec<_> = dialogs.iter().map(|dialog| (dialog.clone(), 0)).collect();
    for ((dialog, _), claimed) in claims.iter().zip(store.claim_all(&claims).await) {
        if dialog.row == RowId(20) {
            let error = claimed.unwrap_err().to_string();
            assert!(error.contains("not_this_one"), "{error}");
        } else {
            assert!(claimed.unwrap().is_some(), "row {}", dialog.row);
        }
    }
}

/// A transaction of the presence server's, or of its operator's, takes its time.
pub async fn one_that_is_locked_is_no_harm_to_the_others(bed: Bed) {
    let accounts = crowd(&bed);
    let store = bed.store_with(|database| database.timeout = Duration::from_secs(3));
    let dialogs = read(&store, &accounts).await;
    let Some(lock) = bed.lock_row(20) else { return };
    let claims: Vec<_> = dialogs.iter().map(|dialog| (dialog.clone(), 0)).collect();
    for ((dialog, _), claimed) in claims.iter().zip(store.claim_all(&claims).await) {
        assert_eq!(claimed.is_err(), dialog.row == RowId(20), "row {}: {claimed:?}", dialog.row);
    }
    drop(lock);
    let again = store.claim_all(&claims).await;
    assert!(again.into_iter().all(|claimed| claimed.unwrap().is_some()));
}

/// Several mwid that claim for the same phones at the same moment.
pub async fn crowds_never_get_the_same_cseq(bed: Bed) {
    const CLAIMERS: usize = 8;
    const ROUNDS: usize = 3;
    let accounts = Arc::new(crowd(&bed));
    let mut claimers = JoinSet::new();
    for claimer in 0..CLAIMERS {
        let (store, accounts) = (bed.store(), accounts.clone());
        claimers.spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..ROUNDS {
                let mut dialogs = read(&store, &accounts).await;
                // Each in an order of its own: two that meet must not wait for each other for ever.
                dialogs.rotate_left(claimer * 5);
                let claims: Vec<_> = dialogs.into_iter().map(|dialog| (dialog, 0)).collect();
                let claimed = store.claim_all(&claims).await;
                for ((dialog, _), claimed) in claims.iter().zip(claimed) {
                    taken.push((dialog.row, claimed.unwrap().unwrap()));
                }
            }
            taken
        });
    }
    let mut all: BTreeMap<RowId, BTreeSet<u32>> = BTreeMap::new();
    for (row, cseq) in claimers.join_all().await.into_iter().flatten() {
        assert!(all.entry(row).or_default().insert(cseq), "{cseq} twice in row {row}");
    }
    assert_eq!(all.len(), accounts.len());
    assert!(all.values().all(|taken| taken.len() == CLAIMERS * ROUNDS));
}

pub async fn a_database_that_is_silent_is_silent_for_all(bed: Bed) {
    let accounts = crowd(&bed);
    let dialogs = read(&bed.store(), &accounts).await;
    let store = bed.store_with(|database| database.timeout = Duration::from_secs(2));
    let lock = bed.lock();
    let claims: Vec<_> = dialogs.into_iter().map(|dialog| (dialog, 0)).collect();
    for claimed in store.claim_all(&claims[..32]).await {
        let error = claimed.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    drop(lock);
    let again = bed.store().claim_all(&claims).await;
    assert!(again.into_iter().all(|claimed| claimed.unwrap().is_some()));
}
