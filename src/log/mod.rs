//! The log: one line an event, to the journal where systemd started mwid, else to stderr.
//!
//! What an event is about are its fields: `account`, `mailbox`, `call_id`, `code`. They end the line,
//! and in the journal they are fields too: `journalctl -u mwid MWID_ACCOUNT=sip:202@example.com`.

use std::env;
use std::io;

use nix::sys::stat::fstat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

mod entry;
mod journal;

use journal::Journal;

/// Starts the log of this process. `MWID_LOG=debug` says more.
pub fn start() {
    let filter = EnvFilter::try_from_env("MWID_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::registry().with(filter);
    if !is_journal() {
        let stderr = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        return log.with(stderr.with_ansi(false).with_target(false)).init();
    }
    match Journal::connect() {
        Ok(journal) => log.with(journal).init(),
        Err(error) => {
            // The journal has its own time and takes lines from stderr as well.
            let stderr = tracing_subscriber::fmt::layer().with_writer(io::stderr).without_time();
            log.with(stderr.with_ansi(false).with_target(false)).init();
            tracing::warn!("the journal takes no fields, only lines: {error}");
        }
    }
}

/// Whether stderr leads to the journal, systemd.exec(5): somebody may have put something else there.
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let here = fstat(io::stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    here.is_ok_and(|here| here == stream)
}
