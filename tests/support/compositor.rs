//! A presence server that keeps what it is given by PUBLISH (RFC 3903 §6), behind a [`Peer`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::peer::{Heard, Peer};

/// One published state.
#[derive(Clone, Debug)]
pub struct Document {
    pub account: String,
    pub etag: String,
    pub counts: String,
    /// The seconds that it was asked to keep it.
    pub asked: u64,
    /// When it ends.
    pub ends: Instant,
}

#[derive(Default)]
struct Memory {
    documents: Vec<Document>,
    made: u32,
}

/// What it has, and how it names it.
#[derive(Clone, Default)]
pub struct Compositor(Arc<Mutex<Memory>>);

impl Compositor {
    /// Takes a PUBLISH and answers it. Copies of it must not come here.
    pub fn take(&self, heard: &Heard) -> Vec<u8> {
        let mut memory = self.0.lock().unwrap();
        memory.documents.retain(|it| it.ends > Instant::now());
        let mut counts = None;
        if let Some(etag) = heard.message.header("SIP-If-Match") {
            let Some(at) = memory.documents.iter().position(|it| it.etag == etag) else {
                return heard.answer(412, "");
            };
            counts = Some(memory.documents.remove(at).counts);
        }
        memory.made += 1;
        let (etag, asked) = (format!("e{}", memory.made), asked(heard));
        if !heard.message.body().is_empty() {
            counts = Some(heard.counts());
        }
        if asked > 0 {
            memory.documents.push(Document {
                account: heard.request_uri().to_owned(),
                etag: etag.clone(),
                counts: counts.expect("a first PUBLISH has a body"),
                asked,
                ends: Instant::now() + Duration::from_secs(asked),
            });
        }
        heard.answer(200, &format!("SIP-ETag: {etag}\r\nExpires: {asked}\r\n"))
    }

    /// What it has now, the newest last.
    pub fn documents(&self) -> Vec<Document> {
        let mut documents = self.0.lock().unwrap().documents.clone();
        documents.retain(|it| it.ends > Instant::now());
        documents
    }

    /// Who answers as it must.
    pub fn serve(&self) -> Peer {
        let this = self.clone();
        Peer::scripted(move |heard| vec![this.take(heard)])
    }
}

/// The seconds of Expires.
pub fn asked(heard: &Heard) -> u64 {
    heard.header("Expires").parse().unwrap()
}
