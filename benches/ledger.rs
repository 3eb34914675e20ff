//! What it costs to remember what the accounts show: `cargo bench --bench ledger`.
//!
//! 100,000 accounts with a mailbox each, written, changed, read again; `docs/performance.md` says what
//! each row means.

use std::error::Error;
use std::fs;
use std::time::Instant;

use mwid::ledger::{Ledger, Member};
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::summary::Summary;

const ACCOUNTS: u32 = 100_000;

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
    Ok(())
}
