//! SIP PUBLISH (RFC 3903): what is asked of the presence server, and what its answers mean for a
//! publication. The way there and back is `sip`'s.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use mwid_core::message::Response;
use mwid_core::publication::{ETag, Order, Outcome, TRIAL, Wish};

use crate::config::{Config, HostPort};

/// The longest Min-Expires that is obeyed: whoever asks for more is not to be pleased.
const MAX_EXPIRES: Duration = Duration::from_secs(31_536_000);

/// What is known of the presence servers.
#[derive(Debug)]
pub(super) struct Publisher {
    expires: Duration,
    /// What each server wants at least (423).
    min_expires: HashMap<HostPort, Duration>,
    /// Refusals that were said.
    complained: HashSet<u16>,
}

impl Publisher {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            expires: config.publish.expires,
            min_expires: HashMap::new(),
            complained: HashSet::new(),
        }
    }

    /// How long the server is asked to keep it.
    pub(super) fn expires(&self, order: &Order, server: &HostPort) -> Duration {
        let wanted = match order.wish {
            Wish::Remove => return Duration::ZERO,
            Wish::State(_) => self.expires.min(TRIAL),
            Wish::Refresh(_) => self.expires,
        };
        self.min_expires.get(server).copied().unwrap_or_default().max(wanted)
    }

    /// What an answer means that is about the publication; `None` for all others.
    pub(super) fn outcome(
        &mut self,
        order: &Order,
        server: &HostPort,
        asked: Duration,
        response: &Response,
    ) -> Option<Outcome> {
        match response.code {
            200..=299 => {
                self.complained.clear();
                Some(self.accepted(order, server, asked, response))
            }
            412 => Some(Outcome::Stale),
            423 => {
                let min = response.min_expires.filter(|min| *min > asked && *min <= MAX_EXPIRES);
                self.min_expires.extend(min.map(|min| (server.clone(), min)));
                Some(min.map_or(Outcome::Later(None), |_| Outcome::Again))
            }
            _ => None,
        }
    }

    fn accepted(
        &mut self,
        order: &Order,
        server: &HostPort,
        asked: Duration,
        response: &Response,
    ) -> Outcome {
        if order.wish == Wish::Remove {
            return Outcome::Accepted { etag: None, expires: None };
        }
        let etag = response.sip_etag.as_deref().and_then(|etag| ETag::new(etag).ok());
        if etag.is_none() && self.complained.insert(response.code) {
            tracing::error!(%server, "the server {server} accepts a PUBLISH and gives no SIP-ETag (RFC 3903 §6): each change will stand beside the one before until that ends");
        }
        Outcome::Accepted { etag, expires: Some(response.expires.unwrap_or(asked)) }
    }

    /// The server refuses, and will refuse the next one too. Said once for each code.
    pub(super) fn refused(&mut self, order: &Order, server: &HostPort, code: u16, reason: &str) {
        if self.complained.insert(code) {
            tracing::error!(account = %order.account, %server, "the server {server} refuses PUBLISH: {code} {reason}; does its script call handle_publish() for mwid's address?");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mwid_core::publication::Way;
    use mwid_core::summary::Summary;

    fn order(wish: Wish) -> Order {
        let account = "202@example.com".parse().unwrap();
        Order { way: Way::Publish, account, wish, etag: None }
    }

    fn response(code: u16) -> Response {
        Response {
            code,
            reason: "x".into(),
            retry_after: None,
            challenges: Vec::new(),
            sip_etag: None,
            expires: None,
            min_expires: None,
        }
    }

    const STATE: Wish = Wish::State(Summary { new: 1, old: 0, new_urgent: 0, old_urgent: 0 });
    const HOUR: Duration = Duration::from_secs(3600);

    fn publisher() -> (Publisher, HostPort) {
        (Publisher::new(&Config::default()), "192.0.2.1".parse().unwrap())
    }

    #[test]
    fn a_change_is_asked_for_a_minute_and_a_refresh_for_the_full_time() {
        let (publisher, server) = publisher();
        assert_eq!(publisher.expires(&order(STATE), &server), TRIAL);
        let refresh = Wish::Refresh(Summary::default());
        assert_eq!(publisher.expires(&order(refresh), &server), HOUR);
        assert_eq!(publisher.expires(&order(Wish::Remove), &server), Duration::ZERO);
    }

    #[test]
    fn rfc3903_6_the_server_says_how_long_it_keeps_it_and_what_it_calls_it() {
        let (mut publisher, server) = publisher();
        let answer = Response {
            sip_etag: Some("a.1.2".into()),
            expires: Some(Duration::from_secs(30)),
            ..response(200)
        };
        let outcome = publisher.outcome(&order(STATE), &server, TRIAL, &answer);
        let etag = Some(ETag::new("a.1.2").unwrap());
        let expires = Some(Duration::from_secs(30));
        assert_eq!(outcome, Some(Outcome::Accepted { etag, expires }));
        let hostile = Response { sip_etag: Some("a b".into()), ..response(200) };
        let outcome = publisher.outcome(&order(STATE), &server, TRIAL, &hostile);
        assert_eq!(outcome, Some(Outcome::Accepted { etag: None, expires: Some(TRIAL) }));
    }

    #[test]
    fn rfc3903_11_2_min_expires_is_remembered_of_the_server_that_wants_it() {
        let (mut publisher, server) = publisher();
        let min =
            |seconds| Response { min_expires: Some(Duration::from_secs(seconds)), ..response(423) };
        let mut outcome = |asked, answer| publisher.outcome(&order(STATE), &server, asked, &answer);
        assert_eq!(outcome(TRIAL, min(120)), Some(Outcome::Again));
        assert_eq!(outcome(TRIAL, min(60)), Some(Outcome::Later(None)), "it has that already");
        assert_eq!(outcome(TRIAL, min(u64::from(u32::MAX))), Some(Outcome::Later(None)));
        assert_eq!(outcome(TRIAL, response(423)), Some(Outcome::Later(None)));
        assert_eq!(publisher.expires(&order(STATE), &server), Duration::from_secs(120));
        let other = "192.0.2.2".parse().unwrap();
        assert_eq!(publisher.expires(&order(STATE), &other), TRIAL);
        assert_eq!(publisher.expires(&order(Wish::Remove), &server), Duration::ZERO);
    }

    #[test]
    fn rfc3903_4_1_a_412_begins_afresh_and_other_refusals_are_not_about_it() {
        let (mut publisher, server) = publisher();
        let mut outcome = |code| publisher.outcome(&order(STATE), &server, TRIAL, &response(code));
        assert_eq!(outcome(412), Some(Outcome::Stale));
        for code in [401, 403, 404, 405, 407, 408, 489, 500, 503] {
            assert_eq!(outcome(code), None, "{code}");
        }
    }
}
