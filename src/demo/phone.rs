//! A strict little phone: it believes a NOTIFY only when every rule holds, and says which did not.

use std::collections::HashMap;

use mwid_core::dialog::Row;
use mwid_core::message::{Message, StartLine};
use mwid_core::summary::Summary;
use rusqlite::{Connection, params};

/// One subscription, as the phone remembers it and as the presence server wrote it down.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// User part of the account.
    pub user: String,
    /// Domain part of the account.
    pub domain: String,
    /// Call-ID of the SUBSCRIBE.
    pub call_id: String,
    /// The phone's own tag: From of the SUBSCRIBE, To of a NOTIFY.
    pub phone_tag: String,
    /// The presence server's tag: To of the SUBSCRIBE, From of a NOTIFY.
    pub server_tag: String,
    /// The phone's Contact.
    pub contact: String,
    /// When the subscription ends, in Unix seconds.
    pub expires: u64,
    /// CSeq of the server's last own NOTIFY.
    pub cseq: u32,
}

impl Subscription {
    /// The row that an OpenSIPS presence server keeps of it.
    #[must_use]
    pub fn row(&self, id: i64, server: &str) -> Row {
        let text = |value: &str| Some(value.to_owned());
        Row {
            id,
            presentity_uri: Some(format!("sip:{}@{}", self.user, self.domain)),
            from_user: text(&self.user),
            from_domain: text(&self.domain),
            to_user: text(&self.user),
            to_domain: text(&self.domain),
            to_tag: text(&self.server_tag),
            from_tag: text(&self.phone_tag),
            callid: text(&self.call_id),
            local_cseq: Some(i64::from(self.cseq)),
            remote_cseq: Some(1),
            contact: text(&self.contact),
            record_route: None,
            expires: i64::try_from(self.expires).ok(),
            event_id: None,
            local_contact: Some(format!("sip:{server}")),
            socket_info: Some(format!("udp:{server}")),
            ..Row::default()
        }
    }

    /// Writes its row as an OpenSIPS presence server at `server` does, and gives the row's id.
    ///
    /// # Errors
    /// What the database says.
    pub fn insert(&self, table: &Connection, server: &str) -> rusqlite::Result<i64> {
        let row = self.row(0, server);
        let sql = "INSERT INTO active_watchers (presentity_uri, watcher_username, watcher_domain,
             to_user, to_domain, event, to_tag, from_tag, callid, local_cseq, remote_cseq, contact,
             expires, status, socket_info, local_contact)
             VALUES (?1, ?2, ?3, ?4, ?5, 'message-summary', ?6, ?7, ?8, ?9, ?10, ?11, ?12, 1, ?13, ?14)";
        let values = params![
            row.presentity_uri,
            row.from_user,
            row.from_domain,
            row.to_user,
            row.to_domain,
            row.to_tag,
            row.from_tag,
            row.callid,
            row.local_cseq,
            row.remote_cseq,
            row.contact,
            row.expires,
            row.socket_info,
            row.local_contact
        ];
        table.execute(sql, values)?;
        Ok(table.last_insert_rowid())
    }
}

/// What the phone does with a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// A NOTIFY that it believes: the lamp changes.
    Believed(Notified),
    /// The same NOTIFY once more: the same answer once more.
    Repeated(Vec<u8>),
    /// A NOTIFY that it refuses.
    Refused {
        /// The status code.
        code: u16,
        /// Which rule did not hold.
        why: String,
        /// The answer.
        answer: Vec<u8>,
    },
    /// No NOTIFY at all: nothing is answered.
    Ignored(String),
}

/// A NOTIFY that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notified {
    /// Its CSeq.
    pub cseq: u32,
    /// `Messages-Waiting`.
    pub lamp: bool,
    /// `Voice-Message`.
    pub summary: Summary,
    /// The answer.
    pub answer: Vec<u8>,
}

/// The phone: one subscription, its highest CSeq and its lamp.
#[derive(Debug)]
pub struct Phone {
    subscription: Subscription,
    highest: u32,
    answers: HashMap<String, Vec<u8>>,
    /// Whether the lamp is on, and what the display says.
    pub shows: Option<(bool, Summary)>,
}

impl Phone {
    /// A phone whose SUBSCRIBE was answered and whose first, empty NOTIFY has come.
    #[must_use]
    pub fn new(subscription: Subscription) -> Self {
        let highest = subscription.cseq;
        Self { subscription, highest, answers: HashMap::new(), shows: None }
    }

    /// Takes a datagram, `unix` Unix seconds being now.
    pub fn handle(&mut self, datagram: &[u8], unix: u64) -> Reaction {
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(error) => return Reaction::Ignored(error.to_string()),
        };
        let StartLine::Request { method: "NOTIFY", uri } = message.start() else {
            return Reaction::Ignored("no NOTIFY".to_owned());
        };
        let Some(branch) = message.via().ok().and_then(|via| via.branch().map(str::to_owned))
        else {
            return Reaction::Ignored("no branch in Via".to_owned());
        };
        if let Some(answer) = self.answers.get(&branch) {
            return Reaction::Repeated(answer.clone());
        }
        let reaction = match self.believe(&message, uri, datagram, unix) {
            Ok((cseq, lamp, summary)) => {
                self.highest = cseq;
                self.shows = Some((lamp, summary));
                Reaction::Believed(Notified { cseq, lamp, summary, answer: answer(&message, 200) })
            }
            Err((code, why)) => Reaction::Refused { code, why, answer: answer(&message, code) },
        };
        if let Reaction::Believed(Notified { answer, .. }) | Reaction::Refused { answer, .. } =
            &reaction
        {
            self.answers.insert(branch, answer.clone());
        }
        reaction
    }

    fn believe(
        &self,
        message: &Message,
        uri: &str,
        datagram: &[u8],
        unix: u64,
    ) -> Result<(u32, bool, Summary), (u16, String)> {
        let mine = &self.subscription;
        let must = |code: u16, holds: bool, why: &str| {
            if holds { Ok(()) } else { Err((code, why.to_owned())) }
        };
        must(
            481,
            message.call_id().ok() == Some(mine.call_id.as_str()),
            "Call-ID is another dialog's",
        )?;
        let to = message.to_tag().ok().flatten();
        must(481, to == Some(mine.phone_tag.as_str()), "the tag in To is not mine")?;
        let from = message.from_tag().ok().flatten();
        must(481, from == Some(mine.server_tag.as_str()), "the tag in From is not the server's")?;
        must(404, uri == mine.contact, "the Request-URI is not my Contact")?;
        let cseq = message.cseq().map_err(|error| (400, error.to_string()))?;
        must(400, cseq.method == "NOTIFY", "CSeq names another method")?;
        must(500, cseq.number > self.highest, "CSeq is not above the highest that I saw")?;
        let event = message.header("Event").unwrap_or_default();
        must(489, event == "message-summary", "Event is not message-summary")?;
        let state = message.header("Subscription-State").unwrap_or_default();
        let left = state.strip_prefix("active;expires=").and_then(|left| left.parse::<u64>().ok());
        let remaining = mine.expires.saturating_sub(unix);
        must(
            400,
            left.is_some_and(|left| left <= remaining + 1),
            "Subscription-State promises more than is left",
        )?;
        must(400, message.header("Max-Forwards") == Some("70"), "Max-Forwards is not 70")?;
        must(400, message.header("Contact").is_some(), "there is no Contact")?;
        let kind = message.header("Content-Type");
        must(415, kind == Some("application/simple-message-summary"), "Content-Type is another")?;
        let length = message.header("Content-Length").and_then(|length| length.parse().ok());
        let body = datagram
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .map(|at| datagram.len() - at - 4);
        must(400, length.is_some() && length == body, "Content-Length is not the body's length")?;
        let (lamp, summary) = read_body(message.body()).map_err(|why| (400, why.to_owned()))?;
        Ok((cseq.number, lamp, summary))
    }
}

/// The strict form of RFC 3842 §5.2: the three lines, in order, nothing else.
fn read_body(body: &[u8]) -> Result<(bool, Summary), &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
    let mut lines = text.split("\r\n");
    let lamp = match lines.next() {
        Some("Messages-Waiting: yes") => true,
        Some("Messages-Waiting: no") => false,
        _ => return Err("the body does not begin with Messages-Waiting"),
    };
    let account = lines.next().unwrap_or_default();
    if !account.starts_with("Message-Account: sip:") {
        return Err("Message-Account is not second");
    }
    let counts = lines.next().and_then(|line| line.strip_prefix("Voice-Message: "));
    let summary = counts.and_then(read_counts).ok_or("Voice-Message is not third")?;
    match (lines.next(), lines.next()) {
        (Some(""), None) if lamp == summary.waiting() => Ok((lamp, summary)),
        (Some(""), None) => Err("Messages-Waiting and Voice-Message differ"),
        _ => Err("the body does not end after Voice-Message"),
    }
}

fn read_counts(text: &str) -> Option<Summary> {
    let (totals, urgent) = text.strip_suffix(')')?.split_once(" (")?;
    let pair = |text: &str| {
        let (new, old) = text.split_once('/')?;
        Some((new.parse().ok()?, old.parse().ok()?))
    };
    let ((new, old), (new_urgent, old_urgent)) = (pair(totals)?, pair(urgent)?);
    Some(Summary { new, old, new_urgent, old_urgent })
}

/// An answer with the headers that RFC 3261 §8.2.6.2 wants back.
#[must_use]
pub fn answer(message: &Message, code: u16) -> Vec<u8> {
    let reason = match code {
        200 => "OK",
        404 => "Not Found",
        415 => "Unsupported Media Type",
        481 => "Subscription Does Not Exist",
        489 => "Bad Event",
        500 => "Server Internal Error",
        503 => "Service Unavailable",
        _ => "Bad Request",
    };
    let mut text = format!("SIP/2.0 {code} {reason}\r\n");
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        for value in message.headers(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mwid_core::dialog::Dialog;
    use mwid_core::notify::{Hop, Notifier, Notify, RequestUri, Route};

    const NOW: u64 = 1_795_000_000;

    fn subscription() -> Subscription {
        Subscription {
            user: "202".into(),
            domain: "example.com".into(),
            call_id: "3c26700857a6-xyz@192.0.2.7".into(),
            phone_tag: "B22C69FD-D3E2550A".into(),
            server_tag: "944cfec2ae51664c1f4ff1ec5d501247-9753".into(),
            contact: "sip:202@192.0.2.7:5062".into(),
            expires: NOW + 600,
            cseq: 1,
        }
    }

    /// What mwid sends from the row that the server keeps.
    fn notify(cseq: u32) -> String {
        let dialog = Dialog::from_row(&subscription().row(1, "192.0.2.1:5060")).unwrap();
        let hop = Hop {
            authority: "192.0.2.1:5060".into(),
            resolved: "192.0.2.1:5060".into(),
            host: "192.0.2.9".into(),
            port: 40_000,
        };
        let notify = Notify {
            dialog: &dialog,
            account: &dialog.account,
            summary: Some(Summary { new: 3, old: 5, new_urgent: 1, old_urgent: 0 }),
            cseq,
            branch: &format!("z9hG4bK{cseq}"),
            hop: &hop,
            unix: NOW,
            authorization: &[],
        };
        let notifier = Notifier {
            user_agent: "mwid".into(),
            contact_user: None,
            voicemail: None,
            request_uri: RequestUri::Contact,
            route: Route::Auto,
        };
        let mut bytes = Vec::new();
        notify.write(&notifier, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    /// The code that a fresh phone answers with, and why it refused.
    fn answer_to(notify: &str) -> (u16, String) {
        match Phone::new(subscription()).handle(notify.as_bytes(), NOW) {
            Reaction::Believed(_) => (200, String::new()),
            Reaction::Refused { code, why, .. } => (code, why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_mwid_sends_is_believed() {
        let mut phone = Phone::new(subscription());
        let Reaction::Believed(notified) = phone.handle(notify(2).as_bytes(), NOW) else {
            panic!("{}", notify(2));
        };
        assert_eq!((notified.cseq, notified.lamp), (2, true));
        assert_eq!(notified.summary.to_string(), "3/5 (1/0)");
        assert!(notified.answer.starts_with(b"SIP/2.0 200 OK\r\n"));
        assert_eq!(phone.shows, Some((true, notified.summary)));
        let again = phone.handle(notify(2).as_bytes(), NOW);
        assert_eq!(again, Reaction::Repeated(notified.answer), "a copy has the same answer");
    }

    #[test]
    fn the_swapped_tags_of_res_zonkey_mwi_are_answered_481() {
        let Subscription { phone_tag, server_tag, .. } = subscription();
        let right = notify(2);
        let swapped = right.replace(&phone_tag, "PHONE").replace(&server_tag, &phone_tag);
        let swapped = swapped.replace("PHONE", &server_tag);
        assert_ne!(swapped, right);
        assert_eq!(answer_to(&swapped), (481, "the tag in To is not mine".to_owned()));
        assert_eq!(answer_to(&right).0, 200);
    }

    #[test]
    fn every_rule_has_its_refusal() {
        for (from, to, code) in [
            ("Call-ID: 3c", "Call-ID: 4c", 481),
            (";tag=944c", ";tag=0000", 481),
            ("To: <sip:202@example.com>;tag=B22C69FD-D3E2550A", "To: <sip:202@example.com>", 481),
            ("NOTIFY sip:202@192.0.2.7:5062 ", "NOTIFY sip:202@example.com ", 404),
            ("CSeq: 2 NOTIFY", "CSeq: 1 NOTIFY", 500),
            ("Event: message-summary", "Event: presence", 489),
            ("active;expires=600", "active;expires=700", 400),
            ("active;expires=600", "active", 400),
            ("Max-Forwards: 70\r\n", "", 400),
            ("Contact: <sip:192.0.2.1:5060>\r\n", "", 400),
            ("application/simple-message-summary", "text/plain", 415),
            ("Voice-Message: 3/5", "Voice-Message: 3/15", 400),
            ("Messages-Waiting: yes", "Messages-Waiting: no ", 400),
            ("Messages-Waiting: yes", "messages-waiting: yes", 400),
            ("Message-Account: sip:", "Message-Account: tel:", 400),
        ] {
            let right = notify(2);
            let wrong = right.replace(from, to);
            assert_ne!(wrong, right, "{from} is in the message");
            assert_eq!(answer_to(&wrong).0, code, "{to:?} instead of {from:?}");
        }
    }

    #[test]
    fn a_refused_notify_changes_nothing() {
        let mut phone = Phone::new(subscription());
        let stale = notify(1);
        assert!(matches!(phone.handle(stale.as_bytes(), NOW), Reaction::Refused { code: 500, .. }));
        assert_eq!(phone.shows, None);
        assert!(matches!(phone.handle(notify(2).as_bytes(), NOW), Reaction::Believed(_)));
    }
}
