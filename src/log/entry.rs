//! An event as an entry of the journal: systemd.io/JOURNAL_NATIVE_PROTOCOL.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// What the line of an entry may have at most, in bytes. A datagram must hold it twice, once in its
/// fields, and the kernel's have room for 208 KiB.
const ROOM: usize = 64 * 1024;

/// Begins the names of mwid's fields, so that none is another's.
const PREFIX: &str = "MWID_";

/// The bytes of an entry. The line has all fields too, as on a terminal.
pub(super) fn entry(event: &Event<'_>) -> Vec<u8> {
    let mut parts = Parts::default();
    event.record(&mut parts);
    let mut bytes = Vec::with_capacity(512);
    field(&mut bytes, "PRIORITY", priority(*event.metadata().level()));
    field(&mut bytes, "SYSLOG_IDENTIFIER", "mwid");
    parts.message.push_str(&parts.rest);
    field(&mut bytes, "MESSAGE", &parts.message);
    bytes.extend_from_slice(&parts.fields);
    bytes
}

/// syslog(3)
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

fn field(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

/// What an event has, in the order of its line.
#[derive(Default)]
struct Parts {
    message: String,
    /// ` name=value` of the other fields.
    rest: String,
    fields: Vec<u8>,
}

impl Parts {
    fn add(&mut self, name: &Field, mut text: String) {
        // ` name=` is in the line too.
        let taken = self.message.len() + self.rest.len() + name.name().len() + 2;
        let room = ROOM.saturating_sub(taken).min(text.len());
        let end = (0..=room).rev().find(|at| text.is_char_boundary(*at));
        let is_cut_away = room == 0 && !text.is_empty();
        text.truncate(end.unwrap_or_default());
        if name.name() == "message" {
            self.message = text;
        } else if !is_cut_away {
            // Writing to a String cannot fail.
            let _ = write!(self.rest, " {}={text}", name.name());
            let name = format!("{PREFIX}{}", name.name().to_ascii_uppercase().replace('.', "_"));
            field(&mut self.fields, &name, &text);
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}
