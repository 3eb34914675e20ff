//! `presence.voicemail.in`, posted to `[webhook] url`. The answer is a `presence.voicemail.out`, or
//! nothing yet: then the application puts the counts over HTTP when it has them.

use std::time::Duration;

use mwid_core::mailbox::Account;
use mwid_core::pace::Backoff;

use super::Found;
use crate::config::Webhook as Settings;
use crate::http_client::{Answer, ClientError};
use crate::source::voicemail_out::{self, NotOut};
use crate::webhook::{Event, Fault, Poster};

/// What this source is called.
pub const WEBHOOK: &str = "webhook";

/// How often a question is posted, at most: its phone asks again.
const TRIES: u32 = 3;

const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(10) };

/// An application that can be asked.
#[derive(Clone, Debug)]
pub struct Application {
    poster: Poster,
    tries: u32,
}

impl Application {
    /// That of `[webhook]`, where there is one.
    ///
    /// # Errors
    /// [`ClientError`] when the address cannot be asked.
    pub fn new(settings: &Settings) -> Result<Option<Self>, ClientError> {
        let poster = Poster::new(settings)?;
        Ok(poster.map(|poster| Self { poster, tries: settings.tries.min(TRIES) }))
    }

    /// Asks for the state of one account. A 404, or a 2xx without a body, is no state.
    pub async fn ask(&self, account: &Account, expires: Option<u32>) -> Found {
        let body = Event::VoicemailIn { account, expires }.body();
        for failures in 1.. {
            let fault = match self.poster.post(body.clone()).await {
                Ok(answer) => return read(account, &answer),
                Err(Fault::Status { status: status @ (404 | 410), .. }) => {
                    return Found::Nothing(format!("HTTP {status}"));
                }
                Err(fault) => fault,
            };
            let pause = fault.pause(BACKOFF.pause(failures));
            match pause.filter(|pause| failures < self.tries && *pause <= BACKOFF.max) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Found::Failed(fault.to_string()),
            }
        }
        unreachable!("the tries are counted")
    }
}

fn read(account: &Account, answer: &Answer) -> Found {
    let status = answer.status;
    if answer.body.trim_ascii().is_empty() {
        return Found::Nothing(format!("HTTP {status} without a body"));
    }
    match voicemail_out::read(&answer.body) {
        Ok((Some(entity), _)) if entity.parse().as_ref() != Ok(account) => {
            let shown = entity.escape_debug();
            Found::Failed(format!("HTTP {status} with counts of another entity, {shown:.80}"))
        }
        Ok((_, summary)) => Found::Counts(summary),
        Err(NotOut::NoJson(words) | NotOut::NoCounts(words)) => {
            Found::Failed(format!("HTTP {status}: {words}"))
        }
    }
}
