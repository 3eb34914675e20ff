//! CSeq: each number once, upwards, in the presence server's own counting.

use std::collections::BTreeSet;

use mwid::dialogs::StoreError;
use mwid_core::dialog::{Dialog, Flavour, MAX_CSEQ, RowId};
use tokio::task::JoinSet;

use crate::bed::{Bed, ENDS, NOW, account, ids};

/// Measured on both servers: OpenSIPS keeps the CSeq that was last on the wire, Kamailio one less.
pub async fn a_claim_counts_as_the_presence_server_does(bed: Bed) {
    let dialog = bed.dialog("3").await;
    let store = bed.store();
    let first = match bed.flavour {
        Flavour::OpenSips => 4,
        Flavour::Kamailio => 5,
    };
    assert_eq!(store.claim(&dialog, 0).await.unwrap(), Some(first));
    assert_eq!(bed.local_cseq(&dialog), 4, "both servers store row + 1");
    assert_eq!(store.claim(&dialog, first).await.unwrap(), Some(first + 1));
    assert_eq!(bed.local_cseq(&dialog), 5);
}

pub async fn a_claim_is_above_what_mwid_sent(bed: Bed) {
    let dialog = bed.dialog("3").await;
    assert_eq!(bed.store().claim(&dialog, 1000).await.unwrap(), Some(1001));
    assert_eq!(bed.local_cseq(&dialog), bed.flavour.row(1001));
}

/// OpenSIPS keeps its count in memory and writes it back over mwid's.
pub async fn a_rolled_back_row_is_lifted_to_the_floor(bed: Bed) {
    let dialog = bed.dialog("1").await;
    let store = bed.store();
    let mut sent = store.claim(&dialog, 0).await.unwrap().unwrap();
    for _ in 0..3 {
        bed.sql("UPDATE active_watchers SET local_cseq = 0");
        let next = store.claim(&dialog, sent).await.unwrap().unwrap();
        assert_eq!(next, sent + 1);
        sent = next;
    }
    // The lowest that a row can say, and a number that no server writes.
    bed.sql("UPDATE active_watchers SET local_cseq = -1");
    assert!(store.claim(&dialog, 0).await.unwrap().unwrap() > 0);
    bed.sql("UPDATE active_watchers SET local_cseq = -2000000000");
    assert_eq!(store.claim(&dialog, 0).await.unwrap(), Some(1));
}

pub async fn a_row_that_is_gone_or_another_dialog_is_not_claimed(bed: Bed) {
    let dialog = bed.dialog("3").await;
    let store = bed.store();
    let gone = Dialog { row: RowId(999_999), ..dialog.clone() };
    assert_eq!(store.claim(&gone, 0).await.unwrap(), None);
    for other in [
        Dialog { call_id: "other".into(), ..dialog.clone() },
        Dialog { call_id: dialog.call_id.to_uppercase().into(), ..dialog.clone() },
        Dialog { local_tag: "other".into(), ..dialog.clone() },
        Dialog { remote_tag: "other".into(), ..dialog.clone() },
        Dialog { remote_tag: dialog.remote_tag.to_uppercase().into(), ..dialog.clone() },
    ] {
        assert_eq!(store.claim(&other, 0).await.unwrap(), None, "{other:?}");
    }
    assert_eq!(bed.local_cseq(&dialog), 3, "no claim has touched the row");
    bed.sql("UPDATE active_watchers SET event = 'presence'");
    assert_eq!(store.claim(&dialog, 0).await.unwrap(), None);
    bed.sql("DELETE FROM active_watchers");
    assert_eq!(store.claim(&dialog, 0).await.unwrap(), None);
}

pub async fn a_null_cseq_counts_as_none(bed: Bed) {
    let dialog = bed.dialog("3").await;
    bed.create_loose_table("VARCHAR(255)", "INTEGER");
    bed.sql(&format!(
        "INSERT INTO active_watchers (id, callid, from_tag, to_tag, event, expires) VALUES \
         ({}, '{}', 'phone-tag', 'notifier-tag', 'message-summary', {ENDS})",
        dialog.row, dialog.call_id
    ));
    let wire = bed.store().claim(&dialog, 0).await.unwrap().unwrap();
    assert_eq!(i64::from(wire), bed.flavour.wire(1));
}

pub async fn an_exhausted_dialog_is_an_error_and_does_not_wrap(bed: Bed) {
    let dialog = bed.dialog("3").await;
    let store = bed.store();
    assert_eq!(store.claim(&dialog, MAX_CSEQ - 1).await.unwrap(), Some(MAX_CSEQ));
    let last = bed.flavour.row(i64::from(MAX_CSEQ));
    assert_eq!(bed.local_cseq(&dialog), last);
    for above in [0, MAX_CSEQ - 1, MAX_CSEQ, u32::MAX] {
        let error = store.claim(&dialog, above).await.unwrap_err();
        assert!(matches!(error, StoreError::Exhausted { row } if row == dialog.row), "{error}");
        assert_eq!(bed.local_cseq(&dialog), last);
    }
}

pub async fn fifty_claimers_never_get_the_same_cseq(bed: Bed) {
    const CLAIMERS: usize = 50;
    const CLAIMS: usize = 4;
    let dialog = bed.dialog("0").await;
    let stores: Vec<_> = (0..5).map(|_| bed.store()).collect();
    let mut claimers = JoinSet::new();
    for claimer in 0..CLAIMERS {
        let (store, dialog) = (stores[claimer % stores.len()].clone(), dialog.clone());
        claimers.spawn(async move {
            let mut claimed = Vec::new();
            for _ in 0..CLAIMS {
                let above = claimed.last().copied().unwrap_or(0);
                claimed.push(store.claim(&dialog, above).await.unwrap().unwrap());
            }
            assert!(claimed.is_sorted(), "{claimed:?}");
            claimed
        });
    }
    let claimed: Vec<u32> = claimers.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<u32> = claimed.iter().copied().collect();
    assert_eq!((claimed.len(), distinct.len()), (CLAIMERS * CLAIMS, CLAIMERS * CLAIMS));
    assert_eq!(bed.local_cseq(&dialog), (CLAIMERS * CLAIMS) as i64, "and none was skipped");
}

pub async fn hostile_dialog_text_is_only_data(bed: Bed) {
    bed.insert(&[
        &[("id", "1"), ("callid", "'x''OR''1''=''1--%'")],
        &[("id", "2"), ("callid", "'innocent'")],
    ]);
    let store = bed.store();
    let found = store.find(&account(), NOW).await.unwrap();
    assert_eq!(ids(&found), [2, 1]);
    let hostile = Dialog::from_row(&found.rows[1]).unwrap();
    assert_eq!(&*hostile.call_id, "x'OR'1'='1--%");
    assert!(store.claim(&hostile, 0).await.unwrap().is_some());
    let elsewhere = Dialog { row: RowId(2), ..hostile.clone() };
    assert_eq!(store.claim(&elsewhere, 0).await.unwrap(), None);
    assert!(!store.delete(&elsewhere).await.unwrap());
    assert!(store.delete(&hostile).await.unwrap());
    assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [2]);
}

pub async fn delete_removes_that_dialog_only(bed: Bed) {
    bed.insert(&[&[("id", "1")], &[("id", "2")]]);
    let store = bed.store();
    let found = store.find(&account(), NOW).await.unwrap();
    let dialog = Dialog::from_row(&found.rows[0]).unwrap();
    let other = Dialog { call_id: "another-call".into(), ..dialog.clone() };
    assert!(!store.delete(&other).await.unwrap(), "the row holds another dialog");
    assert!(store.delete(&dialog).await.unwrap());
    assert!(!store.delete(&dialog).await.unwrap(), "it is gone already");
    assert_eq!(ids(&store.find(&account(), NOW).await.unwrap()), [1]);
}
