//! The event `presence.voicemail.out` of babble-drachtio-presence: the counts of an account, as JSON.

use mwid_core::summary::Summary;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// The most messages of a kind; exact in a floating point number.
const MAX_COUNT: f64 = u32::MAX as f64;

/// The event: the names of its README and of its code.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VoicemailOut {
    #[serde(default, deserialize_with = "not_null")]
    entity: Option<String>,
    #[serde(alias = "new", deserialize_with = "count")]
    newcount: u32,
    #[serde(alias = "old", deserialize_with = "count")]
    oldcount: u32,
    #[serde(default, deserialize_with = "count")]
    newurgent: u32,
    #[serde(default, deserialize_with = "count")]
    oldurgent: u32,
    /// Both are the same here: the lamp is state.
    #[serde(default, rename = "reason", deserialize_with = "not_null")]
    _reason: Option<Reason>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reason {
    Init,
    Update,
}

/// JSON has one kind of numbers: `3.0` is the integer 3, as JSON Schema has it.
fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number = Number::deserialize(from)?;
    let whole = number.as_f64().filter(|it| it.fract() == 0.0 && (0.0..=MAX_COUNT).contains(it));
    let text = whole.map(|whole| format!("{whole:.0}")).unwrap_or_default();
    text.parse().map_err(|_| D::Error::custom(format!("{number} is no number of messages")))
}

fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Why a body is not this event, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotOut {
    /// It is no JSON object.
    NoJson(String),
    /// It is one of another shape, or its counts cannot be.
    NoCounts(String),
}

/// The `entity`, where it is named, and the counts.
///
/// # Errors
/// [`NotOut`]
pub(super) fn read(body: &[u8]) -> Result<(Option<String>, Summary), NotOut> {
    // serde would take an array of the values too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(NotOut::NoJson("the body is no JSON object".to_owned()));
    }
    let event: VoicemailOut = serde_json::from_slice(body).map_err(|error| {
        let words = format!("the body is no summary: {error}");
        if error.is_data() { NotOut::NoCounts(words) } else { NotOut::NoJson(words) }
    })?;
    let VoicemailOut { entity, newcount: new, oldcount: old, newurgent, oldurgent, .. } = event;
    if newurgent > new || oldurgent > old {
        return Err(NotOut::NoCounts(format!(
            "{newurgent} of {new} new and {oldurgent} of {old} old messages cannot be urgent; the urgent ones are a part of them (RFC 3842)"
        )));
    }
    Ok((entity, Summary { new, old, new_urgent: newurgent, old_urgent: oldurgent }))
}
