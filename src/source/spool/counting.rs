//! One mailbox: watched, counted, observed; and what its absence means.

use std::path::PathBuf;
use std::time::Instant;

use mwid_core::mailbox::Mailbox;
use mwid_core::reconciler::Urgency;
use mwid_core::summary::Summary;

use super::belief::Belief;
use super::count::{Counts, FOLDERS, Identity, Seen, count_mailbox, look};
use super::health::Subject;
use super::owners::{Holds, Owner};
use super::tree::{Entry, SELF};
use super::worker::{Closed, Worker};
use crate::source::Observation;

/// How an observation of this source is marked.
const SPOOL: &str = "spool";
const CALL: &str = "call";

/// What came of counting a mailbox.
enum Outcome {
    /// It holds this.
    Counted(Summary),
    /// It held messages once, and its folder, or all that was in it, was removed.
    Emptied,
    /// The spool has no such mailbox, as far as can be seen.
    NotThere,
    /// It could not be counted. That has been noted and will be tried again.
    Failed,
}

impl Worker {
    /// Counts a mailbox and says what it holds. `rewatch`: its folders may be new ones.
    pub(super) fn recount(
        &mut self,
        mailbox: &Mailbox,
        rewatch: bool,
        urgency: Urgency,
    ) -> Result<(), Closed> {
        match self.count(mailbox, rewatch) {
            Outcome::Counted(summary) => self.judge(mailbox, summary, SPOOL, urgency),
            Outcome::Emptied => self.judge(mailbox, Summary::default(), SPOOL, urgency),
            Outcome::Failed => self.say(Observation::Failed(mailbox.clone())),
            Outcome::NotThere => Ok(()),
        }
    }

    /// A mailbox that was removed holds nothing.
    pub(super) fn emptied(&mut self, mailbox: &Mailbox) -> Result<(), Closed> {
        self.judge(mailbox, Summary::default(), SPOOL, Urgency::Fresh)
    }

    /// Counts a mailbox if its folders changed and says what it holds if that changed.
    pub(super) fn sweep(&mut self, mailbox: &Mailbox) -> Result<(), Closed> {
        let before = self.tree.get(mailbox).unwrap_or_default();
        let folder = self.folder(mailbox);
        let same = |(seen, name): (&Seen, &&str)| seen.still(&folder.join(name));
        if before.has_summary() && !before.lost && before.seen.iter().zip(&FOLDERS).all(same) {
            return Ok(());
        }
        match self.count(mailbox, false) {
            Outcome::Failed => self.say(Observation::Failed(mailbox.clone())),
            Outcome::Counted(summary) if before.is_news(summary) => {
                self.judge(mailbox, summary, SPOOL, Urgency::Fresh)
            }
            Outcome::Emptied if before.is_news(Summary::default()) => {
                self.judge(mailbox, Summary::default(), SPOOL, Urgency::Fresh)
            }
            _ => Ok(()),
        }
    }

    /// externnotify named a mailbox: the messages that the spool holds count; what was given counts
    /// where the spool holds none ([`super::belief`]).
    pub(super) fn heed_nudge(
        &mut self,
        mailbox: &Mailbox,
        given: Option<Summary>,
    ) -> Result<(), Closed> {
        if let Some(given) = given {
            self.beliefs.hear(mailbox, given);
        }
        match (self.count(mailbox, false), given) {
            (Outcome::Counted(summary), _) => self.judge(mailbox, summary, CALL, Urgency::Fresh),
            (Outcome::Emptied, _) => self.judge(mailbox, Summary::default(), CALL, Urgency::Fresh),
            (Outcome::Failed | Outcome::NotThere, Some(summary)) => {
                self.say(Observation::Given { mailbox: mailbox.clone(), summary })
            }
            (Outcome::Failed, None) => self.say(Observation::Failed(mailbox.clone())),
            (Outcome::NotThere, None) => {
                tracing::warn!(
                    %mailbox,
                    path = ?self.folder(mailbox),
                    "externnotify named a mailbox that the spool does not have and gave no counts; \
                     nothing is sent"
                );
                Ok(())
            }
        }
    }

    /// The folders of a mailbox hold this: says that, or what a call said if that is to be believed.
    fn judge(
        &mut self,
        mailbox: &Mailbox,
        counted: Summary,
        source: &'static str,
        urgency: Urgency,
    ) -> Result<(), Closed> {
        let judgement = self.beliefs.judge(mailbox, counted, Instant::now());
        if let Some(again) = judgement.again {
            self.pending.retry(mailbox, again);
        }
        if judgement.say {
            tracing::warn!(
                %mailbox,
                "the calls of externnotify count messages that the spool does not hold: it looks \
                 like ODBC or IMAP storage; set [spool] enabled = no"
            );
        }
        let mailbox = mailbox.clone();
        self.say(match judgement.belief {
            Belief::Call(summary) => Observation::Given { mailbox, summary },
            belief => Observation::Counted {
                mailbox,
                summary: counted,
                source,
                urgency,
                sure: belief == Belief::Folder,
            },
        })
    }

    /// The folder of a mailbox, by its own name.
    fn folder(&self, mailbox: &Mailbox) -> PathBuf {
        self.settings.path.join(mailbox.context()).join(mailbox.number())
    }

    fn count(&mut self, mailbox: &Mailbox, rewatch: bool) -> Outcome {
        let folder = self.folder(mailbox);
        let known = self.tree.get(mailbox);
        let mut entry = known.unwrap_or_default();
        let counted = self.count_watched(mailbox, &mut entry, rewatch);
        if let Ok(counts) = &counted
            && counts.all()
        {
            return self.counted(mailbox, entry, counts);
        }
        let error = match (counted, look(&folder)) {
            (Ok(counts), Ok(Some(metadata))) if metadata.is_dir() => {
                return self.counted(mailbox, entry, &counts);
            }
            (_, Ok(None)) => return self.vanished(mailbox, known),
            // A file in the context's folder, and no mailbox.
            (_, Ok(Some(metadata))) if known.is_none() && !metadata.is_dir() => {
                return Outcome::NotThere;
            }
            (Err(error), _) => error.to_string(),
            (Ok(_), Ok(Some(_))) => format!("{} is not a folder", folder.display()),
            (Ok(_), Err(error)) => format!("cannot look at {}: {error}", folder.display()),
        };
        if known.is_some() {
            self.tree.put(mailbox, entry);
        }
        self.failed(mailbox, error)
    }

    /// Watches each folder before it is read.
    fn count_watched(
        &mut self,
        mailbox: &Mailbox,
        entry: &mut Entry,
        rewatch: bool,
    ) -> Result<Counts, super::count::CountError> {
        let folder = self.folder(mailbox);
        let Some(watches) = &mut self.watches else { return count_mailbox(&folder, |_, _| {}) };
        let owner = Owner::Mailbox(mailbox.clone());
        let Entry { watched, slot, .. } = entry;
        if rewatch || !watched[SELF] {
            watched[SELF] = watches.add(&folder, &owner, Holds::Folders, slot);
        }
        let counts = count_mailbox(&folder, |index, path| {
            if rewatch || !watched[index] {
                watched[index] = watches.add(path, &owner, Holds::Messages, slot);
            }
        })?;
        for (index, messages) in counts.messages.iter().enumerate() {
            entry.watched[index] &= messages.is_some();
        }
        Ok(counts)
    }

    fn counted(&mut self, mailbox: &Mailbox, mut entry: Entry, counts: &Counts) -> Outcome {
        self.condition.well(&Subject::Mailbox(mailbox.clone()));
        let was_counted = entry.has_summary();
        if counts.any() || was_counted {
            entry.count(counts.summary());
        }
        entry.seen = counts.seen;
        (entry.lost, entry.remembered) = (false, false);
        self.tree.put(mailbox, entry);
        match (counts.any(), was_counted) {
            (true, _) => Outcome::Counted(counts.summary()),
            (false, true) => Outcome::Emptied,
            // A folder with greetings only: perhaps its messages are elsewhere (ODBC, IMAP).
            (false, false) => Outcome::NotThere,
        }
    }

    fn failed(&mut self, mailbox: &Mailbox, error: String) -> Outcome {
        let wait = self.condition.trouble(Subject::Mailbox(mailbox.clone()), error);
        self.pending.retry(mailbox, Instant::now() + wait);
        Outcome::Failed
    }

    /// The folder of a mailbox is gone. That it is empty is believed only if the folder of its
    /// context is the one that it was.
    fn vanished(&mut self, mailbox: &Mailbox, known: Option<Entry>) -> Outcome {
        self.condition.well(&Subject::Mailbox(mailbox.clone()));
        let Some(mut entry) = known else { return Outcome::NotThere };
        let context = self.settings.path.join(mailbox.context());
        let now = look(&context).ok().flatten().map(|metadata| Identity::of(&metadata));
        let then = self.tree.contexts.get(mailbox.context()).and_then(|context| context.identity);
        let is_same = now.is_some() && now == then;
        // What is lost with its context is a trouble already, unless the context was just found.
        if entry.lost && (is_same || then.is_none()) {
            return Outcome::NotThere;
        }
        if is_same {
            self.tree.remove(mailbox);
            return if entry.has_summary() { Outcome::Emptied } else { Outcome::NotThere };
        }
        (entry.lost, entry.watched) = (true, [false; 4]);
        self.tree.put(mailbox, entry);
        // Until the next look at it: nothing is complete without it.
        let error = format!("{}: it is gone, or not the folder that it was", context.display());
        self.condition.trouble(Subject::Context(mailbox.context().into()), error);
        (self.next_pulse, self.pulse_again) = (Instant::now(), true);
        Outcome::NotThere
    }
}
