//! What the end of a transaction means for the subscription (RFC 6665 §4.2.2, RFC 5057 §5).
//!
//! | answer | outcome |
//! | --- | --- |
//! | 2xx | [`Outcome::Delivered`] |
//! | 404, 405, 410, 416, 481, 482–485, 489, 501, 502, 604; 480 without Retry-After | [`Outcome::Gone`] |
//! | 401, 407 with a challenge | [`Outcome::Challenged`] |
//! | 500 without Retry-After | [`Outcome::CSeqTooLow`] |
//! | 503 | [`Outcome::NextProxy`] |
//! | Retry-After on any other refusal, 480 and 500 included | [`Outcome::RetryAfter`] |
//! | 408, Timer F | [`Outcome::Unanswered`] |
//! | ICMP | [`Outcome::Unreachable`] |
//! | a datagram that could not be sent | [`Outcome::NotSent`] |
//! | all others | [`Outcome::Refused`] |

use std::time::Duration;

use crate::endpoint::Ending;
use crate::message::{Challenge, Response};

/// The longest Retry-After that is obeyed: a phone that asks for a day gets its lamp in an hour.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// The shortest pause that Retry-After can ask for: `0` must not make a loop.
pub const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What to do about the subscription that a NOTIFY was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The phone has the summary.
    Delivered,
    /// The subscription is gone: leave its row alone until the row changes.
    Gone {
        /// The status code.
        code: u16,
    },
    /// Credentials are wanted: send again in the same dialog, with a new CSeq and branch.
    Challenged {
        /// 401 or 407.
        code: u16,
        /// What was asked, at least one.
        challenges: Vec<Challenge>,
    },
    /// Somebody else counted further in this dialog: claim a higher CSeq and send again.
    CSeqTooLow,
    /// The subscription stands; send again after the pause that was asked for.
    RetryAfter {
        /// The status code.
        code: u16,
        /// The pause, [`MIN_RETRY_AFTER`] to [`MAX_RETRY_AFTER`].
        after: Duration,
    },
    /// The proxy is overloaded or going down (503): try the next one, and this one no sooner
    /// than after the pause, when it asked for one.
    NextProxy {
        /// The pause, [`MIN_RETRY_AFTER`] to [`MAX_RETRY_AFTER`].
        retry_after: Option<Duration>,
    },
    /// Nobody answered, or a proxy said so (408): keep the row, back off, send again.
    Unanswered,
    /// Nothing listens where the NOTIFY went: keep the row, back off, send again.
    Unreachable,
    /// The NOTIFY could not be sent; others can: keep the row, back off, send again.
    NotSent,
    /// mwid ended the transaction itself; whether the phone has the summary is not known.
    Abandoned,
    /// Refused for a reason that says nothing about the subscription: back off, send again.
    Refused {
        /// The status code.
        code: u16,
    },
}

/// What the end of a NOTIFY's transaction means. Total: every ending has an outcome.
#[must_use]
pub fn outcome(ending: &Ending) -> Outcome {
    match ending {
        Ending::Final(response) => of_response(response),
        Ending::TimedOut => Outcome::Unanswered,
        Ending::Unreachable => Outcome::Unreachable,
        Ending::NotSent { .. } => Outcome::NotSent,
        Ending::Abandoned => Outcome::Abandoned,
    }
}

fn of_response(response: &Response) -> Outcome {
    let code = response.code;
    let after = response.retry_after.map(|after| after.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER));
    match (code, after) {
        (200..=299, _) => Outcome::Delivered,
        // RFC 6665 §4.2.2 and the codes that RFC 5057 §5.1 says destroy a usage or its dialog.
        // A Retry-After does not bring back what is gone.
        (404 | 405 | 410 | 416 | 481..=485 | 489 | 501 | 502 | 604, _) | (480, None) => {
            Outcome::Gone { code }
        }
        (401 | 407, _) if !response.challenges.is_empty() => {
            Outcome::Challenged { code, challenges: response.challenges.clone() }
        }
        (408, _) => Outcome::Unanswered,
        (500, None) => Outcome::CSeqTooLow,
        (503, retry_after) => Outcome::NextProxy { retry_after },
        (300.., Some(after)) => Outcome::RetryAfter { code, after },
        _ => Outcome::Refused { code },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use proptest::prelude::*;

    fn answer(code: u16, headers: &str) -> Outcome {
        let text = format!(
            "SIP/2.0 {code} x\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nCall-ID: a\r\n\
             CSeq: 5 NOTIFY\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        let message = Message::parse(text.as_bytes()).unwrap();
        outcome(&Ending::Final(Response::read(&message).unwrap()))
    }

    const WAIT: &str = "Retry-After: 120 (rebooting);duration=60\r\n";
    const TWO_MINUTES: Duration = Duration::from_secs(120);

    #[test]
    fn any_2xx_is_delivered() {
        for code in [200, 202, 204, 299] {
            assert_eq!(answer(code, ""), Outcome::Delivered);
            assert_eq!(answer(code, WAIT), Outcome::Delivered);
        }
    }

    #[test]
    fn rfc6665_4_2_2_and_rfc5057_these_codes_mean_that_the_subscription_is_gone() {
        for code in [404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 502, 604] {
            assert_eq!(answer(code, ""), Outcome::Gone { code });
            if code != 480 {
                assert_eq!(answer(code, WAIT), Outcome::Gone { code });
            }
        }
    }

    #[test]
    fn rfc5057_a_480_with_retry_after_waits() {
        assert_eq!(answer(480, WAIT), Outcome::RetryAfter { code: 480, after: TWO_MINUTES });
    }

    #[test]
    fn a_challenge_is_handed_on_with_its_origin() {
        let www = "WWW-Authenticate: Digest realm=\"a, b\", nonce=\"1\"\r\n";
        let proxy = "Proxy-Authenticate: Digest realm=\"p\", nonce=\"2\"\r\n";
        let Outcome::Challenged { code: 407, challenges } = answer(407, &[proxy, www].concat())
        else {
            panic!("407 is a challenge");
        };
        assert!(challenges[0].proxy);
        assert_eq!(&*challenges[0].value, "Digest realm=\"p\", nonce=\"2\"");
        assert!(!challenges[1].proxy);
        assert_eq!(&*challenges[1].value, "Digest realm=\"a, b\", nonce=\"1\"");
        assert!(matches!(answer(401, www), Outcome::Challenged { code: 401, .. }));
    }

    #[test]
    fn a_401_that_asks_nothing_is_refused() {
        assert_eq!(answer(401, ""), Outcome::Refused { code: 401 });
        assert_eq!(answer(407, ""), Outcome::Refused { code: 407 });
    }

    #[test]
    fn a_500_is_about_cseq_unless_it_names_a_pause() {
        assert_eq!(answer(500, ""), Outcome::CSeqTooLow);
        assert_eq!(answer(500, WAIT), Outcome::RetryAfter { code: 500, after: TWO_MINUTES });
    }

    #[test]
    fn a_503_goes_to_the_next_proxy() {
        assert_eq!(answer(503, ""), Outcome::NextProxy { retry_after: None });
        assert_eq!(answer(503, WAIT), Outcome::NextProxy { retry_after: Some(TWO_MINUTES) });
    }

    #[test]
    fn a_busy_phone_that_names_a_pause_is_waited_for() {
        for code in [413, 486, 600, 603, 302] {
            assert_eq!(answer(code, WAIT), Outcome::RetryAfter { code, after: TWO_MINUTES });
            assert_eq!(answer(code, ""), Outcome::Refused { code });
        }
    }

    #[test]
    fn a_408_is_silence_by_another_name() {
        assert_eq!(answer(408, ""), Outcome::Unanswered);
        assert_eq!(answer(408, WAIT), Outcome::Unanswered);
        assert_eq!(outcome(&Ending::TimedOut), Outcome::Unanswered);
    }

    #[test]
    fn icmp_a_failed_send_and_shutdown_have_outcomes_of_their_own() {
        assert_eq!(outcome(&Ending::Unreachable), Outcome::Unreachable);
        assert_eq!(outcome(&Ending::NotSent { why: "x".into() }), Outcome::NotSent);
        assert_eq!(outcome(&Ending::Abandoned), Outcome::Abandoned);
    }

    #[test]
    fn retry_after_is_kept_within_its_bounds() {
        let after = |value: &str| match answer(503, &format!("Retry-After: {value}\r\n")) {
            Outcome::NextProxy { retry_after } => retry_after.map(|after| after.as_secs()),
            other => panic!("503 became {other:?}"),
        };
        assert_eq!(after("0"), Some(1));
        assert_eq!(after("86400"), Some(3600));
        assert_eq!(after("99999999999999999999999"), Some(3600));
        assert_eq!(after("-5"), None);
        assert_eq!(after("5x"), None);
        assert_eq!(after("Tue, 01 Jan 2030 00:00:00 GMT"), None);
    }

    proptest! {
        #[test]
        fn every_final_code_has_an_outcome_that_agrees_with_its_class(
            code in 200_u16..700,
            waits in any::<bool>(),
        ) {
            let got = answer(code, if waits { WAIT } else { "" });
            prop_assert_eq!(got == Outcome::Delivered, code < 300, "only 2xx delivers");
            match got {
                Outcome::Gone { code: said }
                | Outcome::Refused { code: said }
                | Outcome::RetryAfter { code: said, .. } => prop_assert_eq!(said, code),
                Outcome::Delivered | Outcome::Unanswered => {}
                Outcome::CSeqTooLow => prop_assert_eq!((code, waits), (500, false)),
                Outcome::NextProxy { .. } => prop_assert_eq!(code, 503),
                other => prop_assert!(false, "{} became {:?}", code, other),
            }
        }
    }
}
