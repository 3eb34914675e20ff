//! NOTIFYs by what became of them.

use mwid_core::reconciler::Verdict;

use crate::delivery::Ended;

/// What is done about it.
const OUTCOMES: [&str; 5] = ["delivered", "gone", "cseq_too_low", "again", "later"];

/// The codes that are told apart: those of RFC 3261 and its extensions. A stranger who makes up others
/// makes no more series: they are counted by their class.
const CODES: [u16; 68] = [
    200, 202, 204, 300, 301, 302, 305, 380, 400, 401, 402, 403, 404, 405, 406, 407, 408, 410, 412,
    413, 414, 415, 416, 417, 420, 421, 422, 423, 424, 425, 428, 429, 430, 433, 436, 437, 438, 439,
    440, 469, 470, 480, 481, 482, 483, 484, 485, 486, 487, 488, 489, 491, 493, 494, 500, 501, 502,
    503, 504, 505, 513, 555, 580, 600, 603, 604, 606, 607,
];

/// What is no code of [`CODES`].
const OTHERS: [&str; 9] =
    ["2xx", "3xx", "4xx", "5xx", "6xx", "timeout", "unreachable", "not_sent", "stopped"];

const ENDS: usize = CODES.len() + OTHERS.len();

/// Counted in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notifies([[u64; ENDS]; OUTCOMES.len()]);

impl Default for Notifies {
    fn default() -> Self {
        Self([[0; ENDS]; OUTCOMES.len()])
    }
}

impl Notifies {
    pub(crate) fn count(&mut self, verdict: Verdict, ended: Ended) {
        let outcome = match verdict {
            Verdict::Delivered => 0,
            Verdict::Gone => 1,
            Verdict::TooLow => 2,
            Verdict::Again => 3,
            Verdict::Later(_) => 4,
        };
        let other = match ended {
            Ended::Code(code) => match CODES.binary_search(&code) {
                Ok(at) => return self.0[outcome][at] += 1,
                Err(_) => usize::from(code / 100).clamp(2, 6) - 2,
            },
            Ended::TimedOut => 5,
            Ended::Unreachable => 6,
            Ended::NotSent => 7,
            Ended::Abandoned => 8,
        };
        self.0[outcome][CODES.len() + other] += 1;
    }

    /// Those that there were: outcome, code, how many. What must be there from the start on, so that
    /// its first increase is seen, is there with 0.
    pub(crate) fn each(&self, mut say: impl FnMut(&str, &str, u64)) {
        for (outcome, counts) in OUTCOMES.iter().zip(&self.0) {
            for (at, &count) in counts.iter().enumerate() {
                let expected = [(OUTCOMES[0], 0), (OUTCOMES[4], CODES.len() + 5)];
                if count == 0 && !expected.contains(&(outcome, at)) {
                    continue;
                }
                match CODES.get(at) {
                    Some(code) => say(outcome, &code.to_string(), count),
                    None => say(outcome, OTHERS[at - CODES.len()], count),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(notifies: &Notifies) -> Vec<(String, String, u64)> {
        let mut said = Vec::new();
        notifies.each(|outcome, code, count| said.push((outcome.into(), code.into(), count)));
        said
    }

    #[test]
    fn a_known_code_has_a_series_and_any_other_only_that_of_its_class() {
        assert!(CODES.is_sorted());
        let mut notifies = Notifies::default();
        notifies.count(Verdict::Delivered, Ended::Code(200));
        notifies.count(Verdict::Gone, Ended::Code(481));
        notifies.count(Verdict::Later(None), Ended::TimedOut);
        for code in 200..700 {
            notifies.count(Verdict::Later(None), Ended::Code(code));
        }
        let all = said(&notifies);
        let has = |outcome: &str, code: &str, count: u64| {
            all.contains(&(outcome.to_owned(), code.to_owned(), count))
        };
        assert!(has("delivered", "200", 1) && has("gone", "481", 1), "{all:?}");
        assert!(has("later", "timeout", 1) && has("later", "486", 1), "{all:?}");
        assert!(has("later", "2xx", 97), "{all:?}");
        assert_eq!(all.iter().map(|(.., count)| count).sum::<u64>(), 503);
        assert_eq!(all.len(), 2 + CODES.len() + 6);
    }

    #[test]
    fn before_anything_is_sent_success_and_silence_are_there_with_0() {
        let all = said(&Notifies::default());
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].0.as_str(), all[0].1.as_str(), all[0].2), ("delivered", "200", 0));
        assert_eq!((all[1].0.as_str(), all[1].1.as_str(), all[1].2), ("later", "timeout", 0));
    }
}
