//! What is posted: the events of babble-drachtio-presence, and one of mwid's own.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use mwid_core::mailbox::Account;
use mwid_core::summary::Summary;
use serde_json::{Value, json};

use crate::clock::unix;
use crate::random;

/// `contenttype` of all of them: the type of message summaries (RFC 3842 §3.4).
pub const SUMMARY_TYPE: &str = "application/simple-message-summary";

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// `presence.subscribe.in`: a phone has a new subscription.
    SubscribeIn {
        /// What it watches.
        account: &'a Account,
        /// Call-ID.
        call_id: &'a str,
        /// Its seconds; 0 for a phone that only fetches the state.
        expires: u32,
    },
    /// `presence.voicemail.in`: what waits for an account that no source knows?
    VoicemailIn {
        /// The account.
        account: &'a Account,
        /// Seconds of the new subscription that made mwid ask, if it was one.
        expires: Option<u32>,
    },
    /// `mwid.state.sent`: a phone has acknowledged its NOTIFY.
    StateSent {
        /// Whose mailbox it watches.
        account: &'a Account,
        /// What it shows now.
        summary: Summary,
        /// Call-ID.
        call_id: &'a str,
        /// The phone.
        contact: &'a str,
        /// CSeq of the NOTIFY.
        cseq: u32,
        /// Whether it was the last one of its subscription.
        is_last: bool,
    },
}

impl Event<'_> {
    /// The body of its POST. Each has an `id`, which is the same whenever it is posted again.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut all = match *self {
            Self::SubscribeIn { account, call_id, expires } => json!({
                "event": "presence.subscribe.in", "entity": entity(account),
                "expires": expires, "callid": call_id,
            }),
            Self::VoicemailIn { account, expires } => {
                let mut all =
                    json!({ "event": "presence.voicemail.in", "entity": entity(account) });
                if let Some(expires) = expires {
                    all["expires"] = expires.into();
                }
                all
            }
            Self::StateSent { account, summary, call_id, contact, cseq, is_last } => json!({
                "event": "mwid.state.sent", "entity": entity(account),
                "newcount": summary.new, "oldcount": summary.old,
                "newurgent": summary.new_urgent, "oldurgent": summary.old_urgent,
                "callid": call_id, "contact": contact, "cseq": cseq, "terminated": is_last,
            }),
        };
        all["contenttype"] = SUMMARY_TYPE.into();
        all["id"] = Value::from(next_id());
        all["time"] = unix().into();
        all.to_string().into_bytes()
    }
}

/// `202@example.com`, as babble-drachtio-presence has it.
fn entity(account: &Account) -> &str {
    account.as_str().trim_start_matches("sip:")
}

/// Another one each time, also after a restart.
fn next_id() -> String {
    static RUN: LazyLock<u64> = LazyLock::new(random::number);
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{:016x}-{}", *RUN, COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(event: &Event<'_>) -> Value {
        let mut all: Value = serde_json::from_slice(&event.body()).unwrap();
        assert!(all["id"].is_string() && all["time"].is_u64(), "{all}");
        let object = all.as_object_mut().unwrap();
        object.retain(|name, _| !["id", "time"].contains(&name.as_str()));
        all
    }

    #[test]
    fn events_have_the_fields_of_babble_drachtio_presence() {
        let account: Account = "sip:202@example.com".parse().unwrap();
        let subscribe = Event::SubscribeIn { account: &account, call_id: "a\"b", expires: 60 };
        assert_eq!(
            body(&subscribe),
            json!({
                "event": "presence.subscribe.in", "contenttype": SUMMARY_TYPE,
                "entity": "202@example.com", "expires": 60, "callid": "a\"b",
            })
        );
        let voicemail = |expires| body(&Event::VoicemailIn { account: &account, expires });
        assert_eq!(
            voicemail(Some(30)),
            json!({
                "event": "presence.voicemail.in", "contenttype": SUMMARY_TYPE,
                "entity": "202@example.com", "expires": 30,
            })
        );
        assert_eq!(voicemail(None).get("expires"), None);
        let (first, second) = (subscribe.body(), subscribe.body());
        assert_ne!(first, second, "each has an id of its own");
    }
}
