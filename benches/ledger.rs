//! What the ledger costs: `cargo bench --bench ledger`.
//!
//! 100,000 accounts with a mailbox each, written, changed, read again; and the note of a CSeq that each
//! NOTIFY waits for. `docs/performance.md` says what each row means.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use mwid::ledger::{Ledger, Member};
use mwid_core::dialog::{Dialog, Row};
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::summary::Summary;

const ACCOUNTS: u32 = 100_000;
const NOTES: u32 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ledger.db");
    let mut accounts = Vec::new();
    for number in 0..ACCOUNTS {
        let number = number.to_string();
        let mailbox = Mailbox::new(&number, "default")?;
        accounts.push((Account::new(&number, "example.com")?, mailbox));
    }
    let light = |ledger: &Ledger, new: u32| {
        let summary = Summary { new, ..Summary::default() };
        let start = Instant::now();
        for (account, mailbox) in &accounts {
            ledger.lit(account, summary, vec![Member { mailbox: mailbox.clone(), here: true }]);
        }
        start.elapsed()
    };
    println!("{ACCOUNTS} accounts {:>16} {:>16}", "in the loop", "until written");
    for (what, new) in [("all are new", 1), ("none changed", 1), ("all changed", 2)] {
        let (ledger, _) = Ledger::open(&path, 0)?;
        let start = Instant::now();
        let asked = light(&ledger, new);
        // Waits for the writer.
        drop(ledger);
        println!("{what:<15} {asked:>16.1?} {:>16.1?}", start.elapsed());
    }
    let start = Instant::now();
    let (_ledger, memory) = Ledger::open(&path, 0)?;
    println!("{:<15} {:>16.1?}", "read", start.elapsed());
    assert_eq!(memory.accounts.len(), accounts.len());
    println!("the file has {} KiB", fs::metadata(&path)?.len() / 1024);
    notes()
}

/// The note of a CSeq, which is on its way to the disk before the NOTIFY is.
fn notes() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let (ledger, _) = Ledger::open(&folder.path().join("ledger.db"), 0)?;
    let dialogs: Vec<Arc<Dialog>> = (0..NOTES).map(dialog).collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut alone = Vec::new();
        for dialog in &dialogs {
            let start = Instant::now();
            ledger.sending(vec![(dialog.clone(), 2)]).await;
            alone.push(start.elapsed());
        }
        alone.sort_unstable();
        let (median, p99) = (alone[alone.len() / 2], alone[alone.len() * 99 / 100]);
        println!("a CSeq noted, alone: median {median:.1?}, p99 {p99:.1?}");
        let start = Instant::now();
        ledger.sending(dialogs.iter().map(|dialog| (dialog.clone(), 3)).collect()).await;
        println!("a CSeq noted, {NOTES} at once: {:.1?} each", start.elapsed() / NOTES);
    });
    Ok(())
}

fn dialog(number: u32) -> Result<Arc<Dialog>, Box<dyn Error>> {
    let text = |value: &str| Some(value.to_owned());
    let row = Row {
        id: number.into(),
        presentity_uri: Some(format!("sip:{number}@example.com")),
        from_user: Some(number.to_string()),
        from_domain: text("example.com"),
        to_user: Some(number.to_string()),
        to_domain: text("example.com"),
        to_tag: text("server"),
        from_tag: text("phone"),
        callid: Some(format!("{number}@192.0.2.7")),
        local_cseq: Some(1),
        remote_cseq: Some(1),
        contact: text("sip:phone@192.0.2.7:5062"),
        expires: Some(4_000_000_000),
        local_contact: text("sip:192.0.2.1:5060"),
        ..Row::default()
    };
    Ok(Arc::new(Dialog::from_row(&row)?))
}
