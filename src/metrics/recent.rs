//! The last minutes of NOTIFYs, for the status page: how many ended how, how long they took, and the
//! last ones by name.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mwid_core::mailbox::Account;
use mwid_core::reconciler::Verdict;
use serde::Serialize;
use serde_json::{Value, json};

use super::histogram::{BOUNDS, bucket};
use crate::delivery::Report;

/// How long a slot is.
const SLOT: Duration = Duration::from_secs(10);

/// A quarter of an hour.
const SLOTS: usize = 90;

/// NOTIFYs that are remembered by name.
const NAMED: usize = 50;

/// How many took how long: by [`BOUNDS`], and the rest.
type Times = [u32; BOUNDS.len() + 1];

/// What ended within one slot.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Slot {
    /// How many slots ago; 0 is now, and not over yet.
    ago: u64,
    delivered: u32,
    gone: u32,
    failed: u32,
    /// First copy to final answer.
    answered: Times,
    /// A change to the phone's 2xx.
    acknowledged: Times,
}

#[derive(Clone, Debug)]
struct Named {
    at: Instant,
    account: Account,
    outcome: &'static str,
    answer: String,
    copies: u32,
    took: Duration,
}

/// Bounded: a ring of slots and a few names.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    since: Instant,
    slots: [Slot; SLOTS],
    /// The number of the last slot, counted from `since`.
    last: u64,
    named: VecDeque<Named>,
}

impl Recent {
    pub(crate) fn new(now: Instant) -> Self {
        let (slots, named) = ([Slot::default(); SLOTS], VecDeque::with_capacity(NAMED));
        Self { since: now, slots, last: 0, named }
    }

    /// A NOTIFY has ended; `waited` is how long its phone waited for a change, if it did. Only the name
    /// of an account that may be named is remembered: others take no place from it.
    pub(crate) fn note(
        &mut self,
        report: Report,
        waited: Option<Duration>,
        may_be_named: bool,
        now: Instant,
    ) {
        let Report { order, verdict, answer, ended, copies, elapsed } = report;
        let slot = self.slot(now);
        let (outcome, count) = match verdict {
            Verdict::Delivered => ("delivered", &mut slot.delivered),
            Verdict::Gone => ("gone", &mut slot.gone),
            Verdict::TooLow | Verdict::Again | Verdict::Later(_) => ("failed", &mut slot.failed),
        };
        *count += 1;
        if ended.is_answer() {
            slot.answered[bucket(elapsed)] += 1;
        }
        if let Some(waited) = waited {
            slot.acknowledged[bucket(waited)] += 1;
        }
        if !may_be_named {
            return;
        }
        if self.named.len() == NAMED {
            self.named.pop_back();
        }
        let account = order.account;
        self.named.push_front(Named { at: now, account, outcome, answer, copies, took: elapsed });
    }

    /// Forgets the names of these.
    pub(crate) fn forget(&mut self, is_gone: impl Fn(&Account) -> bool) {
        self.named.retain(|named| !is_gone(&named.account));
    }

    /// The slot of now; those that went by meanwhile are empty.
    fn slot(&mut self, now: Instant) -> &mut Slot {
        let number = self.number(now);
        for passed in (self.last + 1..=number).rev().take(SLOTS) {
            self.slots[index(passed)] = Slot::default();
        }
        self.last = self.last.max(number);
        &mut self.slots[index(self.last)]
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs() / SLOT.as_secs()
    }

    /// The slots in which something ended, the newest first, and the last NOTIFYs by name.
    pub(crate) fn json(&self, now: Instant) -> Value {
        let number = self.number(now);
        let ended = |number: u64| {
            let slot = self.slots[index(number)];
            (slot.delivered + slot.gone + slot.failed > 0).then_some(slot)
        };
        let slots = (self.last.saturating_sub(SLOTS as u64 - 1)..=self.last).rev();
        let slots =
            slots.filter_map(|its| Some(Slot { ago: number.saturating_sub(its), ..ended(its)? }));
        let slots: Vec<Slot> = slots.filter(|slot| slot.ago < SLOTS as u64).collect();
        let named = self.named.iter().map(|named| {
            json!({
                "account": named.account.as_str(), "outcome": named.outcome,
                "answer": named.answer, "copies": named.copies,
                "took_ms": named.took.as_secs_f64() * 1000.0,
                "ago_seconds": now.saturating_duration_since(named.at).as_secs(),
            })
        });
        json!({
            "slot_seconds": SLOT.as_secs(), "slots_shown": SLOTS, "bounds_seconds": BOUNDS,
            "slots": slots, "notifies": named.collect::<Value>(),
        })
    }
}

fn index(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mwid_core::dialog::{Dialog, Row};

    use super::*;
    use crate::delivery::{Ended, Order};

    fn report(verdict: Verdict) -> Report {
        let text = |value: &str| Some(value.to_owned());
        let row = Row {
            id: 1,
            presentity_uri: text("sip:202@example.com"),
            from_user: text("202"),
            from_domain: text("example.com"),
            to_user: text("202"),
            to_domain: text("example.com"),
            to_tag: text("server"),
            from_tag: text("phone"),
            callid: text("call"),
            local_cseq: Some(1),
            remote_cseq: Some(1),
            contact: text("sip:202@192.0.2.7"),
            expires: Some(1_795_000_000),
            local_contact: text("sip:192.0.2.1"),
            ..Row::default()
        };
        let dialog = Arc::new(Dialog::from_row(&row).unwrap());
        let account = dialog.account.clone();
        Report {
            order: Order { dialog, account, summary: None, cseq: 2 },
            verdict,
            answer: "200 OK".to_owned(),
            ended: Ended::Code(200),
            copies: 1,
            elapsed: Duration::from_millis(3),
        }
    }

    fn shown(recent: &Recent, now: Instant) -> Vec<(u64, u64, u64)> {
        let json = recent.json(now);
        let slots = json["slots"].as_array().unwrap();
        let number = |slot: &Value, key: &str| slot[key].as_u64().unwrap();
        slots
            .iter()
            .map(|it| (number(it, "ago"), number(it, "delivered"), number(it, "gone")))
            .collect()
    }

    #[test]
    fn each_slot_has_its_own_and_is_forgotten_after_a_quarter_of_an_hour() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recent = Recent::new(start);
        assert_eq!(shown(&recent, start), []);
        recent.note(report(Verdict::Delivered), Some(Duration::from_millis(40)), true, at(1));
        recent.note(report(Verdict::Gone), None, true, at(9));
        recent.note(report(Verdict::Delivered), None, true, at(25));
        assert_eq!(shown(&recent, at(29)), [(0, 1, 0), (2, 1, 1)]);
        let json = recent.json(at(29));
        assert_eq!(json["slots"][1]["acknowledged"][5], 1, "40 ms is not above 50 ms");
        assert_eq!(json["slots"][1]["answered"][2], 2, "3 ms is not above 5 ms");
        assert_eq!(shown(&recent, at(899)), [(87, 1, 0), (89, 1, 1)]);
        assert_eq!(shown(&recent, at(900)), [(88, 1, 0)]);
        // Round the ring, long after.
        recent.note(report(Verdict::Delivered), None, true, at(20_005));
        assert_eq!(shown(&recent, at(20_005)), [(0, 1, 0)]);
    }

    #[test]
    fn only_the_last_are_named_the_newest_first() {
        let start = Instant::now();
        let mut recent = Recent::new(start);
        for seconds in 0..60 {
            let at = start + Duration::from_secs(seconds);
            recent.note(report(Verdict::Delivered), None, true, at);
        }
        // Counted, and takes no place.
        recent.note(report(Verdict::Gone), None, false, start + Duration::from_secs(59));
        let json = recent.json(start + Duration::from_secs(60));
        let named = json["notifies"].as_array().unwrap();
        assert_eq!(named.len(), NAMED);
        assert_eq!(named[0]["ago_seconds"], 1);
        assert_eq!(named[0]["account"], "sip:202@example.com");
        assert_eq!(named[0]["outcome"], "delivered");
        assert_eq!(json["slots"][0]["gone"], 1);
        recent.forget(|account| account.domain() == "other.example");
        assert_eq!(recent.json(start)["notifies"].as_array().unwrap().len(), NAMED);
        recent.forget(|account| account.domain() == "example.com");
        assert_eq!(recent.json(start)["notifies"], json!([]));
    }
}
