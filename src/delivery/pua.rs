//! What OpenSIPS's `pua_publish` and Kamailio's `pua.publish` have in common: a presence user agent
//! that sends the PUBLISH for mwid, and what mwid does when that has lost its memory.
//!
//! The user agent knows its publications by the entity-tags that it got, in its memory or in a
//! table. When it was restarted, or renewed one by itself, it refuses mwid's tag, while the presence
//! server may well know it still. Publishing anew would put a second document beside the first, so
//! the tag is then given to the presence server by hand, as a SIP-If-Match header (RFC 3903 §4.1)
//! of a publication that is new to the user agent only.

use std::time::Duration;

use mwid_core::mailbox::Account;
use mwid_core::publication::{ETag, Order, Outcome, Wish};
use mwid_core::summary::Summary;

use super::Published;

/// The event package (RFC 3842 §3.1).
pub(super) const EVENT: &str = "message-summary";

/// The type of its bodies (RFC 3842 §3.4).
pub(super) const CONTENT_TYPE: &str = "application/simple-message-summary";

/// Kamailio answers a little before it commits the new entity-tag to its tables, pua's and presence's.
const COMMIT: Duration = Duration::from_millis(200);

/// One call of the user agent.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) account: &'a Account,
    /// 0 removes.
    pub(super) expires: Duration,
    /// What the user agent knows the publication by.
    pub(super) etag: Option<&'a ETag>,
    /// What only the presence server knows it by.
    pub(super) if_match: Option<&'a ETag>,
    /// RFC 3842's. There when it is removed, too: both servers take it, and Kamailio's XML-RPC
    /// has a place for each parameter.
    pub(super) body: Vec<u8>,
}

impl Call<'_> {
    /// The extra headers of the PUBLISH: the operator's, and the entity-tag that is given by hand.
    pub(super) fn headers(&self, configured: &str) -> String {
        let by_hand = self.if_match.map(|etag| format!("SIP-If-Match: {etag}\r\n"));
        configured.to_owned() + &by_hand.unwrap_or_default()
    }
}

/// What it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The presence server took it. With 0 seconds it is gone.
    Done { etag: Option<ETag>, expires: Option<Duration>, answer: String },
    /// The entity-tag is unknown, to the user agent or to the presence server.
    Unknown(String),
    /// Something else, in words.
    Failed(String, Option<Duration>),
    /// The presence server wants to keep it for longer (423), and will be asked to.
    TooBrief(String),
    /// Nothing, and why.
    Silent(String),
}

/// A user agent that can be asked.
pub(super) trait UserAgent {
    /// Calls it once.
    async fn call(&self, call: &Call<'_>) -> Said;

    /// The seconds that it is to ask for.
    fn expires(&self, wish: Wish) -> Duration;

    /// The extension in `Message-Account`.
    fn voicemail(&self) -> Option<&str>;
}

/// Carries one order out.
pub(super) async fn publish(agent: &impl UserAgent, order: &Order) -> Published {
    let etag = order.etag.as_ref();
    if order.wish == Wish::Remove && etag.is_none() {
        // Asked to remove what it does not know, Kamailio never answers.
        return by_hand(agent, order, None).await;
    }
    let mut said = agent.call(&call(agent, order, etag, None)).await;
    if matches!(said, Said::Unknown(_)) && etag.is_some() {
        tokio::time::sleep(COMMIT).await;
        said = agent.call(&call(agent, order, etag, None)).await;
    }
    match said {
        Said::Unknown(refusal) if etag.is_some() => {
            let account = &order.account;
            tracing::debug!(%account, "{refusal}: the presence server is asked for its entity-tag");
            by_hand(agent, order, etag).await
        }
        said => published(order.wish, said),
    }
}

/// Makes the publication one of the user agent's own, by its name or by a SIP-If-Match of ours, and
/// removes it then if that is wished.
async fn by_hand(agent: &impl UserAgent, order: &Order, if_match: Option<&ETag>) -> Published {
    if order.wish != Wish::Remove {
        let said = agent.call(&call(agent, order, None, if_match)).await;
        return published(order.wish, said);
    }
    let kept = Order { wish: Wish::State(Summary::default()), ..order.clone() };
    match agent.call(&call(agent, &kept, None, if_match)).await {
        Said::Done { etag: Some(found), .. } => {
            // Refused now, the document would be left to its end: pua would forget it at once.
            tokio::time::sleep(COMMIT).await;
            let said = agent.call(&call(agent, order, Some(&found), None)).await;
            published(order.wish, said)
        }
        said => published(order.wish, said),
    }
}

fn call<'a>(
    agent: &impl UserAgent,
    order: &'a Order,
    etag: Option<&'a ETag>,
    if_match: Option<&'a ETag>,
) -> Call<'a> {
    let (summary, expires) = match order.wish {
        Wish::State(summary) | Wish::Refresh(summary) => (summary, agent.expires(order.wish)),
        Wish::Remove => (Summary::default(), Duration::ZERO),
    };
    let mut body = Vec::new();
    summary.write_body(&mut body, &order.account, agent.voicemail());
    Call { account: &order.account, expires, etag, if_match, body }
}

fn published(wish: Wish, said: Said) -> Published {
    let (outcome, answer) = match (wish, said) {
        (Wish::Remove, Said::Done { answer, .. }) => {
            (Outcome::Accepted { etag: None, expires: None }, answer)
        }
        (_, Said::Done { expires: Some(Duration::ZERO), answer, .. }) => {
            // It would be gone at once, and asked for again at once.
            (Outcome::Later(None), format!("{answer}, for 0 seconds"))
        }
        (_, Said::Done { etag, expires, answer }) => (Outcome::Accepted { etag, expires }, answer),
        (_, Said::Unknown(answer)) => (Outcome::Stale, answer),
        (_, Said::TooBrief(answer)) => (Outcome::Again, answer),
        (_, Said::Failed(answer, wait)) => (Outcome::Later(wait), answer),
        (_, Said::Silent(answer)) => return Published::silent(answer),
    };
    Published { outcome, answer, is_silent: false }
}
