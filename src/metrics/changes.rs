//! Changes of mailboxes by who said so.

/// The doors that counts come through.
const SOURCES: [&str; 6] = ["spool", "externnotify", "ami", "http", "sipx", "webhook"];

/// Counted in place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Changes([u64; SOURCES.len()]);

impl Changes {
    /// A mailbox holds something else than before. What no source is called is externnotify: it alone
    /// calls without counts, and has the mailbox counted.
    pub(crate) fn count(&mut self, source: &str) {
        let at = SOURCES.iter().position(|known| *known == source).unwrap_or(1);
        self.0[at] += 1;
    }

    pub(crate) fn each(&self, mut say: impl FnMut(&str, u64)) {
        SOURCES.iter().zip(self.0).for_each(|(source, count)| say(source, count));
    }
}
